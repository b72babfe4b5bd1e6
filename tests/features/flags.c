/* Code that keeps to no calling convention: flags across calls and returns, a return used as a jump, return
   addresses changed under way, and a recursion that is deeper than any host stack. */
#include <stdio.h>

/* Sets CF by its argument and returns; flags are its result. */
__asm__(".globl set_carry\nset_carry:\n cmp $1, %edi\n cmc\n ret\n");

static int carry_of(int n) {
    unsigned char c;
    __asm__ volatile("sub $128, %%rsp\n call set_carry\n setc %0\n add $128, %%rsp" : "=q"(c) : "D"(n) : "cc", "memory");
    return c;
}

/* An indirect call of a function that reads the caller's flags. */
__asm__(".globl read_carry\nread_carry:\n mov $0, %eax\n adc $0, %eax\n ret\n");

static int carry_into(int n) {
    int r;
    __asm__ volatile("sub $128, %%rsp\n lea read_carry(%%rip), %%rcx\n cmp $1, %1\n cmc\n call *%%rcx\n add $128, %%rsp"
                     : "=a"(r) : "D"(n) : "rcx", "cc", "memory");
    return r;
}

/* The same behind a branch on a flag of its own: DEC leaves CF alone. */
__asm__(".globl read_carry_later\nread_carry_later:\n mov $0, %eax\n mov $2, %ecx\n dec %ecx\n jz 1f\n"
        " adc $0, %eax\n1: ret\n");

static int carry_into_later(int n) {
    int r;
    __asm__ volatile("sub $128, %%rsp\n cmp $1, %1\n cmc\n call read_carry_later\n add $128, %%rsp"
                     : "=a"(r) : "D"(n) : "rcx", "cc", "memory");
    return r;
}

/* A return to another place than the call's. */
static int skipped(int n) {
    int r = n;
    __asm__ volatile("sub $128, %%rsp\n call 1f\n add $100, %%eax\n jmp 2f\n1: addq $3, (%%rsp)\n ret\n2: add $128, %%rsp\n"
                     : "+a"(r) : : "cc", "memory");
    return r;
}

__attribute__((noinline)) static long deep(long n) {
    volatile long level = n;
    return n == 0 ? 0 : 1 + deep(n - 1) + (level - n);
}

int main(void) {
    int sum = 0;
    for (int i = 0; i < 3000; i++) sum += carry_of(i % 3);
    printf("returned %d\n", sum);
    for (int i = sum = 0; i < 3000; i++) sum += carry_into(i % 3);
    printf("passed %d\n", sum);
    for (int i = sum = 0; i < 3000; i++) sum += carry_into_later(i % 3);
    printf("passed later %d\n", sum);
    for (int i = sum = 0; i < 3000; i++) sum += skipped(i);
    printf("skipped %d\n", sum);
    printf("deep %ld %ld\n", deep(60000), deep(100000));
}
