/* What a handler is told about a fault, and what its changes to the context do. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <fcntl.h>
#include <xmmintrin.h>

static sigjmp_buf env;
static char *page;

static void show(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    uintptr_t at = (uintptr_t)info->si_addr;
    /* Addresses vary; their distance to the page doesn't. */
    long rel = at >= (uintptr_t)page && at < (uintptr_t)page + 8192 ? (long)(at - (uintptr_t)page) : -1;
    int at_rip = at == (uintptr_t)g[REG_RIP];
    printf("signal %d code %d addr %s%ld at rip %d trapno %d err %d cr2 is addr %d\n", sig, info->si_code,
           at ? "" : "null ", rel, at_rip, (int)g[REG_TRAPNO], (int)g[REG_ERR],
           g[REG_TRAPNO] == 14 ? (uintptr_t)g[REG_CR2] == at : -1);
    siglongjmp(env, 1);
}

static void repair(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    mprotect((void *)((uintptr_t)info->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE);
}

static void skip(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    g[REG_RIP] += 3; /* the faulting `mov (%rax), %rbx` */
    g[REG_RBX] = 77;
    g[REG_EFL] |= 1;
    uc->uc_mcontext.fpregs->_xmm[7].element[0] = 4711;
}

static void install(int sig, void (*f)(int, siginfo_t *, void *)) {
    struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO};
    sigaction(sig, &sa, 0);
}

#define TRY(what) do { if (!sigsetjmp(env, 1)) { what; printf("no fault\n"); } } while (0)

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    page = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (int i = 0; i < 5; i++) install(sigs[i], show);
    TRY(*(volatile char *)(page + 5) = 1);
    munmap(page + 4096, 4096);
    TRY((void)*(volatile char *)(page + 4096 + 7));
    TRY(*(volatile int *)0 = 0);
    TRY((void)*(volatile long *)0x8000000000000000ul);
    TRY(((void (*)(void))(page + 16))());
    TRY(((void (*)(void))(page + 4096))());
    TRY(__asm__ volatile("ud2"));
    TRY(__asm__ volatile("int3"));
    TRY(__asm__ volatile("hlt"));
    TRY(__asm__ volatile("xor %%edx, %%edx; mov $1, %%eax; xor %%ecx, %%ecx; div %%rcx" ::: "rax", "rcx", "rdx"));
    TRY(__asm__ volatile("mov $1, %%edx; mov $1, %%eax; mov $1, %%ecx; div %%rcx" ::: "rax", "rcx", "rdx"));
    TRY(__asm__ volatile("movaps (%0), %%xmm1" ::"r"(page + 1) : "xmm1"));
    _mm_setcsr(_mm_getcsr() & ~_MM_MASK_DIV_ZERO);
    TRY(__asm__ volatile("divss %0, %1" ::"x"(0.0f), "x"(1.0f)));
    _mm_setcsr(0x1f80);
    int fd = memfd_create("short", 0);
    char *beyond = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    TRY((void)*(volatile char *)beyond);

    install(SIGSEGV, repair);
    page[9] = 42;
    printf("repaired: %d\n", page[9]);

    install(SIGSEGV, skip);
    long rbx, carry, xmm;
    __asm__ volatile("xor %%eax, %%eax\n\tclc\n\tmov (%%rax), %%rbx\n\tsbb %%rcx, %%rcx\n\tmovq %%xmm7, %2"
                     : "=b"(rbx), "=c"(carry), "=r"(xmm) : : "rax", "xmm7", "cc");
    printf("changed: rbx %ld carry %ld xmm %ld\n", rbx, carry, xmm);

    /* A handler that is blocked can't save the process. */
    fflush(stdout);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGSEGV), sigprocmask(SIG_BLOCK, &set, 0);
    *(volatile int *)8 = 0;
    return 0;
}
