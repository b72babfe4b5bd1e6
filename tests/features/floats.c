/* Floating point as a program sees it: formatting, special values, rounding modes, conversions. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t bits(double d) { uint64_t u; memcpy(&u, &d, 8); return u; }

int main(void) {
    volatile double zero = 0, one = 1, three = 3, big = 1e300, tiny = DBL_MIN, neg = -2.5;
    printf("%.17g %a %e\n", one / three, one / three, big * 10);
    printf("0/0 %016llx inf-inf %016llx\n", (unsigned long long)bits(zero / zero), (unsigned long long)bits(one / zero - one / zero));
    printf("sqrt(-1) %016llx\n", (unsigned long long)bits(sqrt(-one)));
    printf("%f %f %f\n", zero / zero, -one / zero, -(zero / zero));
    printf("%g %g %g\n", big * big, tiny / 4, -zero);
    volatile double nan_with_payload = nan("0x1234");
    printf("nan payload %016llx\n", (unsigned long long)bits(nan_with_payload + one));
    printf("%d %d %d\n", (int)neg, (int)big, (int)nan_with_payload);
    printf("%lld %lld\n", (long long)big, (long long)-1.5);
    printf("%u %llu\n", (unsigned)4e9, (unsigned long long)1.8e19);
    printf("%.9g\n", (double)(float)(one / three));
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    for (int i = 0; i < 4; i++) {
        fesetround(modes[i]);
        printf("mode %d: %ld %ld %.17g %.17g\n", i, lrint(neg), lrint(-neg), one / three, -one / three);
    }
    fesetround(FE_TONEAREST);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double r = one / three;
    printf("inexact %d", fetestexcept(FE_INEXACT) != 0);
    r = one / zero;
    printf(" division by zero %d", fetestexcept(FE_DIVBYZERO) != 0);
    r = sqrt(-one);
    printf(" invalid %d\n", fetestexcept(FE_INVALID) != 0);
    printf("%d %d %d %d\n", zero < r, zero > r, r == r, isunordered(r, zero));
    printf("%.15g %.15g %.15g %.15g\n", sin(1.0), exp(1.5), pow(2.5, 3.5), atan2(1, -2));
    printf("strtod %.17g %.17g\n", strtod("0.1", 0), strtod("1e-320", 0));
    volatile float f = 16777217.0f, g = 3.14159f;
    printf("%.9g %.9g %d\n", f, f * g, (int)(g * 1e6f));
}
