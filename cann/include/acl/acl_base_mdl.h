/* acl_base_mdl.h: tensor descriptors of graphs and models. fusedattn has none of it; the header exists because programs include it. */
#ifndef ACL_ACL_BASE_MDL_H_
#define ACL_ACL_BASE_MDL_H_

#include "acl_base_rt.h"

#endif
