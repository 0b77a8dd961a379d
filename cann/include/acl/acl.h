/* acl.h: the whole runtime interface. */
#ifndef ACL_ACL_H_
#define ACL_ACL_H_

#include "acl_rt.h"
#include "acl_op.h"
#include "acl_mdl.h"

#endif
