/* The same header under the older place. */
#ifndef ACLNNOP_LEVEL2_ACLNN_ATTENTION_UPDATE_H_
#define ACLNNOP_LEVEL2_ACLNN_ATTENTION_UPDATE_H_
#include "aclnnop/aclnn_attention_update.h"
#endif
