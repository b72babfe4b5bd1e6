/* Non-local jumps, variable arguments, function pointers, recursion, thread-local data, alloca, big switch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static __thread int local = 5;
static jmp_buf env;

static int sum(int n, ...) {
    va_list ap;
    va_start(ap, n);
    int total = 0;
    while (n--) total += va_arg(ap, int);
    va_end(ap);
    return total;
}

static double mixed(const char *kinds, ...) {
    va_list ap;
    va_start(ap, kinds);
    double total = 0;
    for (; *kinds; kinds++) total += *kinds == 'd' ? va_arg(ap, double) : va_arg(ap, int);
    va_end(ap);
    return total;
}

__attribute__((noinline)) static void deep(int n) {
    volatile char pad[32];
    pad[3] = (char)n;
    if (n == 0) longjmp(env, 42);
    if (n > 0) deep(n - 1);
    printf("%d", pad[3]);
}

static int ackermann(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1)); }

static const char *name(int n) {
    switch (n) {
    case 0: return "zero"; case 1: return "one"; case 2: return "two"; case 3: return "three"; case 4: return "four";
    case 5: return "five"; case 6: return "six"; case 7: return "seven"; default: return "many";
    }
}

static int add(int a, int b) { return a + b; }
static int sub(int a, int b) { return a - b; }

int main(int argc, char **argv) {
    (void)argv;
    int r = setjmp(env);
    if (!r) deep(50);
    printf("longjmp %d\n", r);
    printf("sum %d mixed %g\n", sum(8, 1, 2, 3, 4, 5, 6, 7, 8), mixed("didid", 1.5, 2, 2.25, 3, 0.125));
    int (*volatile ops[])(int, int) = {add, sub};
    for (int i = 0; i < 4; i++) printf("%d ", ops[i & 1](10, i));
    for (int i = 0; i < 9; i++) printf("%s ", name(i));
    printf("\nackermann %d\n", ackermann(2, 200));
    local += argc;
    printf("thread-local %d\n", local);
    time_t t = 86400 * 365;
    printf("%s", asctime(gmtime(&t)));
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    printf("time %d\n", time(0) - ts.tv_sec <= 1);
    unsigned char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = i ^ 0x5a;
    unsigned long long h = 1469598103934665603ull;
    for (int i = 0; i < 256; i++) h = (h ^ bytes[i]) * 1099511628211ull;
    printf("%016llx\n", h);
    __int128 big = (__int128)h * h;
    printf("%016llx %llu\n", (unsigned long long)(big >> 64), (unsigned long long)(big / 1000000007u % 1000));
    return argc == 1 ? 42 : 0;
}
