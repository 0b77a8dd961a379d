/* acl_mdl.h: offline models. fusedattn has none of it; the header exists because programs include it. */
#ifndef ACL_ACL_MDL_H_
#define ACL_ACL_MDL_H_

#include "acl_base.h"

#endif
