/* What rt_sigreturn takes from a frame that the handler has changed, what it refuses, and what SA_RESETHAND leaves. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { CODE, STACK, CONTROL, MISALIGNED, FLAGS, NOTHING, KINDS };
static int kind;

static void change(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
    greg_t *registers = machine->gregs;
    switch (kind) {
    case CODE: registers[REG_CSGSFS] &= ~0xffffll; break;
    case STACK: registers[REG_CSGSFS] = (registers[REG_CSGSFS] & ~(0xffffll << 48)) | 0x1234ll << 48; break;
    case CONTROL: machine->fpregs->mxcsr = 0xffff1f80; break;
    case MISALIGNED: machine->fpregs = (void *)((char *)machine->fpregs + 1); break;
    case FLAGS: registers[REG_EFL] |= 0x204001; break; /* ID, NT, CF */
    }
}

static void refused(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    printf("signal %d code %d trap %lld error %llx\n", signal, info->si_code, registers[REG_TRAPNO], registers[REG_ERR]);
    fflush(stdout);
    _exit(0);
}

static void nothing(int signal) { (void)signal; }

int main(void) {
    for (kind = 0; kind < KINDS; kind++) {
        printf("%d: ", kind), fflush(stdout);
        if (!fork()) {
            struct sigaction action = {.sa_sigaction = change, .sa_flags = SA_SIGINFO};
            sigaction(SIGUSR1, &action, NULL);
            action.sa_sigaction = refused;
            sigaction(SIGSEGV, &action, NULL);
            raise(SIGUSR1);
            uint64_t flags;
            __asm__ volatile("pushf; pop %0" : "=r"(flags));
            printf("goes on, flags %lx\n", (unsigned long)flags & 0x204000);
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
    }
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESETHAND | SA_RESTART};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &action);
    printf("reset: default %d, flags %x, mask %d\n", action.sa_handler == SIG_DFL, action.sa_flags & ~0x04000000,
           sigismember(&action.sa_mask, SIGUSR2));
    return 0;
}
