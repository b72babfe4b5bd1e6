/* Signal actions, masks, alternate stacks, faults with a handler, alarms, siglongjmp. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t got, nested, ticks;
static sigjmp_buf env;
static void *fault_address;
static int fault_code;

static void simple(int sig) { got = sig; }
static void nesting(int sig) { nested++; if (sig == SIGUSR1) raise(SIGUSR2), nested += 10; }
static void tick(int sig) { (void)sig; ticks++; }

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    got = sig, fault_address = info->si_addr, fault_code = info->si_code;
    siglongjmp(env, 1);
}

static void skip_ud2(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    got = sig;
    if ((void *)uc->uc_mcontext.gregs[REG_RIP] != info->si_addr) printf("rip and si_addr differ\n");
    uc->uc_mcontext.gregs[REG_RIP] += 2;
    uc->uc_mcontext.gregs[REG_RBX] = 4711;
}

static void install(int sig, void (*f)(int, siginfo_t *, void *), int flags) {
    struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&sa.sa_mask);
    sigaction(sig, &sa, 0);
}

static void poke(volatile uintptr_t address) { *(volatile int *)address = 1; }

static int divide(int a, int b) {
    __asm__ volatile("cltd; idivl %1" : "+a"(a) : "r"(b) : "edx", "cc");
    return a;
}

int main(void) {
    signal(SIGUSR1, simple);
    raise(SIGUSR1);
    printf("raise: %d\n", got == SIGUSR1);

    signal(SIGUSR1, nesting), signal(SIGUSR2, nesting);
    raise(SIGUSR1);
    printf("nested: %d\n", nested);

    sigset_t set, old, pending;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigprocmask(SIG_BLOCK, &set, &old);
    signal(SIGUSR1, simple), got = 0;
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    printf("blocked: %d pending: %d\n", got, sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, 0);
    printf("unblocked: %d\n", got == SIGUSR1);

    install(SIGSEGV, on_fault, 0), install(SIGFPE, on_fault, 0), install(SIGBUS, on_fault, 0);
    if (!sigsetjmp(env, 1)) poke(0x10);
    printf("null: %d %p code %d\n", got == SIGSEGV, fault_address, fault_code);
    char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(env, 1)) page[5] = 1;
    printf("read-only: %d %d code %d\n", got == SIGSEGV, (int)((char *)fault_address - page), fault_code);
    if (!sigsetjmp(env, 1)) printf("%d\n", divide(1, 0));
    printf("division: %d code %d\n", got == SIGFPE, fault_code);

    stack_t alt = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&alt, 0);
    install(SIGSEGV, on_fault, SA_ONSTACK);
    if (!sigsetjmp(env, 1)) poke(0x20);
    printf("on the alternate stack: %p\n", fault_address);

    install(SIGILL, skip_ud2, 0);
    long rbx = 0;
    __asm__ volatile("xor %%ebx, %%ebx\n\tud2\n\tmov %%rbx, %0" : "=r"(rbx) : : "rbx");
    printf("ud2: %d rbx %ld\n", got == SIGILL, rbx);

    signal(SIGALRM, tick);
    struct itimerval every = {{0, 10000}, {0, 10000}};
    setitimer(ITIMER_REAL, &every, 0);
    volatile unsigned long spin = 0;
    while (ticks < 3) spin++;
    while (ticks < 5) pause();
    every.it_value.tv_usec = every.it_interval.tv_usec = 0;
    setitimer(ITIMER_REAL, &every, 0);
    printf("ticks: %d\n", ticks >= 5);

    pid_t child = fork();
    if (!child) { signal(SIGTERM, SIG_DFL); kill(getpid(), SIGTERM); _exit(9); }
    int status;
    waitpid(child, &status, 0);
    printf("child: signalled %d by %d\n", WIFSIGNALED(status), WTERMSIG(status));

    int pipes[2];
    if (pipe(pipes)) return 1;
    struct sigaction sa = {.sa_handler = simple};
    sigaction(SIGALRM, &sa, 0);
    alarm(1);
    char c;
    long r = read(pipes[0], &c, 1);
    printf("interrupted read: %ld errno %d\n", r, errno);
    fflush(stdout);
    signal(SIGSEGV, SIG_DFL);
    poke(0x30);
    return 0;
}
