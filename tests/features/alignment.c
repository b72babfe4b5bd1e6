// With AC set, accesses that aren't aligned raise #AC, and others don't.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static uint8_t *code, *data;
static int seen;
static char text[200];

// Linux leaves AC set in handlers, and C code may be compiled to what it refuses.
__attribute__((naked)) static void on_signal(int signal, siginfo_t *info, void *context) {
    asm("pushfq; andl $~0x40000, (%rsp); popfq; jmp handle");
}

__attribute__((used)) static void handle(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen = signal;
    sprintf(text, "code %d address %p rip %lld vector %lld error %lld AC %lld RF %lld", info->si_code, info->si_addr,
            g[REG_RIP] - (long long)code, (long long)g[REG_TRAPNO], (long long)g[REG_ERR], (long long)g[REG_EFL] >> 18 & 1,
            (long long)g[REG_EFL] >> 16 & 1);
    g[REG_EFL] &= ~0x40000;
    g[REG_RIP] = (long long)code + 4000;
}

static void access_at(const char *name, const uint8_t *bytes, size_t n) {
    memcpy(code, bytes, n);
    code[4000] = 0xc3;
    printf("%-10s", name);
    for (int offset = 1; offset < 16; offset *= 2) {
        seen = 0;
        asm volatile("push %%rbx; mov %%rsp, %%r15; mov %0, %%rdi; mov %0, %%rsi; mov $1, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx\n"
                     "xor %%ebx, %%ebx; fld1; call *%1; mov %%r15, %%rsp; pop %%rbx; fninit; emms"
                     : : "r"(data + offset), "r"(code)
                     : "rax", "rcx", "rdx", "rdi", "rsi", "r15", "memory", "cc", "xmm0");
        printf(" %d", seen);
    }
    printf("\n");
}

#define ACCESS(name, ...)                                                                                 \
    do {                                                                                                  \
        const uint8_t bytes[] = {0x31, 0xc0, 0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d, __VA_ARGS__, 0x9c, \
                                 0x81, 0x24, 0x24, 0xff, 0xff, 0xfb, 0xff, 0x9d, 0xc3};                   \
        access_at(name, bytes, sizeof bytes);                                                             \
    } while (0)

int main(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, 0);
    code = mmap(0, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data = code + 8192;
    ACCESS("mov8", 0x8a, 0x07);
    ACCESS("mov16", 0x66, 0x8b, 0x07);
    ACCESS("mov32", 0x8b, 0x07);
    ACCESS("mov64", 0x48, 0x8b, 0x07);
    ACCESS("store", 0x48, 0x89, 0x07);
    printf("%s\n", text);
    ACCESS("movups", 0x0f, 0x10, 0x07);
    ACCESS("movdqu", 0xf3, 0x0f, 0x7f, 0x07);
    ACCESS("lddqu", 0xf2, 0x0f, 0xf0, 0x07);
    ACCESS("movsd", 0xf2, 0x0f, 0x10, 0x07);
    ACCESS("movss", 0xf3, 0x0f, 0x10, 0x07);
    ACCESS("fld80", 0xdb, 0x2f);
    ACCESS("fld64", 0xdd, 0x07);
    ACCESS("fild16", 0xdf, 0x07);
    ACCESS("lock add", 0xf0, 0x48, 0x01, 0x07);
    ACCESS("movsq", 0x48, 0xa5);
    ACCESS("rep movsw", 0xf3, 0x66, 0xa5);
    ACCESS("rep none", 0x31, 0xc9, 0xf3, 0x66, 0xa5);
    ACCESS("cmpxchg8b", 0x0f, 0xc7, 0x0f);
    ACCESS("stmxcsr", 0x0f, 0xae, 0x1f);
    ACCESS("clflush", 0x0f, 0xae, 0x3f);
    ACCESS("prefetch", 0x0f, 0x18, 0x0f);
    ACCESS("nop", 0x0f, 0x1f, 0x07);
    ACCESS("lea", 0x48, 0x8d, 0x07);
    ACCESS("pmovzxbw", 0x66, 0x0f, 0x38, 0x30, 0x07);
    ACCESS("pinsrw", 0x66, 0x0f, 0xc4, 0x07, 0);
    ACCESS("maskmov", 0x66, 0x0f, 0xf7, 0xc0);
    ACCESS("movnti", 0x48, 0x0f, 0xc3, 0x07);
    ACCESS("verr", 0x0f, 0x00, 0x27);
    ACCESS("sgdt", 0x0f, 0x01, 0x07);
    ACCESS("crc32", 0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x07);
    // AC and TF may be toggled without any effect.
    uint64_t flags;
    asm volatile("pushfq; pop %0" : "=r"(flags));
    printf("AC %d\n", (int)(flags >> 18 & 1));
}
