// Programs that single-step themselves with TF: where each trap comes, and what its frame says.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define TF 0x100
#define RF 0x10000

static uint8_t *code;
static char log_text[16384];
static int length, seen, stop_after;

static void on_signal(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    const char *address = info->si_addr == (void *)g[REG_RIP] ? "rip" : info->si_addr ? "?" : "0";
    if (info->si_code <= 0) address = "-";
    uint64_t now;
    asm volatile("pushfq; pop %0" : "=r"(now));
    length += sprintf(log_text + length, " %d/%d@%llx,%s,%lld%s%s%s", signal, info->si_code,
                      g[REG_RIP] - (long long)code, address, (long long)g[REG_TRAPNO], g[REG_EFL] & TF ? "" : ",off",
                      g[REG_EFL] & RF ? ",RF" : "", now & TF ? ",on in the handler" : "");
    if (++seen > 40 || seen == stop_after) g[REG_EFL] &= ~TF;
    if (signal == SIGSEGV || signal == SIGILL) g[REG_RIP] += 2;
}

#define ON 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d              // pushf; or dword [rsp], TF; popf
#define OFF 0x9c, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d  // pushf; and dword [rsp], ~TF; popf

static void run(const char *name, const uint8_t *bytes, size_t n) {
    memcpy(code, bytes, n);
    length = seen = 0;
    log_text[0] = 0;
    uint64_t result;
    asm volatile("call *%1" : "=a"(result) : "r"(code), "D"(code + 8192)
                 : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
    printf("%s: %d:%s\n", name, seen, log_text);
}

#define STEPS(name, ...)                                                       \
    do {                                                                       \
        const uint8_t bytes[] = {0x31, 0xc0, 0x53, ON, __VA_ARGS__, OFF, 0x90, 0x5b, 0xc3}; \
        run(name, bytes, sizeof bytes);                                        \
    } while (0)

// The handler sets TF in the frame: stepping begins behind the return from it.
static void on_first(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (++seen == 1) g[REG_EFL] |= TF;
    if (seen == 4) g[REG_EFL] &= ~TF;
    length += sprintf(log_text + length, " %d/%d", signal, info->si_code);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    const int caught[] = {SIGSEGV, SIGTRAP, SIGILL, SIGUSR1};
    for (int i = 0; i < 4; i++) sigaction(caught[i], &action, 0);
    code = mmap(0, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    STEPS("nop", 0x90);
    STEPS("loop", 0xb9, 3, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc);
    STEPS("syscall", 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90);
    STEPS("unknown syscall", 0xb8, 0xff, 0xff, 0, 0, 0x0f, 0x05, 0x90);
    STEPS("int 0x80", 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x90, 0x90);
    STEPS("rep stosb", 0xb9, 3, 0, 0, 0, 0xf3, 0xaa, 0x90);
    STEPS("rep movsb", 0x48, 0x89, 0xfe, 0xb9, 3, 0, 0, 0, 0xf3, 0xa4, 0x90);
    STEPS("rep nothing", 0x31, 0xc9, 0xf3, 0xaa, 0x90);
    STEPS("repe cmpsb", 0x48, 0x89, 0xfe, 0xb9, 3, 0, 0, 0, 0xf3, 0xa6, 0x90);
    STEPS("jump to itself", 0xb9, 2, 0, 0, 0, 0xe2, 0xfe, 0x90);
    STEPS("cpuid", 0x31, 0xc0, 0x0f, 0xa2, 0x90);
    STEPS("rdtsc", 0x0f, 0x31, 0x90);
    STEPS("pushf", 0x9c, 0x58, 0x90);
    STEPS("int3", 0xcc, 0x90, 0x90);
    STEPS("int 3", 0xcd, 3, 0x90);
    STEPS("mov ss", 0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90);
    STEPS("mov ss twice", 0x8c, 0xd0, 0x8e, 0xd0, 0x8e, 0xd0, 0x90, 0x90);
    STEPS("mov ss pushf", 0x8c, 0xd0, 0x8e, 0xd0, 0x9c, 0x58, 0x90);
    STEPS("mov ss syscall", 0xb8, 39, 0, 0, 0, 0x8c, 0xd1, 0x8e, 0xd1, 0x0f, 0x05, 0x90, 0x90);
    STEPS("mov ss int3", 0x8c, 0xd0, 0x8e, 0xd0, 0xcc, 0x90, 0x90);
    STEPS("mov ds", 0x8c, 0xd8, 0x8e, 0xd8, 0x90);
    STEPS("ud2", 0x90, 0x0f, 0x0b, 0x90);
    STEPS("hlt", 0x90, 0x66, 0xf4, 0x90);
    STEPS("load null", 0x31, 0xc0, 0x8b, 0x00, 0x90);
    STEPS("jump", 0xeb, 0, 0x90);
    STEPS("call and return", 0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3, 0x90);
    STEPS("popf", 0x9c, 0x9d, 0x9c, 0x9d);
    STEPS("popfw", 0x66, 0x9c, 0x66, 0x9d, 0x90);
    STEPS("smsw", 0x0f, 0x01, 0xe0, 0x90);
    STEPS("x87", 0xd9, 0xe8, 0xdd, 0xd8);
    STEPS("iretq", 0x48, 0x89, 0xe1, 0x6a, 0x2b, 0x51, 0x9c, 0x6a, 0x33, 0x48, 0x8d, 0x05, 3, 0, 0, 0, 0x50, 0x48, 0xcf, 0x90);
    STEPS("iretq without TF", 0x48, 0x89, 0xe1, 0x6a, 0x2b, 0x51, 0x68, 2, 2, 0, 0, 0x6a, 0x33, 0x48, 0x8d, 0x05, 3, 0, 0, 0,
          0x50, 0x48, 0xcf, 0x90);
    // A signal that is sent: its frame has TF, its handler doesn't.
    STEPS("kill", 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x89, 0xc7, 0xbe, 10, 0, 0, 0, 0xb8, 62, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90);
    // The handler ends it.
    stop_after = 3;
    STEPS("ended by the handler", 0x90, 0x90, 0x90, 0x90, 0x90);
    stop_after = 0;
    // IRET sets TF, hot code runs before and after.
    for (int i = 0; i < 3; i++) {
        const uint8_t bytes[] = {0x31, 0xc0, 0x48, 0x89, 0xe1, 0x6a, 0x2b, 0x51, 0x68, 2, 3, 0, 0, 0x6a, 0x33, 0x48, 0x8d, 0x05, 3, 0, 0, 0,
                                 0x50, 0x48, 0xcf, 0x90, OFF, 0xc3};
        volatile int sum = 0;
        for (int k = 0; k < 1000; k++) sum += k;
        run("set by iretq", bytes, sizeof bytes);
    }
    length = seen = 0;
    action.sa_sigaction = on_first;
    sigaction(SIGTRAP, &action, 0);
    asm volatile("int3; nop; nop; nop; nop; nop; nop");
    printf("set in the handler: %d:%s\n", seen, log_text);
    // Flags that code overwrites before it reads them are right in the frame, too.
    action.sa_sigaction = on_signal;
    sigaction(SIGTRAP, &action, 0);
    // Without a handler it is death.
    fflush(stdout);
    signal(SIGTRAP, SIG_DFL);
    asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc");
    printf("not reached\n");
}
