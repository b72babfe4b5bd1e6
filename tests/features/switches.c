/* Jumps through tables: a switch's, tables in memory that is constant for a while, and in memory that never is. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { LENGTH = 3000, PAGE = 4096 };

static uint8_t program[LENGTH + 1];

/* Interprets the program by a table of labels; without a program it fills the table. */
__attribute__((noinline)) static long by_labels(void **table, const uint8_t *p) {
    static void *const labels[] = {&&add, &&twice, &&less, &&end};
    if (!p) {
        memcpy(table, labels, sizeof labels);
        return 0;
    }
    long a = 1;
    goto *table[*p++];
add: a += 3; goto *table[*p++];
twice: a = a * 2 & 0xffffff; goto *table[*p++];
less: a -= 1; goto *table[*p++];
end: return a;
}

/* The same by a switch in a loop; 6 and what isn't a case come rarely, and late. */
__attribute__((noinline)) static long by_switch(const uint8_t *p) {
    for (long a = 1;;) {
        switch (*p++) {
        case 0: a += 3; break;
        case 1: a = a * 2 & 0xffffff; break;
        case 2: a -= 1; break;
        case 3: return a;
        case 4: a ^= 0x55; break;
        case 5: a += a >> 3; break;
        case 6: a = -a; break;
        default: a += p[-1]; break;
        }
    }
}

/* Compares its first two arguments and goes by the third through a table to what reads the flags: no compiler's
   switch does so, but it may be done. */
long by_flags(long a, long b, long which);
__asm__(".text\n"
        "by_flags:\n"
        "    lea flag_table(%rip), %rcx\n"
        "    cmp %rsi, %rdi\n"
        "    mov (%rcx,%rdx,8), %rcx\n"
        "    jmp *%rcx\n"
        "0:  setl %al\n"
        "    movzbl %al, %eax\n"
        "    ret\n"
        "1:  sete %al\n"
        "    movzbl %al, %eax\n"
        "    ret\n"
        ".section .data.rel.ro, \"aw\"\n"
        "    .balign 8\n"
        "flag_table: .quad 0b, 1b\n"
        ".text\n");

static void swap(void **table) {
    void *first = table[0];
    table[0] = table[2], table[2] = first;
}

static void *page(void *at, int fixed) {
    return mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
}

int main(void) {
    long total = 0;
    for (int i = 0; i < LENGTH; i++) program[i] = i * 7 % 11 % 3;
    program[LENGTH] = 3;
    void **table = page(0, 0);
    by_labels(table, 0);
    mprotect(table, PAGE, PROT_READ);
    for (int i = 0; i < 200; i++) total += by_labels(table, program + i);
    printf("constant %ld\n", total);
    mprotect(table, PAGE, PROT_READ | PROT_WRITE);
    swap(table);
    mprotect(table, PAGE, PROT_READ);
    for (int i = 0; i < 200; i++) total += by_labels(table, program + i);
    printf("changed %ld\n", total);
    page(table, MAP_FIXED);
    by_labels(table, 0);
    mprotect(table, PAGE, PROT_READ);
    for (int i = 0; i < 200; i++) total += by_labels(table, program + i);
    printf("mapped anew %ld\n", total);
    void **other = page(0, 0);
    by_labels(other, 0);
    swap(other);
    mprotect(other, PAGE, PROT_READ);
    for (int i = 0; i < 100; i++) total += by_labels(i & 1 ? other : table, program + i);
    printf("two %ld\n", total);
    mprotect(table, PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 100; i++) swap(table), total += by_labels(table, program + i);
    printf("writable %ld\n", total);

    for (int i = 0; i < LENGTH; i++) program[i] = i * 7 % 13 % 6 == 3 ? 0 : i * 7 % 13 % 6;
    for (int i = 0; i < 200; i++) total += by_switch(program + i);
    program[LENGTH / 2] = 6, program[LENGTH / 3] = 200;
    for (int i = 0; i < 20; i++) total += by_switch(program + i);
    printf("switch %ld\n", total);
    for (long i = 0; i < 50000; i++) total += by_flags(i % 7, i % 5, i % 500 == 499);
    printf("flags %ld\n", total);
}
