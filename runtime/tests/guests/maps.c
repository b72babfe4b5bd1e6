/* Memory maps as a program sees them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *outcome(int bad) { return bad ? strerrorname_np(errno) : "fine"; }

static int in_maps(void *p, const char *what) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int found = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned long a, b;
        char perms[5];
        if (sscanf(line, "%lx-%lx %4s", &a, &b, perms) == 3 && a <= (unsigned long)p && (unsigned long)p < b)
            found = strstr(line, what) != 0;
    }
    fclose(f);
    return found;
}

int main(int argc, char **argv) {
    (void)argc;
    setvbuf(stdout, 0, _IOLBF, 0);
    char *a = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *b = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("top-down: %d, below 2^47: %d\n", b < a, (uintptr_t)a >> 47 == 0);
    strcpy(a + 4096, "kept");
    munmap(b, 1 << 20);
    char *c = mremap(a, 1 << 20, 4 << 20, MREMAP_MAYMOVE);
    printf("mremap: %s\n", c + 4096);
    printf("not over: %s\n", outcome(mmap(c, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED));
    printf("over: %s\n", outcome(mmap(c, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != c));
    printf("hole: %s\n", outcome((munmap(c + 8192, 4096), mprotect(c, 16384, PROT_READ))));
    printf("misaligned: %s\n", outcome(mprotect(c + 1, 4096, PROT_READ)));
    char *low = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    printf("low: %d\n", (uintptr_t)low < 1u << 31);
    char *brk0 = sbrk(0);
    sbrk(1 << 20), memset(brk0, 7, 1 << 20);
    printf("heap grew: %d, is named: %d\n", (char *)sbrk(0) - brk0 == 1 << 20, in_maps(brk0, "[heap]"));
    int local;
    printf("stack is named: %d, executable is named: %d\n", in_maps(&local, "[stack]"), in_maps((void *)&main, strrchr(argv[0], '/')));
    printf("pagesize %ld aux %ld, platform %s, random %d\n", sysconf(_SC_PAGESIZE), getauxval(AT_PAGESZ),
           (char *)getauxval(AT_PLATFORM), getauxval(AT_RANDOM) != 0);
    printf("execfn %d, phdr %d, entry %d\n", !strcmp((char *)getauxval(AT_EXECFN), argv[0]), getauxval(AT_PHDR) != 0,
           in_maps((void *)getauxval(AT_ENTRY), "r-xp"));
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    printf("stack limit %lu\n", (unsigned long)limit.rlim_cur);
    printf("too large: %s\n", outcome(mmap(0, 1ul << 46, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED) ? "tried" : "");
    /* Code that is data first, then runs, then is rewritten. */
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 1; i <= 3; i++) {
        unsigned char bytes[] = {0xb8, (unsigned char)i, 0, 0, 0, 0xc3};
        memcpy(code, bytes, sizeof bytes);
        printf("code %d\n", ((int (*)(void))code)());
    }
    /* The kernel writes to a page that has been executed. */
    int fd = open("/proc/self/exe", O_RDONLY);
    printf("read into it: %zd\n", read(fd, code + 64, 16));
    return 0;
}
