// The x87 unit: environment and state in memory, packed decimals, exceptions masked and unmasked, other encodings.
// Everything runs often enough to be compiled, and prints sums where it would print much.
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#define ROUNDS 300

static uint64_t sum;
static void add(uint64_t v) { sum = (sum << 7 | sum >> 57) * 0x9e3779b97f4a7c15u + v; }
static void add_bytes(const void *p, size_t n) { for (const uint8_t *b = p; n--; b++) add(*b); }
static void tell(const char *what) { printf("%s: %016llx\n", what, (unsigned long long)sum); sum = 0; }

static uint8_t area[1024] __attribute__((aligned(64)));
static volatile double values[] = {-17.5, 1e300, -123456789012345678.0, 0, -0.0, 999999999999999999.0, 0.5, 2.5, 1e-310};
#define VALUES (sizeof values / sizeof *values)

// What a handler has seen of the last exception.
static sigjmp_buf back;
static volatile int code;
static volatile unsigned status, opcode;
static volatile uint64_t at, instruction, operand, address;
static void handler(int signal, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    code = signal * 100 + info->si_code;
    status = u->uc_mcontext.fpregs->swd;
    opcode = u->uc_mcontext.fpregs->fop;
    instruction = u->uc_mcontext.fpregs->rip;
    operand = u->uc_mcontext.fpregs->rdp;
    at = u->uc_mcontext.gregs[REG_RIP];
    address = (uint64_t)info->si_addr;
    siglongjmp(back, 1);
}

static void environment(void) {
    for (int n = 0; n < ROUNDS; n++) {
        uint16_t control, word;
        double v = values[n % VALUES], got;
        memset(area, 0xcc, sizeof area);
        asm volatile("fninit\n fld1\n fldpi\n fldl %2\n fnsave %0\n fnstcw %1\n fnstsw 2+%1"
                     : "=m"(area), "=m"(control) : "m"(v) : "memory");
        memset(area + 12, 0, 4); // FIP
        add_bytes(area, 112);
        asm volatile("frstor %1\n fstpl %0\n fnstsw %2\n fninit" : "=m"(got), "+m"(area), "=m"(word));
        add_bytes(&got, 8), add(word);
        asm volatile("fld1\n fldl %1\n data16 fnsave %0" : "=m"(area) : "m"(v) : "memory");
        memset(area + 6, 0, 2);
        add_bytes(area, 96);
        asm volatile("data16 frstor %1\n fstpl %0\n fnstenv %1\n data16 fnstenv 64+%1\n fninit" : "=m"(got), "+m"(area));
        memset(area + 12, 0, 4), memset(area + 64 + 6, 0, 2);
        add_bytes(&got, 8), add_bytes(area, 28), add_bytes(area + 64, 14);
    }
    tell("environment");
}

static void decimals(void) {
    for (int n = 0; n < ROUNDS; n++) {
        uint8_t packed[10];
        uint16_t s;
        double v = values[n % VALUES] + n / 100, got;
        asm volatile("fninit\n fldl %2\n fbstp %0\n fnstsw %1" : "=m"(packed), "=m"(s) : "m"(v));
        add_bytes(packed, 10), add(s);
        asm volatile("fbld %1\n fstpl %0\n fninit" : "=m"(got) : "m"(packed));
        add_bytes(&got, 8);
    }
    tell("decimals");
}

// FSTPNCE, FCOM2, FCOMP3, FCOMP5, FXCH4, FXCH7, FSTP8, FSTP9, FFREEP, FNENI, FNDISI, FNSETPM.
static void aliases(void) {
    for (int n = 0; n < ROUNDS; n++) {
        double v = values[n % VALUES];
        uint16_t s[4];
        memset(area, 0, sizeof area);
        asm volatile("fninit\n fldl %2\n fldz\n fld1\n fldpi\n .byte 0xdc,0xd2\n fnstsw %1\n .byte 0xd9,0xd9\n"
                     " .byte 0xdd,0xca\n .byte 0xdc,0xda\n fnstsw 2+%1\n fld1\n fldl %2\n .byte 0xdf,0xca\n .byte 0xde,0xd1\n"
                     " fnstsw 4+%1\n fldpi\n .byte 0xdf,0xd1\n fldpi\n .byte 0xdf,0xd9\n fld1\n .byte 0xdf,0xc1\n"
                     " .byte 0xdb,0xe0, 0xdb,0xe1, 0xdb,0xe4\n fnstsw 6+%1\n fnsave %0"
                     : "=m"(area), "=m"(s) : "m"(v) : "memory");
        memset(area + 12, 0, 4);
        add_bytes(s, 8), add_bytes(area, 108);
    }
    tell("aliases");
}

// MMX instructions use all registers, from the top of the stack on; EMMS frees them.
static void mmx(void) {
    for (int n = 0; n < ROUNDS; n++) {
        uint64_t v = n * 0x0123456789abcdefu;
        asm volatile("fninit\n fld1\n fldz\n movq %1, %%mm3\n paddb %%mm3, %%mm3\n fnstenv %0\n fnsave 32+%0"
                     : "=m"(area) : "m"(v) : "memory");
        add_bytes(area + 4, 8), add_bytes(area + 36, 8), add_bytes(area + 32 + 28, 80);
        asm volatile("movq %1, %%mm0\n emms\n fnstenv %0\n fninit" : "=m"(area) : "m"(v) : "memory");
        add_bytes(area + 8, 2);
    }
    tell("mmx");
}

#define WHEN_UNMASKED(name, mask, setup, failing, waiting) do { \
    for (int n = 0; n < ROUNDS; n++) { \
        uint16_t control = 0x37f & ~(mask); \
        code = 0; \
        if (!sigsetjmp(back, 1)) { \
            asm volatile("fninit\n" setup "\n fldcw %0\n .globl " #name "_fails, " #name "_waits\n" \
                         #name "_fails: " failing "\n nop\n " #name "_waits: " waiting "\n fninit" \
                         :: "m"(control), "m"(one), "m"(zero), "m"(huge), "m"(small), "m"(nan_), "m"(sink), "r"(nowhere) \
                         : "memory", "cc", "mm0", "mm3"); \
        } else { \
            asm volatile("fnsave %0" : "=m"(area) :: "memory"); \
            asm volatile("fninit"); \
        } \
        add(code), add(status), add(opcode); \
        if (code) add(at - (uint64_t)name##_waits), add(instruction - (uint64_t)name##_fails), add(address - at); \
        if (code && operand) add(operand - (uint64_t)area); \
        add_bytes((const void *)&sink, 8); \
    } \
    printf("code %d, status %04x, opcode %03x, ", code, status, opcode); \
    tell(#name); } while (0)

#define LABELS(name) extern char name##_fails[], name##_waits[]
LABELS(divide); LABELS(invalid); LABELS(masked); LABELS(overflow); LABELS(underflow); LABELS(inexact); LABELS(denormal);
LABELS(narrowing); LABELS(empty); LABELS(full); LABELS(decimal); LABELS(to_integer); LABELS(by_mmx); LABELS(at_load);
LABELS(pending); LABELS(swapped); LABELS(no_wait);

static void unmasked(void) {
    // In the area, so that the operand's address is known from it.
    volatile double *d = (void *)(area + 512);
    d[0] = 1, d[1] = 0, d[3] = 3, d[4] = NAN;
    long double *l = (void *)(area + 640);
    l[0] = 0x1p16000L, l[1] = 0x1p-16000L;
    *(volatile uint64_t *)(area + 800) = 1; // a denormal
#define one (*(volatile double *)(area + 512))
#define zero (*(volatile double *)(area + 520))
#define nan_ (*(volatile double *)(area + 544))
#define huge (*(volatile long double *)(area + 640))
#define small (*(volatile long double *)(area + 656))
    static volatile double sink = 42;
    void *nowhere = (void *)16;
    WHEN_UNMASKED(divide, 4, "fldl %1", "fdivl %2", "fwait");
    WHEN_UNMASKED(invalid, 1, "fldz\n fldz", "fdivp", "fld1");
    WHEN_UNMASKED(masked, 8, "fldl %1", "fdivl %2", "fwait");
    WHEN_UNMASKED(overflow, 8, "fldt %3\n fldt %3", "fmulp", "fstpl %6");
    WHEN_UNMASKED(underflow, 16, "fldt %4\n fldt %4", "fmulp", "fxam");
    WHEN_UNMASKED(inexact, 32, "fldl %1\n fldpi", "fdivrp", "fnop");
    WHEN_UNMASKED(denormal, 2, "fld1", "faddl 800-512+%1", "fincstp");
    WHEN_UNMASKED(narrowing, 8, "fldt %3", "fstpl %6", "fwait");
    WHEN_UNMASKED(empty, 1, "", "fstpl %6", "fwait");
    WHEN_UNMASKED(full, 1, "fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1", "fldpi", "fxch");
    WHEN_UNMASKED(decimal, 1, "fldt %3", "fbstp %6", "fwait");
    WHEN_UNMASKED(to_integer, 1, "fldt %3", "fistpl %6", "fld %%st(0)");
    WHEN_UNMASKED(by_mmx, 4, "fldl %1", "fdivl %2", "movq %%mm0, %6");
    WHEN_UNMASKED(at_load, 4, "fldl %1", "fdivl %2", "fldl (%7)");
    WHEN_UNMASKED(pending, 63, "fldl %1\n fdivl %2", "fldcw %0\n nop", "emms");
    WHEN_UNMASKED(swapped, 1, "fld1", "fxch %%st(3)", "ffree %%st(0)");
    WHEN_UNMASKED(no_wait, 4, "fldl %1\n fnstcw %6", "fdivl %2", "fnstsw 2+%6\n fnclex\n fwait\n fstpl %6");
#undef one
#undef zero
#undef nan_
#undef huge
#undef small
}

// An unmasked invalid comparison leaves the flags.
static void flags(void) {
    for (int n = 0; n < ROUNDS; n++) {
        uint16_t control = n & 1 ? 0x37e : 0x37f;
        uint64_t f;
        double v = n % 3 ? NAN : n;
        asm volatile("fninit\n fldl %2\n fldl %2\n fldcw %1\n cmp %3, %4\n fcomi %%st(1), %%st\n pushfq\n pop %0\n fninit"
                     : "=r"(f) : "m"(control), "m"(v), "r"(n % 5), "r"(2) : "cc", "memory");
        add(f & 0x8d5);
    }
    tell("flags");
}

static void library(void) {
    static const int kinds[] = {FE_INVALID, FE_DIVBYZERO, FE_OVERFLOW, FE_UNDERFLOW, FE_INEXACT};
    for (int n = 0; n < ROUNDS; n++) {
        int kind = kinds[n % 5];
        fenv_t env;
        fexcept_t kept;
        fesetenv(FE_DFL_ENV);
        feraiseexcept(kind);
        add(fetestexcept(FE_ALL_EXCEPT));
        fegetexceptflag(&kept, FE_ALL_EXCEPT);
        add(feholdexcept(&env)), add(fetestexcept(FE_ALL_EXCEPT));
        volatile long double v = 1, w = n % 7;
        v = v / w;
        add(fetestexcept(FE_ALL_EXCEPT));
        feupdateenv(&env);
        add(fetestexcept(FE_ALL_EXCEPT));
        feclearexcept(kind);
        add(fetestexcept(FE_ALL_EXCEPT));
        fesetexceptflag(&kept, kind);
        add(fetestexcept(FE_ALL_EXCEPT));
        fesetround(FE_UPWARD);
        fegetenv(&env);
        add(env.__control_word), add(env.__status_word & 0x3f), add(env.__mxcsr);
        fesetenv(FE_DFL_ENV);
        add(fegetround());
        code = 0;
        if (!sigsetjmp(back, 1)) {
            feenableexcept(kind);
            add(fegetexcept());
            w = n % 7 ? 0x1p16000L : 0;
            v = n % 2 ? w * w : 1 / w;
            v = v / 3;
            asm volatile("fwait");
        }
        fesetenv(FE_DFL_ENV);
        add(code), add(fegetexcept());
    }
    tell("library");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGFPE, &action, 0);
    sigaction(SIGSEGV, &action, 0);
    environment();
    decimals();
    aliases();
    mmx();
    unmasked();
    flags();
    library();
    // Without a handler it is the end.
    signal(SIGFPE, SIG_DFL);
    fflush(stdout);
    feenableexcept(FE_DIVBYZERO);
    volatile long double zero = 0, one = 1;
    one = one / zero;
    asm volatile("fwait");
    puts("not reached");
    return 0;
}
