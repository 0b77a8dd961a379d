/* aclnn_ops_transformer.h: every operator of this library. */
#ifndef ACLNNOP_ACLNN_OPS_TRANSFORMER_H_
#define ACLNNOP_ACLNN_OPS_TRANSFORMER_H_

#include "aclnnop/aclnn_attention_update.h"
#include "aclnnop/aclnn_flash_attention_score.h"
#include "aclnnop/aclnn_flash_attention_score_grad.h"
#include "aclnnop/aclnn_nsa_compress.h"
#include "aclnnop/aclnn_nsa_compress_attention.h"
#include "aclnnop/aclnn_nsa_compress_attention_infer.h"
#include "aclnnop/aclnn_nsa_compress_grad.h"
#include "aclnnop/aclnn_nsa_compress_with_cache.h"
#include "aclnnop/aclnn_nsa_selected_attention.h"
#include "aclnnop/aclnn_nsa_selected_attention_grad.h"
#include "aclnnop/aclnn_nsa_selected_attention_infer.h"
#include "aclnnop/aclnn_ring_attention_update.h"

#endif
