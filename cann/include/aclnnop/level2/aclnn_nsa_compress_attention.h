/* The same header under the older place. */
#ifndef ACLNNOP_LEVEL2_ACLNN_NSA_COMPRESS_ATTENTION_H_
#define ACLNNOP_LEVEL2_ACLNN_NSA_COMPRESS_ATTENTION_H_
#include "aclnnop/aclnn_nsa_compress_attention.h"
#endif
