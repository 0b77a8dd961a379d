/* aclnn_base.h: start and end of the operator library. Both are optional. */
#ifndef ACLNN_ACLNN_BASE_H_
#define ACLNN_ACLNN_BASE_H_

#include "aclnn/acl_meta.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As aclInit, but any number of times, before or after it; null is accepted. aclnnFinalize always returns 0. */
ACLNN_META aclnnStatus aclnnInit(const char* configPath);
ACLNN_META aclnnStatus aclnnFinalize(void);

#ifdef __cplusplus
}
#endif

#endif
