/* Status flags that live over returns, calls, indirect branches, system calls and signals. Each piece of assembly gets a
   number in edi, sets CF where that is odd (and other flags by it), passes them on, and gives what arrives. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

__asm__(
    ".text\n"
    /* CF by the lowest bit; the other flags by the number. */
    "flags_of: mov %edi, %ecx\n shr $1, %ecx\n cmp %edi, %ecx\n bt $0, %edi\n ret\n"
    "carry_of: cmp $0x80000000, %edi\n bt $0, %edi\n ret\n"
    "nothing: ret\n"
    "take: mov $0, %eax\n adc $0, %eax\n ret\n"
    "take_later: mov $0, %eax\n .rept 30\n mov %rbx, %rdx\n .endr\n adc $0, %eax\n ret\n"
    "take_all: pushfq\n pop %rax\n and $0x41, %eax\n ret\n"
    "call_kernel: mov $39, %eax\n syscall\n ret\n"
    "twice: call carry_of\n ret\n"
    "thrice: call twice\n ret\n"

    "a_return: call carry_of\n jmp 1f\n1: setc %al\n movzx %al, %eax\n ret\n"
    "many_moves: call carry_of\n .rept 40\n mov %rbx, %rax\n .endr\n jc 1f\n mov $0, %eax\n ret\n1: mov $1, %eax\n ret\n"
    "many_jumps: call carry_of\n jmp 1f\n1: mov %rbx, %rax\n jmp 2f\n2: mov %rbx, %rax\n jmp 3f\n3: mov %rbx, %rax\n"
    " jmp 4f\n4: mov %rbx, %rax\n jc 5f\n mov $0, %eax\n ret\n5: mov $1, %eax\n ret\n"
    "three_returns: call thrice\n jmp take\n"
    "a_jump: lea take(%rip), %rdx\n bt $0, %edi\n jmp *%rdx\n"
    "a_call: lea take_later(%rip), %rdx\n bt $0, %edi\n call *%rdx\n ret\n"
    "a_direct_call: bt $0, %edi\n call take\n ret\n"
    "return_and_call: call carry_of\n call take\n ret\n"
    "return_and_indirect_call: call carry_of\n lea take(%rip), %rax\n call *%rax\n ret\n"
    "a_loop: call carry_of\n mov $5, %ecx\n1: lea -1(%rcx), %ecx\n jecxz 2f\n jmp 1b\n2: jmp take\n"
    "a_pushed_return: lea 1f(%rip), %rax\n bt $0, %edi\n push %rax\n ret\n1: jmp take\n"
    "a_table: mov %edi, %ecx\n and $3, %ecx\n lea ways(%rip), %rax\n bt $0, %edi\n jmp *(%rax,%rcx,8)\n"
    "way0: setc %al\n movzx %al, %eax\n ret\nway1: adc $0, %ecx\n lea -1(%rcx), %eax\n ret\n"
    "way2: jc 1f\n mov $0, %eax\n ret\n1: mov $1, %eax\n ret\nway3: sbb %eax, %eax\n neg %eax\n ret\n"
    "all_flags: call flags_of\n call take_all\n ret\n"
    "a_system_call: call carry_of\n call call_kernel\n jmp take\n"
    "counted_down: mov $0, %eax\n mov $4, %edx\n bt $0, %edi\n1: inc %eax\n dec %edx\n jz 2f\n call nothing\n jmp 1b\n"
    "2: adc $0, %eax\n ret\n"
    "shifted_by_none: mov $0, %ecx\n mov %edi, %edx\n bt $0, %edi\n shl %cl, %edx\n call take\n ret\n"
    "shifted_by_one: mov $1, %ecx\n mov %edi, %edx\n shr %cl, %edx\n call take\n ret\n"
    "multiplied: movsx %edi, %rdx\n imul %rdx, %rdx\n mov $0x40000000, %eax\n mov %edi, %ecx\n and $1, %ecx\n"
    " lea 1(%rcx,%rcx,2), %ecx\n imul %ecx, %eax\n call take\n ret\n"
    "compared: cvtsi2sd %edi, %xmm0\n and $1, %edi\n cvtsi2sd %edi, %xmm1\n pxor %xmm0, %xmm0\n comisd %xmm1, %xmm0\n call take\n ret\n"
    "a_trap: call carry_of\n ud2\n nop\n ret\n"
    "a_fault: call carry_of\n mov 0, %al\n nop\n ret\n"
    "behind_a_trap: mov $0, %eax\n bt $0, %edi\n ud2\n nop\n adc $0, %eax\n ret\n"
    ".data\nways: .quad way0, way1, way2, way3\n.text\n");

typedef long (*Passes)(long);
#define ALL(do) do(a_return) do(many_moves) do(many_jumps) do(three_returns) do(a_jump) do(a_call) do(a_direct_call) \
    do(return_and_call) do(return_and_indirect_call) do(a_loop) do(a_pushed_return) do(a_table) do(all_flags)        \
    do(a_system_call) do(counted_down) do(shifted_by_none) do(shifted_by_one) do(multiplied) do(compared)            \
    do(behind_a_trap)
#define DECLARE(name) long name(long);
#define ENTRY(name) {#name, name},
ALL(DECLARE)
DECLARE(a_trap)
DECLARE(a_fault)
static const struct { const char *name; Passes run; } passes[] = {ALL(ENTRY)};

static volatile long seen;

/* What the flags are where a signal arrives; goes on behind the instruction, which has two bytes or seven. */
static void note(int signal, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen = g[REG_EFL] & 1;
    while (*(unsigned char *)g[REG_RIP] != 0x90) g[REG_RIP]++;
}

static void run_all(void) {
    for (unsigned k = 0; k < sizeof passes / sizeof *passes; k++) {
        uint64_t sum = 0;
        for (long i = 0; i < 600; i++) sum = sum * 31 + passes[k].run(i * 5 + i / 7);
        printf("%s %lx\n", passes[k].name, sum);
    }
}

int main(void) {
    struct sigaction on = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &on, 0);
    run_all();
    long wrong = 0;
    for (long i = 0; i < 300; i++) a_trap(i), wrong += seen != (i & 1);
    /* From here on registers are precise at faults. */
    sigaction(SIGSEGV, &on, 0);
    for (long i = 0; i < 300; i++) a_fault(i), wrong += seen != (i & 1);
    printf("%ld signals with wrong flags\n", wrong);
    run_all();
    /* The first thing a function made at run time does is to read the flags, as OpenJDK's look at the CPU does. */
    unsigned char *made = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(made, "\x9c\x58\xc3", 3);
    unsigned long (*volatile flags)(void) = (unsigned long (*)(void))made;
    for (int i = 0; i < 300; i++) wrong += (flags() & 0x202) != 0x202;
    printf("%ld wrong\n", wrong);
    /* What follows a call decides which flags are kept there, and may change: the function begins with `xor eax, eax`
       first, then with `setc al; movzx eax, al`. It stands in another page than the call, which is writable all the time or
       only while it is written to. */
    for (int writable = 0; writable < 2; writable++) {
        unsigned char *other = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(other, "\x0f\xba\xe7\x00\xe8\xf7\x0f\x00\x00\xc3", 10); /* bt edi, 0; call other + 4096; ret */
        long (*volatile caller)(long) = (long (*)(long))other;
        uint64_t sum = 0;
        for (int round = 0; round < 4; round++) {
            if (!writable) mprotect(other + 4096, 4096, PROT_READ | PROT_WRITE);
            memcpy(other + 4096, round % 2 ? "\x0f\x92\xc0\x0f\xb6\xc0\xc3" : "\x31\xc0\x0f\x92\xc0\x90\xc3", 7);
            if (!writable) mprotect(other + 4096, 4096, PROT_READ | PROT_EXEC);
            for (long i = 0; i < 400; i++) sum = sum * 31 + caller(i);
        }
        printf("changed %lx\n", sum);
    }
}
