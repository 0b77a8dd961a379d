/* securec.h: string functions that know the size of their destination. C99.
 *
 * Memory and copies of strings: 0; EINVAL for null pointers, a size of 0, and one beyond the limits of securectype.h; ERANGE with the
 * destination cleared when it is too small. Printing: the characters written, or -1 with an empty text when it does not fit; a size of 0,
 * a count that is no less than the size, and null pointers give -1. Scanning: what sscanf returns; %s, %c and %[ take the size of
 * their destination as one more argument, and what does not fit ends the scan.
 */
#ifndef ACL_SECUREC_H_
#define ACL_SECUREC_H_

#include "securectype.h"

#if defined(__GNUC__)
#define ACL_SECUREC_API __attribute__((visibility("default")))
#define ACL_SECUREC_PRINTS(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define ACL_SECUREC_API
#define ACL_SECUREC_PRINTS(text, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

ACL_SECUREC_API errno_t memcpy_s(void* dest, size_t destMax, const void* src, size_t count);
ACL_SECUREC_API errno_t memmove_s(void* dest, size_t destMax, const void* src, size_t count);
ACL_SECUREC_API errno_t memset_s(void* dest, size_t destMax, int c, size_t count);
ACL_SECUREC_API errno_t strcpy_s(char* strDest, size_t destMax, const char* strSrc);
ACL_SECUREC_API errno_t strncpy_s(char* strDest, size_t destMax, const char* strSrc, size_t count);
ACL_SECUREC_API errno_t strcat_s(char* strDest, size_t destMax, const char* strSrc);
ACL_SECUREC_API errno_t strncat_s(char* strDest, size_t destMax, const char* strSrc, size_t count);
ACL_SECUREC_API char* strtok_s(char* strToken, const char* strDelimit, char** context);
ACL_SECUREC_API int sprintf_s(char* strDest, size_t destMax, const char* format, ...) ACL_SECUREC_PRINTS(3, 4);
ACL_SECUREC_API int snprintf_s(char* strDest, size_t destMax, size_t count, const char* format, ...) ACL_SECUREC_PRINTS(4, 5);
ACL_SECUREC_API int vsprintf_s(char* strDest, size_t destMax, const char* format, va_list argList) ACL_SECUREC_PRINTS(3, 0);
ACL_SECUREC_API int vsnprintf_s(char* strDest, size_t destMax, size_t count, const char* format, va_list argList)
    ACL_SECUREC_PRINTS(4, 0);
ACL_SECUREC_API int sscanf_s(const char* buffer, const char* format, ...);

#ifdef __cplusplus
}
#endif

#endif
