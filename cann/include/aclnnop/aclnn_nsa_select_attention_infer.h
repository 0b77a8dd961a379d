/* The other spelling of aclnn_nsa_selected_attention_infer.h. */
#ifndef ACLNNOP_ACLNN_NSA_SELECT_ATTENTION_INFER_H_
#define ACLNNOP_ACLNN_NSA_SELECT_ATTENTION_INFER_H_
#include "aclnnop/aclnn_nsa_selected_attention_infer.h"
#endif
