/* The same header under the older place. */
#ifndef ACLNNOP_LEVEL2_ACLNN_NSA_SELECTED_ATTENTION_INFER_H_
#define ACLNNOP_LEVEL2_ACLNN_NSA_SELECTED_ATTENTION_INFER_H_
#include "aclnnop/aclnn_nsa_selected_attention_infer.h"
#endif
