/* Results in a form that is the same on every run: small values as they are, errors by number. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Set while the AArch64 runtime is run under user-mode emulation, for what that does wrong itself. */
#define EMULATED (getenv("EMULATED") != 0)

#define SHOW(expression)                                             \
    do {                                                             \
        errno = 0;                                                   \
        long result_ = (long)(expression);                           \
        int error_ = result_ == -1 ? errno : 0;                      \
        printf(#expression " = %ld errno %d\n", result_, error_);    \
    } while (0)
