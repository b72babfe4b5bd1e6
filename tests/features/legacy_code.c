// Goes to 32-bit code by a far return.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_signal(int signal) {
    printf("signal %d\n", signal);
    fflush(stdout);
    _exit(0);
}

int main(void) {
    signal(SIGILL, on_signal);
    asm volatile("pushq $0x23; lea 1f(%%rip), %%rax; push %%rax; lretq; 1: nop" ::: "rax", "memory");
    printf("not reached\n");
}
