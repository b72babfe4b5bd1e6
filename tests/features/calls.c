/* Calls that a region follows: small callees, recursion, callbacks, switches inside callees, and ways out of them that
   aren't their return: rare branches, longjmp, changed return addresses, a signal's handler, deep tail recursion. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define NOINLINE __attribute__((noinline, noclone))

static jmp_buf env;
static volatile sig_atomic_t ticks;
static int jumps;

NOINLINE static unsigned step(unsigned x) { return x * 1664525u + 1013904223u; }

/* Leaves by a rare branch into code that is never hot. */
NOINLINE static unsigned rarely(unsigned x) {
    if (__builtin_expect(x % 1009 == 0, 0)) {
        char text[32];
        snprintf(text, sizeof text, "%u", x);
        return (unsigned)strlen(text) + step(x);
    }
    return x ^ x >> 3;
}

NOINLINE static unsigned choose(unsigned kind, unsigned x) {
    switch (kind) {
    case 0: return x + 1;
    case 1: return x * 3;
    case 2: return x ^ 0x55;
    case 3: return step(x);
    case 4: return rarely(x);
    case 5: return x >> 1;
    case 6: return x << 1;
    default: return ~x;
    }
}

NOINLINE static void jumps_out(unsigned x) {
    if (x % 2003 == 7) longjmp(env, 1 + (int)(x & 1));
    jumps++;
}

typedef unsigned (*function)(unsigned);
static function volatile callbacks[] = {step, rarely};

NOINLINE static long tree(int n) { return n < 2 ? n : tree(n - 1) + tree(n - 2); }

NOINLINE static long even(long n);
NOINLINE static long odd(long n) {
    if (n == 0) return 0;
    return even(n - 1);
}
NOINLINE static long even(long n) {
    if (n == 0) return 1;
    volatile long keep = n; /* not a tail call */
    long r = odd(n - 1);
    return keep == n ? r : -1;
}

/* Returns behind a ten-byte instruction that the call's block would have gone on with. */
__asm__(".globl skips\nskips:\n addq $10, (%rsp)\n lea 1(%rdi), %eax\n ret\n");
static unsigned skipped(unsigned x) {
    unsigned r;
    __asm__ volatile("sub $128, %%rsp\n call skips\n movabs $0x123456789, %%rax\n add $128, %%rsp"
                     : "=a"(r) : "D"(x) : "cc", "memory");
    return r;
}

static void tick(int signal) { (void)signal; ticks++; }

int main(void) {
    unsigned x = 1;
    for (int i = 0; i < 40000; i++) x = rarely(step(x));
    printf("rarely %u\n", x);
    for (int i = 0; i < 40000; i++) x = choose(x >> 13 & 7, x) + (unsigned)i;
    printf("choose %u\n", x);
    for (int i = 0; i < 40000; i++) x = callbacks[i % 5 == 0](x);
    printf("callbacks %u\n", x);
    volatile unsigned total = 0;
    for (volatile unsigned i = 0; i < 20000; i++) {
        int r = setjmp(env);
        if (r) total += (unsigned)r;
        else jumps_out(i);
    }
    printf("longjmp %u %d\n", total, jumps);
    for (unsigned i = 0; i < 20000; i++) x += skipped(i);
    printf("skipped %u\n", x);
    printf("tree %ld\n", tree(21));
    printf("even %ld %ld\n", even(100000), even(100001));

    /* A handler runs while the loop is inside a followed call, most of the time. */
    struct sigaction action = {.sa_handler = tick};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &every, NULL);
    unsigned long rounds = 0;
    unsigned sum = 0;
    while (ticks < 20) {
        unsigned before = x;
        for (int i = 0; i < 1000; i++) x = rarely(step(x));
        unsigned again = before;
        for (int i = 0; i < 1000; i++) again = rarely(step(again));
        sum |= x ^ again;
        rounds++;
    }
    printf("signals %s\n", sum == 0 && rounds > 0 ? "right" : "wrong");
}
