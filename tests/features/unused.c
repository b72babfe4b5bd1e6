// Accesses whose result nothing uses, in hot code of a program without a handler: it dies of them where they fault.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACCESSES(ACCESS) \
    ACCESS(test, "testb %%al, (%0)") \
    ACCESS(compare, "cmpl $1, (%0)\n cmpl $1, %%eax") \
    ACCESS(or_zero, "orq $0, (%0)") \
    ACCESS(and_ones, "andb $-1, (%0)") \
    ACCESS(add_zero, "addl $0, (%0)") \
    ACCESS(subtract_zero, "subw $0, 8(%0)") \
    ACCESS(exclusive_or_zero, "xorb $0, (%0)") \
    ACCESS(locked_or_zero, "lock orl $0, 12(%0)") \
    ACCESS(locked_and_ones, "lock andw $-1, 20(%0)") \
    ACCESS(or_register, "xor %%eax, %%eax\n orl %%eax, 4(%0)") \
    ACCESS(overwritten, "movl (%0), %%eax\n movl $0, %%eax") \
    ACCESS(overwritten_vector, "movdqu 16(%0), %%xmm0\n pxor %%xmm0, %%xmm0") \
    ACCESS(stored_back, "movb 3(%0), %%al\n movb %%al, 3(%0)") \
    ACCESS(quadword_stored_back, "movq (%0), %%rax\n movq %%rax, (%0)")

#define FUNCTION(name, text) \
    __attribute__((noinline)) static void name(char *p) { \
        asm volatile(text : : "r"(p) : "memory", "cc", "rax", "xmm0"); \
        asm volatile("xor %%eax, %%eax" : : : "rax", "cc"); \
    }
ACCESSES(FUNCTION)

#define ROW(name, text) {#name, name},
static const struct {
    const char *name;
    void (*access)(char *);
} accesses[] = {ACCESSES(ROW)};

static char *page(int protection) {
    char *p = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(1);
    return p;
}

int main(void) {
    char *writable = page(PROT_READ | PROT_WRITE), *places[] = {page(PROT_NONE), page(PROT_READ)};
    for (size_t n = 0; n < sizeof accesses / sizeof *accesses; n++) {
        for (int i = 0; i < 3000; i++) accesses[n].access(writable);
        for (int place = 0; place < 2; place++) {
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                accesses[n].access(places[place]);
                _exit(0);
            }
            int status = 0;
            waitpid(child, &status, 0);
            printf("%s, %s: %d\n", accesses[n].name, place ? "read-only" : "no access", status);
        }
    }
}
