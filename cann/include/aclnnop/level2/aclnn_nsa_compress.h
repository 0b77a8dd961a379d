/* The same header under the older place. */
#ifndef ACLNNOP_LEVEL2_ACLNN_NSA_COMPRESS_H_
#define ACLNNOP_LEVEL2_ACLNN_NSA_COMPRESS_H_
#include "aclnnop/aclnn_nsa_compress.h"
#endif
