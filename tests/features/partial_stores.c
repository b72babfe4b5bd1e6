// A store over two pages, one of which can't be written, writes nothing; its fault names the first byte that can't be.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static uint8_t *code, *pages;  // two pages
static sigjmp_buf back;
static long address, stack_pointer;

static void on_signal(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    address = (uint8_t *)info->si_addr - pages;
    stack_pointer = g[REG_RSP] - (long)pages;
    siglongjmp(back, signal);
}

enum { SECOND, FIRST, BOTH };

static void store(const char *name, int before, const uint8_t *bytes, size_t n) {
    memcpy(code, bytes, n);
    for (int bad = SECOND; bad <= BOTH; bad++) {
        mprotect(pages, 8192, PROT_READ | PROT_WRITE);
        memset(pages, 0x55, 8192);
        if (bad != SECOND) mprotect(pages, 4096, PROT_READ);
        if (bad != FIRST) mprotect(pages + 4096, 4096, PROT_READ);
        address = 0;
        int signal = sigsetjmp(back, 1);
        if (!signal)
            asm volatile("push %%rbx; mov %%rsp, %%r15; sub $128, %%rsp; mov %0, %%rdi; mov %0, %%rsi; pcmpeqd %%xmm0, %%xmm0\n"
                         "pcmpeqd %%xmm1, %%xmm1; pcmpeqd %%mm0, %%mm0; pcmpeqd %%mm1, %%mm1; emms; fld1; xor %%ebx, %%ebx\n"
                         "mov $3, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; call *%1; mov %%r15, %%rsp; pop %%rbx; fninit; emms"
                         : : "r"(pages + 4096 - before), "r"(code)
                         : "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r14", "r15", "memory", "cc", "xmm0", "xmm1");
        asm volatile("emms; fninit");
        int changed = 0;
        for (int i = 0; i < 8192; i++) changed += pages[i] != 0x55;
        long sp = stack_pointer >= 0 && stack_pointer < 8192 ? stack_pointer - 4096 : 0;
        // Where both can't be written, processors may name either; of a masked store, any byte.
        long at = bad == BOTH ? 0 : strncmp(name, "mask", 4) ? address - 4096 : address / 4096;
        printf("%-16s %d: signal %d at %ld, %d changed, rsp %ld\n", name, bad, signal, at, changed, sp);
    }
}

#define STORE(name, before, ...)                        \
    do {                                                \
        const uint8_t bytes[] = {__VA_ARGS__, 0xc3};    \
        store(name, before, bytes, sizeof bytes);       \
    } while (0)
// With rsp where rdi is, so many bytes before the border.
#define PUSHES(name, before, ...) STORE(name, before, 0x31, 0xc0, 0x48, 0x89, 0xfc, __VA_ARGS__, 0x4c, 0x89, 0xfc)

int main(int argc, char **argv) {
    (void)argv;
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaltstack(&stack, 0);
    sigaction(SIGSEGV, &action, 0);
    code = mmap(0, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    STORE("maskmovdqu", 8, 0x66, 0x0f, 0xf7, 0xc1);
    STORE("maskmovdqu 15", 15, 0x66, 0x0f, 0xf7, 0xc1);
    STORE("maskmovdqu 1", 1, 0x66, 0x0f, 0xf7, 0xc1);
    STORE("maskmovq", 4, 0x0f, 0xf7, 0xc1);
    // AArch64 doesn't promise it of one store of 16 bytes, and an emulator makes two of it.
    if (argc == 1) {
        STORE("movups", 8, 0x0f, 0x11, 0x07);
        STORE("movdqu", 1, 0xf3, 0x0f, 0x7f, 0x07);
    }
    STORE("movhps", 4, 0x0f, 0x17, 0x07);
    STORE("mov", 4, 0x48, 0x89, 0x07);
    STORE("mov16", 1, 0x66, 0x89, 0x07);
    STORE("movbe", 4, 0x48, 0x0f, 0x38, 0xf1, 0x37);
    STORE("movnti", 4, 0x48, 0x0f, 0xc3, 0x37);
    STORE("movsq", 4, 0x48, 0xa5);
    STORE("stosq", 4, 0x48, 0xab);
    STORE("rep stosq", 12, 0xf3, 0x48, 0xab);
    // No locked ones: over two pages, a virtual machine may hang in them.
    STORE("add", 4, 0x48, 0x01, 0x37);
    STORE("xadd", 4, 0x48, 0x0f, 0xc1, 0x07);
    STORE("cmpxchg8b", 4, 0x0f, 0xc7, 0x0f);
    STORE("cmpxchg", 4, 0xb8, 1, 0, 0, 0, 0x48, 0x0f, 0xb1, 0x37);
    STORE("shld", 4, 0x48, 0x0f, 0xa4, 0x37, 4);
    STORE("pop [rdi]", 4, 0x6a, 1, 0x8f, 0x07);
    STORE("stmxcsr", 2, 0x0f, 0xae, 0x1f);
    STORE("fxsave", 256, 0x0f, 0xae, 0x07);
    STORE("fst", 5, 0xdd, 0x17);
    STORE("fistp", 4, 0xdf, 0x3f);
    PUSHES("push", -4, 0x50);
    PUSHES("call", -4, 0xe8, 0, 0, 0, 0);
    PUSHES("pushf", -4, 0x9c);
    PUSHES("enter", -4, 0xc8, 0, 0, 0);
    PUSHES("enter, two slots", -12, 0xc8, 0, 0, 1);
    PUSHES("enter, a frame", -12, 0xc8, 0x10, 0, 0);
}
