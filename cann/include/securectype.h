/* securectype.h: types and limits of securec.h. */
#ifndef ACL_SECURECTYPE_H_
#define ACL_SECURECTYPE_H_

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef int errno_t;

#ifndef EOK
#define EOK 0
#endif
#ifndef SECUREC_MEM_MAX_LEN
#define SECUREC_MEM_MAX_LEN (0x7fffffffUL)
#endif
#ifndef SECUREC_STRING_MAX_LEN
#define SECUREC_STRING_MAX_LEN (0x7fffffffUL)
#endif

#endif
