// Runs pieces of machine code, each from a fixed state, and says how it ends: by a return, or by which signal.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE ((uint8_t *)0x50000000)  // 16 pages: two of code, then data
#define DATA (CODE + 8192)
#define AREA 65536

static sigjmp_buf back;
static const char *name;
static uint8_t *piece = CODE;  // the one that runs
static uint8_t alternate[65536];
static int show_registers;

static const char *where(const void *address, const ucontext_t *uc) {
    static char text[2][40];
    static int n;
    char *t = text[n ^= 1];
    const uint8_t *a = address;
    if (a >= piece && a < piece + 64) sprintf(t, "code+%ld", (long)(a - piece));
    else if (a >= CODE && a < CODE + AREA) sprintf(t, "area+%lx", (long)(a - CODE));
    else if (uc && a == (uint8_t *)uc->uc_mcontext.gregs[REG_RIP]) sprintf(t, "rip");
    else sprintf(t, "%p", address);
    return t;
}

static void on_signal(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    int is_page_fault = g[REG_TRAPNO] == 14;
    printf("%-20s signal %d code %d address %s rip %s vector %lld error %llx RF %lld", name, signal, info->si_code,
           where(info->si_addr, uc), where((void *)g[REG_RIP], 0), (long long)g[REG_TRAPNO], (long long)g[REG_ERR],
           (long long)g[REG_EFL] >> 16 & 1);
    if (is_page_fault) printf(" cr2 %s", (void *)g[REG_CR2] == info->si_addr ? "same" : "other");
    if (show_registers) printf(" rax %llx rcx %llx", (long long)g[REG_RAX], (long long)g[REG_RCX]);
    printf("\n");
    static int signals;
    if (++signals > 1000) _exit(99);  // a test that faults by itself
    siglongjmp(back, 1);
}

static void catch_signals(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, 0);
    const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (unsigned i = 0; i < sizeof caught / sizeof *caught; i++) sigaction(caught[i], &action, 0);
    mmap(CODE, AREA, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static uint64_t out[4];  // rax, rdx, rcx and the flags behind a piece that returns

static void call_piece(void) {
    asm volatile(
        "push %%rbx; push %%rbp; mov %%rsp, %%r15; sub $128, %%rsp; pushq $0x8d7; popfq\n"
        "mov $0x1111222233334444, %%rax; mov $0xaaaabbbbccccdddd, %%rdx; mov $0x2b, %%ecx; mov %0, %%rdi\n"
        "xor %%esi, %%esi; xor %%ebx, %%ebx; mov $0x8888, %%r8d; mov $0x9999, %%r9d; call *%1\n"
        "pushfq; pop %%r14; mov %%r15, %%rsp; pop %%rbp; pop %%rbx; cld\n"
        "mov %%rax, %2; mov %%rdx, %3; mov %%rcx, %4; mov %%r14, %5"
        : : "r"(DATA), "r"(piece), "m"(out[0]), "m"(out[1]), "m"(out[2]), "m"(out[3])
        : "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

// Puts the bytes in place and runs them; a return follows them. The pieces of a program lie in slots of 64 bytes.
static int run_piece(const char *what, const uint8_t *bytes, unsigned length) {
    static const uint8_t ret = 0xc3;
    name = what;
    memcpy(piece, bytes, length);
    memcpy(piece + length, &ret, 1);
    if (sigsetjmp(back, 1)) return 0;
    call_piece();
    return 1;
}

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define NEXT_SLOT() (piece = piece + 64 < CODE + 4096 ? piece + 64 : CODE)

// A piece that should raise something.
#define RAISES(what, ...)                                                              \
    do {                                                                               \
        if (run_piece(what, BYTES(__VA_ARGS__))) printf("%-20s returns\n", what);      \
        NEXT_SLOT();                                                                   \
    } while (0)

// A piece whose results count, and the first words of the data.
#define GIVES(what, ...)                                                                                          \
    do {                                                                                                          \
        memset(DATA, 0x55, 64);                                                                                   \
        if (run_piece(what, BYTES(__VA_ARGS__)))                                                                  \
            printf("%-20s rax %lx rdx %lx rcx %lx ZF %ld data %016lx %016lx\n", what, out[0], out[1], out[2],     \
                   out[3] >> 6 & 1, ((uint64_t *)DATA)[0], ((uint64_t *)DATA)[1]);                                \
        NEXT_SLOT();                                                                                              \
    } while (0)

#define QUAD(v) (uint8_t)(v), (uint8_t)((v) >> 8), (uint8_t)((v) >> 16), (uint8_t)((v) >> 24), \
    (uint8_t)((uint64_t)(v) >> 32), (uint8_t)((uint64_t)(v) >> 40), (uint8_t)((uint64_t)(v) >> 48), (uint8_t)((uint64_t)(v) >> 56)
#define MOV_RAX(v) 0x48, 0xb8, QUAD(v)
#define MOV_RBP(v) 0x48, 0xbd, QUAD(v)
#define MOV_RSP(v) 0x48, 0xbc, QUAD(v)
#define MOV_ECX(v) 0xb9, (uint8_t)(v), (uint8_t)((v) >> 8), 0, 0
// AArch64 ignores the upper byte of an address; this one it refuses, too.
#define NONCANONICAL 0x0080000000000000
