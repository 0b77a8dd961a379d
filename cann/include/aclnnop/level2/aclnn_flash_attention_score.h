/* The same header under the older place. */
#ifndef ACLNNOP_LEVEL2_ACLNN_FLASH_ATTENTION_SCORE_H_
#define ACLNNOP_LEVEL2_ACLNN_FLASH_ATTENTION_SCORE_H_
#include "aclnnop/aclnn_flash_attention_score.h"
#endif
