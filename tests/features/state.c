/* XSAVE, XSAVE64, XSAVEOPT, XSAVEC, XRSTOR and XGETBV: partial masks, both formats, initial states, headers that are
   refused, areas over two pages, faults. The components are those of the argument (a mask) that this processor has;
   with a second argument it only tells which these are. */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef unsigned char byte;
enum { HEADER = 512, SIZE = 4096 };

static byte area[SIZE] __attribute__((aligned(64)));
static byte other[SIZE] __attribute__((aligned(64)));
static sigjmp_buf back;
static volatile int caught;
static void *volatile address;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    caught = signal;
    address = info->si_addr;
    siglongjmp(back, 1);
}

static uint64_t xgetbv(uint32_t n) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(n));
    return (uint64_t)high << 32 | low;
}

#define ASK(name, form)                                                                                              \
    static void name(void *to, uint64_t mask) {                                                                       \
        __asm__ volatile(form " (%0)" : : "r"(to), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");      \
    }
ASK(save, "xsave64")
ASK(save_compacted, "xsavec64")
ASK(restore, "xrstor64")

/* Restores all of `before`, then does `form` with the mask, then, if it restores, saves all to `after`: no other code in
   between, for that may use the registers. */
#define AFTER(name, form)                                                                                            \
    static void name(const void *before, void *to, uint64_t mask, void *after, uint64_t all) {                        \
        __asm__ volatile("mov %[all], %%eax; xor %%edx, %%edx; xrstor64 (%[before])\n"                               \
                         "mov %[mask], %%eax; " form " (%[to])\n"                                                     \
                         "mov %[all], %%eax; test %[after], %[after]; jz 1f; xsave64 (%[after]); 1:"                   \
                         :                                                                                            \
                         : [before] "r"(before), [to] "r"(to), [after] "r"(after), [mask] "r"((uint32_t)mask),        \
                           [all] "r"((uint32_t)all)                                                                   \
                         : "rax", "rdx", "memory");                                                                   \
    }
AFTER(then_save, "xsave64")
AFTER(then_save_narrow, "xsave")
AFTER(then_save_optimised, "xsaveopt64")
AFTER(then_save_compacted, "xsavec64")
AFTER(then_save_compacted_narrow, "xsavec")
AFTER(then_restore, "xrstor64")
AFTER(then_restore_narrow, "xrstor")

static uint64_t word(const byte *from, int at) {
    uint64_t v;
    memcpy(&v, from + at, 8);
    return v;
}

static void put(byte *to, int at, uint64_t v) { memcpy(to + at, &v, 8); }

/* Where the components are, in the standard format; zero if there are none. */
static uint32_t size_of(int n) {
    uint32_t a, b, c, d;
    __cpuid_count(0xd, n, a, b, c, d);
    return a;
}

static uint32_t place_of(int n) {
    uint32_t a, b, c, d;
    __cpuid_count(0xd, n, a, b, c, d);
    return b;
}

static uint64_t seed = 88172645463325252u;

static byte noise(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed >> 24;
}

/* An area that can be restored, with these components in use. */
static void fill(byte *to, uint64_t used) {
    for (int i = 0; i < SIZE; i++)
        to[i] = noise();
    memset(to + HEADER, 0, 64);
    put(to, HEADER, used);
    to[0] = 0x7f, to[1] = 0x03;   /* all masked, 64 bits */
    to[2] = 0, to[3] = 0x28;      /* top 5, no exception */
    to[5] = 0;
    to[7] &= 7;
    put(to, 8, word(to, 8) >> 20);
    put(to, 16, word(to, 16) >> 20);
    put(to, 24, 0x3fa0 | (uint64_t)0xffff << 32);
}

static uint64_t sum(const byte *from, int start, int len) {
    uint64_t h = 14695981039346656037u;
    for (int i = start; i < start + len; i++)
        h = (h ^ from[i]) * 1099511628211u;
    return h;
}

/* What an area holds of the legacy part, the header and the components of the standard format. Whether SSE is in use isn't
   shown: zeros are after a context switch if MXCSR isn't 1f80, which XSAVES takes for a state in use (Intel SDM vol. 1,
   13.11). */
static void show(const char *what, const byte *from, uint64_t mask) {
    printf("%s: bv %llx comp %llx x87 %016llx mxcsr %llx xmm %016llx rest %016llx", what,
           (unsigned long long)(word(from, HEADER) | 2), (unsigned long long)word(from, HEADER + 8),
           (unsigned long long)(sum(from, 0, 24) ^ sum(from, 32, 128)), (unsigned long long)word(from, 24),
           (unsigned long long)sum(from, 160, 256), (unsigned long long)(sum(from, 416, 96) ^ sum(from, 528, 48)));
    for (int n = 2; n < 9; n++)
        if (mask >> n & 1)
            printf(" %d %016llx", n, (unsigned long long)sum(from, place_of(n), size_of(n)));
    printf("\n");
}

static void clean(byte *to) {
    memset(to, 0x55, SIZE);
    memset(to + HEADER + 8, 0, 56);
}

#define FAULTS(what, statement)                                                                                       \
    do {                                                                                                              \
        caught = 0;                                                                                                   \
        if (!sigsetjmp(back, 1)) {                                                                                    \
            statement;                                                                                                \
        }                                                                                                             \
        printf("%s: signal %d\n", what, caught);                                                                      \
    } while (0)

static void show_compacted(const char *what, const byte *from) {
    printf("%s: bv %llx comp %llx all %016llx\n", what, (unsigned long long)word(from, HEADER),
           (unsigned long long)word(from, HEADER + 8), (unsigned long long)sum(from, 0, SIZE));
}

static byte third[SIZE] __attribute__((aligned(64)));

static void formats(uint64_t all) {
    uint64_t masks[] = {all, 1, 2, 3, all & 4, all & ~2ul, all & ~1ul, all & 0xe0, all & 0xa4, 0, all & 0x46};
    for (unsigned m = 0; m < sizeof masks / sizeof *masks; m++) {
        for (unsigned u = 0; u < sizeof masks / sizeof *masks; u++) {
            uint64_t mask = masks[m];
            fill(area, masks[u] & all);
            if (u & 1)
                put(area, 24, 0x1f80);
            clean(other);
            then_save(area, other, mask, 0, all);
            show("xsave64", other, all);
            clean(other);
            then_save_narrow(area, other, mask, 0, all);
            show("xsave", other, all);
            clean(other);
            then_save_compacted_narrow(area, other, mask, 0, all);
            show_compacted("xsavec", other);
            clean(other);
            then_save_compacted(area, other, mask, 0, all);
            show_compacted("xsavec64", other);
            /* Back from it, in another state: what isn't asked for stays. */
            fill(area, all);
            clean(third);
            then_restore(area, other, masks[u] | 2, third, all);
            show("from compacted", third, all);
            fill(other, masks[u] & all);
            clean(third);
            then_restore(area, other, mask, third, all);
            show("xrstor64", third, all);
            clean(third);
            then_restore_narrow(area, other, mask, third, all);
            show("xrstor", third, all);
            /* What is in its initial state may be left alone. */
            clean(other);
            then_save_optimised(area, other, mask, 0, all);
            show("xsaveopt64", other, all);
        }
    }
}

static void refused(uint64_t all) {
    struct {
        const char *what;
        int at;
        uint64_t value;
    } bad[] = {
        {"unknown component", HEADER, 1ull << 62},
        {"compaction bits", HEADER + 8, 1},
        {"third word", HEADER + 16, 1},
        {"fourth word", HEADER + 24, 1},
        {"last word", HEADER + 56, 1ull << 40},
        {"reserved control", 24, 1 << 16 | 0x1f80},
        {"compacted", HEADER + 8, 1ull << 63 | all},
        {"compacted, not all there", HEADER + 8, 1ull << 63 | 2},
        {"compacted, unknown", HEADER + 8, 1ull << 63 | all | 1ull << 61},
        {"nothing", 600, 0},
    };
    for (volatile unsigned b = 0; b < sizeof bad / sizeof *bad; b++) {
        fill(area, all);
        put(area, bad[b].at, bad[b].value);
        FAULTS(bad[b].what, restore(area, all));
        FAULTS("without SSE", restore(area, 1));
        fill(area, all);
        put(area, HEADER + 8, 1ull << 63 | all);
        put(area, bad[b].at, bad[b].value);
        FAULTS("in a compacted area", restore(area, all));
    }
    fill(area, all);
    FAULTS("misaligned", restore(area + 16, all));
    FAULTS("misaligned", save(area + 32, all));
    FAULTS("misaligned", save_compacted(area + 8, all));
    FAULTS("xgetbv 2", xgetbv(2));
    FAULTS("xgetbv 0x100000000", printf("%d\n", (int)(xgetbv(0) & 3)));
}

static void pages(uint64_t all) {
    byte *two = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    byte *over = two + 4096 - 512;
    fill(area, all);
    then_save(area, over, all, 0, all);
    memset(other, 0, SIZE);
    memcpy(other, over, 4096);
    show("over two pages", other, all);
    fill(area, all);
    clean(other);
    then_restore(area, over, all, other, all);
    show("and back", other, all);
    mprotect(two + 4096, 4096, PROT_READ);
    FAULTS("read-only second page", save(over, all));
    FAULTS("read-only second page", save_compacted(over, all));
    FAULTS("read-only second page", restore(over, all));
    mprotect(two + 4096, 4096, PROT_NONE);
    FAULTS("no second page", restore(over, all));
    printf("%d\n", (byte *)address >= two + 4096 && (byte *)address < two + 8192);
    FAULTS("no second page", save(over, all));
    printf("%d\n", (byte *)address >= two + 4096 && (byte *)address < two + 8192);
    mprotect(two, 4096, PROT_NONE);
    FAULTS("no page", save(over, all));
    FAULTS("no page", restore(over, all));
    fill(area, all);
    clean(other);
    then_save(area, other, all, 0, all);
    show("as before", other, all);
}

int main(int argc, char **argv) {
    uint64_t wanted = argc > 1 ? strtoul(argv[1], 0, 0) : 3;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    sigaction(SIGILL, &action, 0);
    uint32_t a, b, c, d;
    __cpuid(1, a, b, c, d);
    if ((c >> 26 & 3) != 3) {
        printf("no XSAVE\n");
        return 1;
    }
    if (argc > 2) {
        /* What there is. */
        printf("%llu\n", (unsigned long long)(xgetbv(0) & wanted));
        return 0;
    }
    uint64_t all = xgetbv(0) & wanted;
    __cpuid_count(0xd, 0, a, b, c, d);
    printf("%d %d\n", b >= 576, c >= b);
    formats(all);
    refused(all);
    pages(all);
    return 0;
}
