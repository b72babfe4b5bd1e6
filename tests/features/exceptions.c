/* SSE's exception flags and exceptions: what each operation raises, in every mode of MXCSR, whether its result is used or
   not; and SIGFPE for what isn't masked. With an argument, the flag for denormal operands isn't shown. */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

typedef uint32_t v4 __attribute__((vector_size(16)));
typedef uint64_t v2 __attribute__((vector_size(16)));

static unsigned shown = 0x3f;
static unsigned mode;

static void set(unsigned v) { __asm__ volatile("ldmxcsr %0" ::"m"(v)); }

static unsigned get(void) {
    unsigned v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}

/* NaNs, infinities, zeros, denormal numbers, limits of integers, and what is inexact. */
static const v4 singles[] = {
    {0x7fc00001, 0xffc00002, 0x7f800003, 0xff800004}, {0x7fffffff, 0x3f800000, 0, 0x7f800000},
    {0xbf800000, 0xffffffff, 0x80000000, 0xff800000}, {0x00000001, 0x007fffff, 0x7f7fffff, 0x4f000000},
    {0xcf000000, 0x4effffff, 0x5f000000, 0x3effffff}, {0x40200000, 0xc0200000, 0x3f000000, 0xcb000001},
    {0x00800001, 0x3f7fffff, 0x1f800000, 0x20000000}};
static const v2 doubles[] = {
    {0x7ff8000000000001, 0xfff8000000000002}, {0x7ff0000000000003, 0x3ff0000000000000},
    {0, 0x8000000000000000}, {0x7ff0000000000000, 0xfff0000000000000},
    {1, 0x000fffffffffffff}, {0x41dfffffffc00000, 0xc1e0000000200000},
    {0x43e0000000000000, 0xc3e0000000000000}, {0x4004000000000000, 0xc00c000000000000},
    {0x47f0000000000001, 0x3690000000000000}, {0x3ff5555555555555, 0x1ff0000000000001}};

static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9e3779b97f4a7c15 ^ h >> 29; }

#define COUNT(array) (sizeof array / sizeof *array)

/* An instruction on all pairs of operands: a function of its own, so that it gets hot. */
#define PAIRS(name, instruction, array)                                                                                  \
    __attribute__((noinline)) static void name(uint64_t *results, uint64_t *flags) {                                     \
        for (unsigned a = 0; a < COUNT(array); a++)                                                                      \
            for (unsigned b = 0; b < COUNT(array); b++) {                                                                \
                v2 x = (v2)array[a], y = (v2)array[b];                                                                   \
                set(mode);                                                                                               \
                __asm__ volatile(instruction " %1, %0" : "+x"(x) : "x"(y));                                              \
                *flags = mix(*flags, get() & shown);                                                                     \
                *results = mix(mix(*results, x[0]), x[1]);                                                               \
            }                                                                                                            \
    }

#define COMPARISON(name, instruction, array)                                                                             \
    __attribute__((noinline)) static void name(uint64_t *results, uint64_t *flags) {                                     \
        for (unsigned a = 0; a < COUNT(array); a++)                                                                      \
            for (unsigned b = 0; b < COUNT(array); b++) {                                                                \
                v2 x = (v2)array[a], y = (v2)array[b];                                                                   \
                uint8_t above, below, equal, unordered;                                                                  \
                set(mode);                                                                                               \
                __asm__ volatile(instruction " %5, %4\n seta %0\n setb %1\n sete %2\n setp %3"                           \
                                 : "=r"(above), "=r"(below), "=r"(equal), "=r"(unordered)                                \
                                 : "x"(x), "x"(y)                                                                        \
                                 : "cc");                                                                                \
                *flags = mix(*flags, get() & shown);                                                                     \
                *results = mix(*results, above | below << 1 | equal << 2 | unordered << 3);                              \
            }                                                                                                            \
    }

#define TO_INTEGER(name, instruction, array, size)                                                                       \
    __attribute__((noinline)) static void name(uint64_t *results, uint64_t *flags) {                                     \
        for (unsigned a = 0; a < COUNT(array); a++) {                                                                    \
            v2 x = (v2)array[a];                                                                                         \
            uint64_t r;                                                                                                  \
            set(mode);                                                                                                   \
            __asm__ volatile(instruction " %1, %" size "0" : "=r"(r) : "x"(x));                                          \
            *flags = mix(*flags, get() & shown);                                                                         \
            *results = mix(*results, r);                                                                                 \
        }                                                                                                                \
    }

PAIRS(addps, "addps", singles)
PAIRS(subss, "subss", singles)
PAIRS(mulps, "mulps", singles)
PAIRS(divss, "divss", singles)
PAIRS(minps, "minps", singles)
PAIRS(maxss, "maxss", singles)
PAIRS(sqrtps, "sqrtps", singles)
PAIRS(addsubps, "addsubps", singles)
PAIRS(haddps, "haddps", singles)
PAIRS(cmpltps, "cmpltps", singles)
PAIRS(cmpeqss, "cmpeqss", singles)
PAIRS(cmpunordps, "cmpunordps", singles)
PAIRS(cmpnless, "cmpnless", singles)
PAIRS(roundps, "roundps $0,", singles)
PAIRS(roundss, "roundss $12,", singles)
PAIRS(cvtps2dq, "cvtps2dq", singles)
PAIRS(cvttps2dq, "cvttps2dq", singles)
PAIRS(cvtdq2ps, "cvtdq2ps", singles)
PAIRS(cvtps2pd, "cvtps2pd", singles)
PAIRS(addsd, "addsd", doubles)
PAIRS(subpd, "subpd", doubles)
PAIRS(mulsd, "mulsd", doubles)
PAIRS(divpd, "divpd", doubles)
PAIRS(minsd, "minsd", doubles)
PAIRS(maxpd, "maxpd", doubles)
PAIRS(sqrtsd, "sqrtsd", doubles)
PAIRS(hsubpd, "hsubpd", doubles)
PAIRS(cmplesd, "cmplesd", doubles)
PAIRS(cmpnltpd, "cmpnltpd", doubles)
PAIRS(cmpordsd, "cmpordsd", doubles)
PAIRS(roundpd, "roundpd $4,", doubles)
PAIRS(roundsd, "roundsd $3,", doubles)
PAIRS(cvtpd2ps, "cvtpd2ps", doubles)
PAIRS(cvtsd2ss, "cvtsd2ss", doubles)
PAIRS(cvtpd2dq, "cvtpd2dq", doubles)
PAIRS(cvttpd2dq, "cvttpd2dq", doubles)
COMPARISON(comiss, "comiss", singles)
COMPARISON(ucomiss, "ucomiss", singles)
COMPARISON(comisd, "comisd", doubles)
COMPARISON(ucomisd, "ucomisd", doubles)
TO_INTEGER(cvtss2si, "cvtss2si", singles, "k")
TO_INTEGER(cvttss2si, "cvttss2si", singles, "q")
TO_INTEGER(cvtsd2si, "cvtsd2si", doubles, "q")
TO_INTEGER(cvttsd2si, "cvttsd2si", doubles, "k")

static const struct {
    const char *name;
    void (*run)(uint64_t *, uint64_t *);
} operations[] = {
#define ENTRY(name) {#name, name}
    ENTRY(addps), ENTRY(subss), ENTRY(mulps), ENTRY(divss), ENTRY(minps), ENTRY(maxss), ENTRY(sqrtps), ENTRY(addsubps),
    ENTRY(haddps), ENTRY(cmpltps), ENTRY(cmpeqss), ENTRY(cmpunordps), ENTRY(cmpnless), ENTRY(roundps), ENTRY(roundss),
    ENTRY(cvtps2dq), ENTRY(cvttps2dq), ENTRY(cvtdq2ps), ENTRY(cvtps2pd), ENTRY(addsd), ENTRY(subpd), ENTRY(mulsd),
    ENTRY(divpd), ENTRY(minsd), ENTRY(maxpd), ENTRY(sqrtsd), ENTRY(hsubpd), ENTRY(cmplesd), ENTRY(cmpnltpd),
    ENTRY(cmpordsd), ENTRY(roundpd), ENTRY(roundsd), ENTRY(cvtpd2ps), ENTRY(cvtsd2ss), ENTRY(cvtpd2dq),
    ENTRY(cvttpd2dq), ENTRY(comiss), ENTRY(ucomiss), ENTRY(comisd), ENTRY(ucomisd), ENTRY(cvtss2si), ENTRY(cvttss2si),
    ENTRY(cvtsd2si), ENTRY(cvttsd2si)};

/* All masked: the rounding modes, DAZ, FTZ, both. */
static const unsigned modes[] = {0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x1fc0, 0x9f80, 0x9fc0, 0xffc0};

static void every_operation(void) {
    for (unsigned m = 0; m < COUNT(modes); m++) {
        mode = modes[m];
        for (unsigned n = 0; n < COUNT(operations); n++) {
            uint64_t results = 0, flags = 0;
            for (int round = 0; round < 2; round++) operations[n].run(&results, &flags);
            set(0x1f80);
            printf("%x %s %016llx %016llx\n", mode, operations[n].name, (unsigned long long)results,
                   (unsigned long long)flags);
        }
    }
}

/* An operation whose result nothing uses, or on one way only. */
__attribute__((noinline)) static double unused(double a, double b, int use) {
    double quotient = a, sum = a;
    __asm__ volatile("" : "+x"(quotient), "+x"(sum));
    __asm__("divsd %1, %0" : "+x"(quotient) : "x"(b));
    __asm__ volatile("comisd %0, %1\n addsd %1, %0\n movapd %1, %0" : "+x"(sum) : "x"(b) : "cc");
    return use ? quotient + sum : sum;
}

static void unused_results(void) {
    static const double values[] = {1, 3, 0, INFINITY, NAN, 1e308, -2};
    uint64_t hash = 0;
    for (int round = 0; round < 40; round++)
        for (unsigned a = 0; a < COUNT(values); a++)
            for (unsigned b = 0; b < COUNT(values); b++) {
                feclearexcept(FE_ALL_EXCEPT);
                volatile double r = unused(values[a], values[b], round % 8 == 7);
                (void)r;
                hash = mix(hash, fetestexcept(FE_ALL_EXCEPT));
            }
    printf("unused %016llx\n", (unsigned long long)hash);
}

/* Comparisons as a compiler makes them, in a loop. */
__attribute__((noinline)) static int compared(const double *a, const double *b, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += (a[i] < b[i]) + 2 * (a[i] == b[i]) + 4 * (a[i] >= b[i]) + 8 * isgreater(a[i], b[i]);
    return sum;
}

static void hot_comparisons(void) {
    double a[64], b[64];
    for (int i = 0; i < 64; i++) a[i] = i % 7, b[i] = i % 5;
    int sum = 0;
    feclearexcept(FE_ALL_EXCEPT);
    for (int round = 0; round < 300; round++) sum += compared(a, b, 64);
    printf("compared %d, flags %#x\n", sum, fetestexcept(FE_ALL_EXCEPT));
    a[13] = NAN;
    for (int round = 0; round < 300; round++) sum += compared(a, b, 64);
    printf("compared %d, flags %#x\n", sum, fetestexcept(FE_ALL_EXCEPT));
}

/* ---- what isn't masked ---- */

static sigjmp_buf back;
static struct {
    int code;
    unsigned mxcsr;
    uintptr_t at;
    int at_address;
    double xmm1, xmm0;
} seen;

static void on_exception(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *u = context;
    seen.code = info->si_code;
    seen.mxcsr = u->uc_mcontext.fpregs->mxcsr;
    seen.at = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
    seen.at_address = info->si_addr == (void *)seen.at;
    memcpy(&seen.xmm0, &u->uc_mcontext.fpregs->_xmm[0], 8);
    memcpy(&seen.xmm1, &u->uc_mcontext.fpregs->_xmm[1], 8);
    siglongjmp(back, 1);
}

#define RAISES(name, instruction, x, y)                                                                                  \
    __attribute__((noinline)) static int name(unsigned mxcsr, uintptr_t *at) {                                           \
        unsigned after;                                                                                                  \
        __asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, (%1)\n ldmxcsr %2\n"                                         \
                         "movapd %3, %%xmm0\n movapd %4, %%xmm1\n 1: " instruction "\n stmxcsr %0\n"                     \
                         : "=m"(after)                                                                                   \
                         : "r"(at), "m"(mxcsr), "m"(x), "m"(y)                                                           \
                         : "rax", "xmm0", "xmm1", "memory", "cc");                                                       \
        set(0x1f80);                                                                                                     \
        return (int)(after & shown);                                                                                     \
    }

static const double one[2] __attribute__((aligned(16))) = {1, 1};
static const double three[2] __attribute__((aligned(16))) = {3, 4};
static const double zero[2] __attribute__((aligned(16))) = {0, 5};
static const double huge[2] __attribute__((aligned(16))) = {1e308, 1e308};
static const double tiny[2] __attribute__((aligned(16))) = {0x1p-600, 1};
static const double quiet[2] __attribute__((aligned(16))) = {NAN, 1};
static const double denormal[2] __attribute__((aligned(16))) = {0x1p-1060, 0x1p-1060};
static const double minus[2] __attribute__((aligned(16))) = {-1, -1};

RAISES(division, "divsd %%xmm1, %%xmm0", one, zero)
RAISES(third, "divsd %%xmm1, %%xmm0", one, three)
RAISES(thirds, "divpd %%xmm1, %%xmm0", one, three)
RAISES(nothing, "divpd %%xmm1, %%xmm0", zero, zero)
RAISES(overflow, "mulpd %%xmm1, %%xmm0", huge, huge)
RAISES(underflow, "mulsd %%xmm1, %%xmm0", tiny, tiny)
RAISES(half, "mulsd %%xmm1, %%xmm0", denormal, three)
RAISES(root, "sqrtsd %%xmm1, %%xmm0", one, minus)
RAISES(order, "comisd %%xmm1, %%xmm0", one, quiet)
RAISES(quiet_order, "ucomisd %%xmm1, %%xmm0", one, quiet)
RAISES(less, "cmpltpd %%xmm1, %%xmm0", one, quiet)
RAISES(least, "minsd %%xmm1, %%xmm0", one, quiet)
RAISES(integer, "cvtsd2si %%xmm1, %%eax", one, huge)
RAISES(narrow, "cvtpd2ps %%xmm1, %%xmm0", one, huge)
RAISES(rounded, "roundsd $1, %%xmm1, %%xmm0", one, tiny)
RAISES(across, "haddpd %%xmm1, %%xmm0", one, huge)

static const struct {
    const char *name;
    int (*run)(unsigned, uintptr_t *);
} raising[] = {
    ENTRY(division), ENTRY(third), ENTRY(thirds), ENTRY(nothing), ENTRY(overflow), ENTRY(underflow), ENTRY(half), ENTRY(root),
    ENTRY(order), ENTRY(quiet_order), ENTRY(less), ENTRY(least), ENTRY(integer), ENTRY(narrow), ENTRY(rounded), ENTRY(across)};

static void unmasked(void) {
    struct sigaction action = {.sa_sigaction = on_exception, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGFPE, &action, 0);
    for (unsigned n = 0; n < COUNT(raising); n++)
        for (unsigned exception = 0; exception <= 7; exception++) {
            /* Each by itself, then none and all. */
            unsigned masks = exception < 6 ? 0x1f80 & ~(0x80u << exception) : exception == 6 ? 0x1f80 : 0;
            uintptr_t at = 0;
            memset(&seen, 0, sizeof seen);
            if (sigsetjmp(back, 1) == 0) {
                int flags = raising[n].run(masks, &at);
                printf("%s %u: flags %x\n", raising[n].name, exception, flags);
            } else {
                set(0x1f80);
                printf("%s %u: code %d, mxcsr %x, at it %d %d, %a %a\n", raising[n].name, exception, seen.code,
                       seen.mxcsr & (0xffc0 | shown), seen.at == at, seen.at_address, seen.xmm0, seen.xmm1);
            }
        }
}

/* The C library's own means. */
static void library(void) {
    volatile double o = 1, z = 0, r;
    if (sigsetjmp(back, 1) == 0) {
        feenableexcept(FE_DIVBYZERO);
        r = o / z;
        printf("went on with %f\n", r);
    } else {
        printf("trapped, code %d\n", seen.code);
    }
    fedisableexcept(FE_ALL_EXCEPT);
    feclearexcept(FE_ALL_EXCEPT);
    r = o / z;
    printf("masked again: %f, flags %x\n", r, fetestexcept(FE_ALL_EXCEPT));
    fenv_t held;
    feholdexcept(&held);
    printf("held: %x\n", fetestexcept(FE_ALL_EXCEPT));
    r = o / 3;
    feupdateenv(&held);
    printf("merged: %x\n", fetestexcept(FE_ALL_EXCEPT));
    fesetenv(FE_DFL_ENV);
    feraiseexcept(FE_INVALID);
    printf("raised: %x\n", fetestexcept(FE_ALL_EXCEPT));
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_INVALID);
    int went_on = sigsetjmp(back, 1) == 0;
    if (went_on) feraiseexcept(FE_INVALID);
    printf("raised by the library: went on %d\n", went_on);
    fesetenv(FE_DFL_ENV);
    /* The handler's own mode is the default one, and that of the program comes back. */
    feenableexcept(FE_OVERFLOW);
    fesetround(FE_UPWARD);
    r = o / 3;
    printf("upward %a, enabled %x\n", r, fegetexcept());
    fesetenv(FE_DFL_ENV);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) shown &= ~2u;
    every_operation();
    unused_results();
    hot_comparisons();
    unmasked();
    library();
    return 0;
}
