/* ge_error_codes.h: codes of the graph engine. fusedattn returns none of them; the header exists because programs include it. */
#ifndef ACL_ERROR_CODES_GE_ERROR_CODES_H_
#define ACL_ERROR_CODES_GE_ERROR_CODES_H_

#include <stddef.h>

#endif
