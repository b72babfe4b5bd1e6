// Each kind of fault: signal, si_code, si_addr, instruction pointer, vector, error code and RF.
#include "snippets.h"

#include <sys/wait.h>

static void pages(int protection) {
    munmap(DATA, 8192);
    if (protection >= 0) mmap(DATA, 8192, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void data(void) {
    DATA[0] = 1;
    mprotect(DATA, 4096, PROT_NONE);
    RAISES("load none", 0x8b, 0x07);
    RAISES("store none", 0x89, 0x07);
    RAISES("rmw none", 0x83, 0x07, 1);
    RAISES("lock rmw none", 0xf0, 0x83, 0x07, 1);
    RAISES("cmp none", 0x83, 0x3f, 1);
    RAISES("cmpxchg none", 0x0f, 0xb1, 0x0f);
    RAISES("bts none", 0x0f, 0xba, 0x2f, 1);
    mprotect(DATA, 4096, PROT_READ);
    RAISES("store read-only", 0xc6, 0x07, 1);
    RAISES("rmw read-only", 0x83, 0x07, 1);
    RAISES("lock rmw read-only", 0xf0, 0xff, 0x07);
    RAISES("setc read-only", 0x0f, 0x92, 0x07);
    pages(-1);
    RAISES("load unmapped", 0x8b, 0x07);
    RAISES("store unmapped", 0x89, 0x07);
    RAISES("load null", 0x31, 0xff, 0x8b, 0x07);
    RAISES("store null+8", 0x31, 0xff, 0x89, 0x47, 8);
    RAISES("load kernel", 0x48, 0xc7, 0xc0, 0, 0, 0, 0x80, 0x8b, 0);
    RAISES("store kernel", MOV_RAX(0xffff800000000000), 0x89, 0);
}

static void noncanonical(void) {
    pages(PROT_READ | PROT_WRITE);
    RAISES("load", MOV_RAX(NONCANONICAL), 0x8b, 0);
    RAISES("load, a tag", MOV_RAX(1ull << 63), 0x8b, 0);
    RAISES("push, a tag", MOV_RSP(1ull << 63), 0x50);
    RAISES("jump, a tag", MOV_RAX(1ull << 63), 0xff, 0xe0);
    RAISES("store", MOV_RAX(0x800000000000), 0x89, 0);
    RAISES("rmw", MOV_RAX(NONCANONICAL), 0x83, 0, 1);
    RAISES("push [..]", MOV_RAX(NONCANONICAL), 0xff, 0x30);
    RAISES("clflush", MOV_RAX(NONCANONICAL), 0x0f, 0xae, 0x38);
    GIVES("lea", MOV_RAX(NONCANONICAL), 0x48, 0x8d, 0x08);
    GIVES("prefetch", MOV_RAX(NONCANONICAL), 0x0f, 0x18, 0x08);
    GIVES("nop", MOV_RAX(NONCANONICAL), 0x0f, 0x1f, 0x00);
    RAISES("push", MOV_RSP(NONCANONICAL), 0x50);
    RAISES("pop", MOV_RSP(NONCANONICAL), 0x58);
    RAISES("pushf", MOV_RSP(NONCANONICAL), 0x9c);
    RAISES("call", MOV_RSP(NONCANONICAL), 0xe8, 0, 0, 0, 0);
    RAISES("ret", MOV_RSP(NONCANONICAL), 0xc3);
    RAISES("[rsp]", MOV_RSP(NONCANONICAL), 0x8b, 0x0c, 0x24);
    RAISES("[rbp]", MOV_RBP(NONCANONICAL), 0x8b, 0x4d, 0);
    RAISES("ds:[rbp]", MOV_RBP(NONCANONICAL), 0x3e, 0x8b, 0x4d, 0);
    RAISES("fs:[rbp]", MOV_RBP(NONCANONICAL), 0x64, 0x8b, 0x4d, 0);
    RAISES("ss:[rax]", MOV_RAX(NONCANONICAL), 0x36, 0x8b, 0x08);
    RAISES("[rax+rbp]", MOV_RAX(NONCANONICAL), 0x31, 0xed, 0x8b, 0x0c, 0x28);
    RAISES("[rbp+rax]", MOV_RAX(NONCANONICAL), 0x31, 0xed, 0x8b, 0x4c, 0x05, 0);
    RAISES("[r13]", 0x49, 0xbd, QUAD(NONCANONICAL), 0x41, 0x8b, 0x4d, 0);
    RAISES("leave", MOV_RBP(NONCANONICAL), 0xc9);
    RAISES("enter", MOV_RSP(NONCANONICAL), 0xc8, 0, 0, 0);
    RAISES("movaps [rsp]", MOV_RSP(NONCANONICAL), 0x0f, 0x28, 0x04, 0x24);
    RAISES("movaps [rsp+1]", MOV_RSP(NONCANONICAL + 1), 0x0f, 0x28, 0x04, 0x24);
    RAISES("movups [rbp]", MOV_RBP(NONCANONICAL), 0x0f, 0x10, 0x45, 0);
}

static void fetches(void) {
    pages(-1);
    RAISES("jump unmapped", 0xff, 0xe7);
    RAISES("call null", 0x31, 0xff, 0xff, 0xd7);
    pages(PROT_READ | PROT_WRITE);
    RAISES("jump untouched", 0xff, 0xe7);
    DATA[0] = 0xc3;
    RAISES("jump no exec", 0xff, 0xe7);
    mprotect(DATA, 4096, PROT_NONE);
    RAISES("jump none", 0xff, 0xe7);
    RAISES("jump kernel", MOV_RAX(0xffff800000000000), 0xff, 0xe0);
    RAISES("jump to the end", MOV_RAX(0x7ffffffff000), 0xff, 0xe0);
    show_registers = 1;
    RAISES("jump noncanonical", MOV_RAX(NONCANONICAL), 0xff, 0xe0);
    RAISES("jump [..]", 0x48, 0xb8, QUAD(NONCANONICAL), 0x50, 0xff, 0x24, 0x24);
    RAISES("call noncanonical", MOV_RAX(NONCANONICAL), 0xff, 0xd0);
    RAISES("ret noncanonical", MOV_RAX(NONCANONICAL), 0x50, 0xc3);
    RAISES("ret 16", MOV_RAX(NONCANONICAL), 0x50, 0xc2, 16, 0);
    show_registers = 0;
    int fd = memfd_create("short", 0);
    if (ftruncate(fd, 100)) return;
    mmap(DATA, 8192, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0);
    RAISES("load past the end", 0x8a, 0x87, 0, 16, 0, 0);
    RAISES("jump past the end", 0x48, 0x81, 0xc7, 0, 16, 0, 0, 0xff, 0xe7);
}

// What the registers are where a transfer faults: nothing is pushed or popped.
static int moved;
static void on_transfer(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    moved = g[REG_RSP] - g[REG_R12];
    (void)signal, (void)info;
    siglongjmp(back, 1);
}

static void stack_pointers(void) {
    struct sigaction action = {.sa_sigaction = on_transfer, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, old;
    sigaction(SIGSEGV, &action, &old);
#define MOVES(what, ...)                              \
    do {                                              \
        moved = 12345;                                \
        run_piece(what, BYTES(__VA_ARGS__));          \
        printf("%-20s rsp moved by %d\n", what, moved); \
        NEXT_SLOT();                                  \
    } while (0)
    MOVES("call", MOV_RAX(NONCANONICAL), 0x49, 0x89, 0xe4, 0xff, 0xd0);
    MOVES("ret", MOV_RAX(NONCANONICAL), 0x50, 0x49, 0x89, 0xe4, 0xc3);
    MOVES("ret 8", MOV_RAX(NONCANONICAL), 0x50, 0x49, 0x89, 0xe4, 0xc2, 8, 0);
    MOVES("jump", MOV_RAX(NONCANONICAL), 0x49, 0x89, 0xe4, 0xff, 0xe0);
    sigaction(SIGSEGV, &old, 0);
}

// Instructions over two pages, the second of which is another's.
static void borders(void) {
    pages(PROT_READ | PROT_WRITE);
    DATA[0] = 0;
    void (*end)(void) = (void (*)(void))(DATA - 2);
    memset(DATA - 2, 0x90, 2);
    name = "runs into no exec";
    piece = DATA - 2;
    if (!sigsetjmp(back, 1)) end();
    name = "half no exec";
    DATA[-1] = 0xb8;
    if (!sigsetjmp(back, 1)) end();
    name = "half unmapped";
    pages(-1);
    if (!sigsetjmp(back, 1)) end();
    // Both pages are watched: a change of either is seen.
    pages(PROT_READ | PROT_WRITE | PROT_EXEC);
    int (*over)(void) = (int (*)(void))(DATA - 2);
    memcpy(DATA - 2, (uint8_t[]){0xb8, 1, 2, 3, 4, 0xc3}, 6);
    printf("over two pages: %x", over());
    DATA[0] = 0x22;
    printf(" %x", over());
    DATA[-1] = 0x11;
    printf(" %x\n", over());
    piece = CODE;
}

static void undefined(void) {
    RAISES("ud2", 0x0f, 0x0b);
    RAISES("ud0", 0x0f, 0xff, 0xc0);
    RAISES("ud1", 0x0f, 0xb9, 0xc0);
    RAISES("push es", 0x06);
    RAISES("into", 0xce);
    RAISES("lock mov", 0xf0, 0x89, 0xc0);
    RAISES("lock hlt", 0xf0, 0xf4);
    RAISES("rsm", 0x0f, 0xaa);
    RAISES("clac", 0x0f, 0x01, 0xca);
    RAISES("monitor", 0x0f, 0x01, 0xc8);
    RAISES("vmxoff", 0x0f, 0x01, 0xc4);
    RAISES("vmread", 0x0f, 0x78, 0xc0);
    RAISES("getsec", 0x0f, 0x37);
    RAISES("mov cr5", 0x0f, 0x20, 0xe8);
    RAISES("15 bytes", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90);
    RAISES("16 bytes", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90);
    RAISES("16 with operands", 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, MOV_RAX(0x1234));
}

static void interrupts(void) {
    RAISES("int3", 0xcc);
    RAISES("int 3", 0xcd, 3);
    RAISES("int 4", 0xcd, 4);
    RAISES("int1", 0xf1);
    RAISES("int 0", 0xcd, 0);
    RAISES("int 1", 0xcd, 1);
    RAISES("int 0x42", 0xcd, 0x42);
    RAISES("int 0xff", 0xcd, 0xff);
    RAISES("hlt", 0xf4);
    RAISES("cli", 0xfa);
    RAISES("sti", 0xfb);
    RAISES("in", 0xe4, 0x10);
    RAISES("outs", 0x6e);
    RAISES("rdmsr", 0x0f, 0x32);
    RAISES("wrmsr", 0x0f, 0x30);
    RAISES("rdpmc", 0x0f, 0x33);
    RAISES("mov cr0", 0x0f, 0x20, 0xc0);
    RAISES("mov dr0", 0x0f, 0x21, 0xc0);
    RAISES("swapgs", 0x0f, 0x01, 0xf8);
    RAISES("lgdt", 0x0f, 0x01, 0x17);
    RAISES("lldt", 0x0f, 0x00, 0xd1);
    RAISES("lmsw", 0x0f, 0x01, 0xf1);
    RAISES("clts", 0x0f, 0x06);
    RAISES("wbinvd", 0x0f, 0x09);
    RAISES("invlpg", 0x0f, 0x01, 0x3f);
    RAISES("sysret", 0x0f, 0x07);
    RAISES("sysexit", 0x0f, 0x35);
}

static void arithmetic(void) {
    RAISES("div 0", 0x31, 0xc9, 0xf7, 0xf1);
    RAISES("div overflow", 0x31, 0xc0, 0xb9, 1, 0, 0, 0, 0xba, 2, 0, 0, 0, 0xf7, 0xf1);
    RAISES("idiv min/-1", 0xb8, 0, 0, 0, 0x80, 0x99, 0xb9, 255, 255, 255, 255, 0xf7, 0xf9);
    RAISES("div8 overflow", 0xb8, 0, 2, 0, 0, 0xb1, 1, 0xf6, 0xf1);
    RAISES("movaps misaligned", 0x0f, 0x28, 0x47, 1);
    RAISES("movntdq misaligned", 0x66, 0x0f, 0xe7, 0x47, 4);
    RAISES("paddd misaligned", 0x66, 0x0f, 0xfe, 0x47, 4);
    RAISES("cmpxchg16b", 0x48, 0x0f, 0xc7, 0x4f, 8);
    RAISES("ldmxcsr", 0x68, 0, 0, 1, 0, 0x0f, 0xae, 0x14, 0x24, 0x58);
    RAISES("fxrstor misaligned", 0x0f, 0xae, 0x4f, 4);
}

// A signal that is sent shows the last exception's numbers in its frame.
static void on_sent(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    printf("sent: code %d vector %lld error %llx RF %lld\n", info->si_code, (long long)g[REG_TRAPNO],
           (long long)g[REG_ERR], (long long)g[REG_EFL] >> 16 & 1);
    (void)signal;
}

// Without a handler, only the signal shows: code needn't know the registers then.
static void die(const char *what, const uint8_t *bytes, unsigned length) {
    fflush(stdout);
    int child = fork(), status;
    if (child == 0) {
        const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
        for (unsigned i = 0; i < sizeof caught / sizeof *caught; i++) signal(caught[i], SIG_DFL);
        run_piece(what, bytes, length);
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf("%-20s ends by %d\n", what, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void deaths(int emulated) {
#define DIES(what, ...) die(what, BYTES(__VA_ARGS__)), (void)NEXT_SLOT()
    DIES("null", 0x31, 0xff, 0x8b, 0x07);
    DIES("noncanonical", MOV_RAX(NONCANONICAL), 0x8b, 0x00);
    // An emulated processor doesn't tell which address was at fault.
    if (!emulated) {
        DIES("push", MOV_RSP(NONCANONICAL), 0x50);
        DIES("push, a tag", MOV_RSP(1ull << 63), 0x50);
        DIES("ret", MOV_RSP(NONCANONICAL), 0xc3);
        DIES("[rbp]", MOV_RBP(NONCANONICAL), 0x8b, 0x4d, 0);
    }
    DIES("push [..]", MOV_RAX(NONCANONICAL), 0xff, 0x30);
    DIES("jump", MOV_RAX(NONCANONICAL), 0xff, 0xe0);
    DIES("ret to nowhere", MOV_RAX(NONCANONICAL), 0x50, 0xc3);
    DIES("call", MOV_RAX(NONCANONICAL), 0xff, 0xd0);
    DIES("ud2", 0x0f, 0x0b);
    DIES("int3", 0xcc);
    DIES("int1", 0xf1);
    DIES("hlt", 0xf4);
    DIES("div", 0x31, 0xc9, 0xf7, 0xf1);
    DIES("step", 0x31, 0xc0, 0x9c, 0x80, 0x4c, 0x24, 1, 1, 0x9d, 0x90);
    DIES("alignment", 0x31, 0xc0, 0x9c, 0x80, 0x4c, 0x24, 2, 4, 0x9d, 0x8b, 0x47, 1);
}

int main(int argc, char **argv) {
    (void)argv;
    mmap(CODE, AREA, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    deaths(argc > 1);
    catch_signals();
    data();
    noncanonical();
    fetches();
    stack_pointers();
    borders();
    undefined();
    interrupts();
    arithmetic();
    struct sigaction action = {.sa_sigaction = on_sent, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, 0);
    raise(SIGUSR1);
}
