/* digits.h - examples/digits.h5 as bytes of the program; the build makes digits.c of it. */
#ifndef PR_DATA_DIGITS_H
#define PR_DATA_DIGITS_H

#include <stddef.h>

extern const unsigned char prL_digits[];
extern const size_t prL_digits_size;

#endif
