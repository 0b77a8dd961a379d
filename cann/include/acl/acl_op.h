/* acl_op.h: single operators by name. fusedattn has none of it; the header exists because programs include it. */
#ifndef ACL_ACL_OP_H_
#define ACL_ACL_OP_H_

#include "acl_base.h"

#endif
