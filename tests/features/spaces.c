// The address space: what mmap, mprotect and mremap refuse, addresses that programs insist on (the shadow memory of
// sanitizers, heaps at fixed places), large reservations, and limits on its size, which the program's own memory alone counts for.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static const char *outcome(void *at) { return at == MAP_FAILED ? strerrorname_np(errno) : "ok"; }
static const char *result(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

static void refusals(void) {
    printf("no length %s\n", outcome(mmap(NULL, 0, RW, PRIVATE, -1, 0)));
    printf("no kind %s\n", outcome(mmap(NULL, 4096, RW, MAP_ANONYMOUS, -1, 0)));
    printf("odd offset %s\n", outcome(mmap(NULL, 4096, RW, MAP_PRIVATE, open("/proc/self/exe", 0), 100)));
    printf("no descriptor %s\n", outcome(mmap(NULL, 4096, RW, MAP_PRIVATE, 99, 0)));
    printf("odd address %s\n", outcome(mmap((void *)0x12345, 4096, RW, PRIVATE | MAP_FIXED, -1, 0)));
    printf("too large %s\n", outcome(mmap(NULL, 1ul << 50, RW, PRIVATE | MAP_NORESERVE, -1, 0)));
    printf("beyond the end %s\n", outcome(mmap((void *)0x800000000000, 4096, RW, PRIVATE | MAP_FIXED, -1, 0)));
    printf("shared and growing %s\n", outcome(mmap(NULL, 4096, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0)));
    char *p = mmap(NULL, 16384, RW, PRIVATE, -1, 0);
    printf("taken %s\n", outcome(mmap(p + 4096, 4096, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0)));
    printf("taken in part %s\n", outcome(mmap(p + 12288, 8192, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0)));
    printf("odd unmap %s\n", result(munmap(p + 1, 4096)));
    printf("empty unmap %s\n", result(munmap(p, 0)));
    printf("unmap of nothing %s\n", result(munmap((void *)0x123456789000, 4096)));
    printf("protect a hole %s\n", result(mprotect((void *)0x123456780000, 1ul << 31, RW)));
    printf("unknown protection %s\n", result(mprotect(p, 4096, PROT_READ | 0x100)));
    // Locked pages are a mapping of their own.
    printf("lock %s\n", result(mlock(p, 4096)));
    printf("locked and not %s\n", outcome(mremap(p, 8192, 16384, MREMAP_MAYMOVE)));
    printf("unlock %s\n", result(munlock(p, 4096)));
    printf("one again %d\n", mremap(p, 8192, 4096, 0) == p);
    munmap(p + 8192, 4096);
    printf("over a hole %s\n", outcome(mremap(p, 16384, 32768, MREMAP_MAYMOVE)));
    printf("blocked %s\n", outcome(mremap(p + 12288, 4096, 4096ul << 34, 0)));
}

static void low_addresses(void) {
    char *p = mmap(NULL, 4096, RW, PRIVATE | MAP_32BIT, -1, 0);
    printf("below 2 GB %d\n", (uintptr_t)p < 0x80000000);
    int n = 0;
    while (n < 500 && (p = mmap(NULL, 1 << 20, RW, PRIVATE | MAP_32BIT | MAP_NORESERVE, -1, 0)) != MAP_FAILED && (uintptr_t)p < 0x80000000) n++;
    printf("%d of 500 MB below 2 GB\n", n);
}

static void addresses(void) {
    // Ends of the areas of the address, memory and thread sanitizers, heaps of runtimes, and others.
    const uintptr_t wanted[] = {
        0x10000, 0x110000, 0x10000000, 0x58000000, 0x7fff0000, 0x7fff8000, 0x8fff7000, 0x100000000, 0x4200000000, 0xc000000000,
        0x10000000000, 0x2008fff7000, 0x20000000000, 0x40000000000, 0xfffffff0000, 0x100000000000, 0x10007fff7000, 0x10007fff8000, 0x110000000000,
        0x200000000000, 0x210000000000, 0x300000000000, 0x3ff000000000, 0x3ffff0000000, 0x400000000000, 0x500000000000,
        0x510000000000, 0x600000000000, 0x610000000000, 0x700000000000, 0x720000000000, 0x7b0000000000, 0x7e8000000000, 0x7e0000000000,
        0x7fff00000000, 0x7fffd0000000, 0x7ffff0000000,
    };
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        char *p = mmap((void *)wanted[i], 4096, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0);
        if (p != (void *)wanted[i]) {
            printf("at %lx: %s\n", wanted[i], outcome(p));
            continue;
        }
        p[5] = 1;
        p = mmap((void *)(wanted[i] + 4096 * 7), 4096, RW, PRIVATE, -1, 0);
        if (p != (void *)(wanted[i] + 4096 * 7)) printf("near %lx: elsewhere\n", wanted[i]);
        munmap((void *)wanted[i], 4096);
        munmap(p, 4096);
    }
    // What the address sanitizer maps at its start.
    printf("low shadow %s\n", outcome(mmap((void *)0x7fff7000, 0x10007000, RW, PRIVATE | MAP_FIXED | MAP_NORESERVE, -1, 0)));
    printf("high shadow %s\n", outcome(mmap((void *)0x2008fff7000, 0x10007fff8000 - 0x2008fff7000, RW, PRIVATE | MAP_FIXED | MAP_NORESERVE, -1, 0)));
    printf("gap %s\n", outcome(mmap((void *)0x8fff7000, 0x2008fff7000 - 0x8fff7000, PROT_NONE, PRIVATE | MAP_FIXED | MAP_NORESERVE, -1, 0)));
    for (int bits = 32; bits <= 43; bits += 4) {
        char *p = mmap(NULL, 1ul << bits, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0);
        printf("reserve %d bits %s\n", bits, outcome(p));
        if (p == MAP_FAILED) continue;
        *(char *)mmap(p + (1ul << (bits - 1)), 4096, RW, PRIVATE | MAP_FIXED, -1, 0) = 1;
        munmap(p, 1ul << bits);
    }
}

static sigjmp_buf back;
static void on_fault(int signal) { siglongjmp(back, signal); }

static void code(void) {
    static const unsigned char seven[] = {0xb8, 7, 0, 0, 0, 0xc3};
    signal(SIGSEGV, on_fault);
    char *p = mmap(NULL, 4096, RW, PRIVATE, -1, 0);
    memcpy(p, seven, sizeof seven);
    if (!sigsetjmp(back, 1)) printf("data runs %d\n", ((int (*)(void))p)());
    else printf("data doesn't run\n");
    mprotect(p, 4096, PROT_EXEC);
    printf("code that may not be read: %d\n", ((int (*)(void))p)());
    p = mmap(NULL, 4096, PROT_WRITE, PRIVATE, -1, 0);
    p[0] = 1;
    printf("what may be written may be read %d\n", p[0]);
}

static int megabytes(void) {
    int n = 0;
    while (n < 1000 && mmap(NULL, 1 << 20, RW, PRIVATE, -1, 0) != MAP_FAILED) n++;
    return n;
}

static void in_child(const char *what, int resource, rlim_t soft, rlim_t hard, int exec, char **words) {
    fflush(stdout);
    if (!fork()) {
        struct rlimit limit = {soft, hard}, now;
        printf("%s: set %s", what, result(setrlimit(resource, &limit)));
        getrlimit(resource, &now);
        printf(", is %d", now.rlim_cur == soft && now.rlim_max == hard);
        limit.rlim_cur = hard;
        limit.rlim_max = soft;
        printf(", soft above hard %s\n", soft == hard ? "EINVAL" : result(setrlimit(resource, &limit)));
        fflush(stdout);
        if (exec) execv("/proc/self/exe", (char *[]){words[0], words[1], exec == 1 ? "space" : "data", NULL});
        int n = megabytes();
        printf("%s: about the limit %d\n", what, n > 60 && n <= 200);
        exit(0);
    }
    wait(NULL);
}

static void limits(char **words) {
    in_child("address space", RLIMIT_AS, 200 << 20, RLIM_INFINITY, 0, words);
    in_child("address space, hard", RLIMIT_AS, 200 << 20, 300 << 20, 0, words);
    in_child("data", RLIMIT_DATA, 100 << 20, 150 << 20, 0, words);
    in_child("address space, next program", RLIMIT_AS, 200 << 20, RLIM_INFINITY, 1, words);
    in_child("data, next program", RLIMIT_DATA, 100 << 20, RLIM_INFINITY, 2, words);
}

static void limited(const char *which) {
    struct rlimit limit;
    int resource = strcmp(which, "space") ? RLIMIT_DATA : RLIMIT_AS;
    getrlimit(resource, &limit);
    char line[200], name[40] = "";
    FILE *file = fopen("/proc/self/limits", "r");
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, strcmp(which, "space") ? "Max data" : "Max address", 8)) sscanf(line + 26, "%39s", name);
    printf("%s: %lu, shown as %s\n", which, limit.rlim_cur >> 20, name);
    int n = megabytes();
    printf("%s: about the limit %d\n", which, n > 60 && n <= 200);
    sbrk(0) == (void *)-1 || sbrk(64 << 20) == (void *)-1 ? puts("no more heap") : puts("more heap");
}

int main(int count, char **words) {
    if (count > 2) limited(words[2]);
    else if (!strcmp(words[1], "limits")) limits(words);
    else {
        refusals();
        addresses();
        low_addresses();
        code();
    }
    return 0;
}
