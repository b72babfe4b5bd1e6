/* Floating point as a program sees it: formatting, special values, rounding modes, conversions. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t bits(double d) { uint64_t u; memcpy(&u, &d, 8); return u; }

/* Chains of operations, often enough for every tier: a NaN that goes in or comes up inside keeps its sign and payload. */
enum { VALUES = 12 };

__attribute__((noinline)) static double chain(const double *a, const double *b, const double *c, double *middle) {
    double t = *a * *b + *c;
    *middle = t - *b;
    t = (t + *a) / (*b - 1.5);
    return (t * t - *c) * 0.25 + sqrt(t + *a * 3);
}

__attribute__((noinline)) static float short_chain(const float *a, const float *b, const float *c) {
    float t = (*a + *b) * *c - *a / *b;
    return t > *c ? t * t + *b : (t - *c) * sqrtf(*b - t);
}

__attribute__((noinline)) static void lanes(double *to, const double *a, const double *b) {
    for (int i = 0; i < VALUES; i++) to[i] = (a[i] * b[i] + 2) / (a[i] - b[i]);
}

static void chains(void) {
    static const uint64_t patterns[VALUES] = {
        0, 1ull << 63, 0x3ff0000000000000, 0xc004000000000000, 0x7ff0000000000000, 0xfff0000000000000,
        0x7ff8000000001234, 0xfff8000000000077, 0x7ff4000000000055, 0x0010000000000000, 0x7e37e43c8800759c, 0x8000000000000300};
    double v[VALUES], other[VALUES], to[VALUES], middle;
    float f[VALUES];
    memcpy(v, patterns, sizeof v);
    for (int i = 0; i < VALUES; i++) {
        uint32_t single = (uint32_t)(patterns[i] >> 32 & 0xc0000000) | (uint32_t)(patterns[i] >> 29 & 0x3fffffff) | (patterns[i] & 0xff);
        memcpy(&f[i], &single, 4);
    }
    uint64_t hash = 0, floats = 0, vectors = 0, again = 0;
    feclearexcept(FE_ALL_EXCEPT);
    for (int round = 0; round < 40; round++)
        for (int i = 0; i < VALUES; i++)
            for (int j = 0; j < VALUES; j++) {
                for (int k = 0; k < VALUES; k++) {
                    hash = hash * 31 + bits(chain(&v[i], &v[j], &v[k], &middle));
                    again = again * 31 + bits(middle);
                    float r = short_chain(&f[i], &f[j], &f[k]);
                    uint32_t u;
                    memcpy(&u, &r, 4);
                    floats = floats * 31 + u;
                    other[k] = v[(k + i + round) % VALUES];
                }
                lanes(to, v, other);
                for (int k = 0; k < VALUES; k++) vectors = vectors * 31 + bits(to[k]);
            }
    printf("chains %016llx %016llx %016llx %016llx, flags %#x\n", (unsigned long long)hash, (unsigned long long)again,
           (unsigned long long)floats, (unsigned long long)vectors, fetestexcept(FE_ALL_EXCEPT));
}

int main(void) {
    chains();
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
