/* Code that is written, run, and rewritten while it is hot. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef int (*function)(int);

int main(void) {
    uint8_t *code = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 1;
    /* lea eax, [rdi + imm8]; ret */
    uint8_t add[] = {0x8d, 0x47, 0, 0xc3};
    long total = 0;
    for (int round = 0; round < 50; round++) {
        add[2] = (uint8_t)round;
        memcpy(code, add, sizeof add);
        for (int i = 0; i < 2000; i++) total += ((function)code)(i);
    }
    printf("%ld\n", total);
    /* Written as data in a page that holds running code. */
    volatile uint8_t *data = code + 2048;
    for (int i = 0; i < 20000; i++) *data = (uint8_t)i, total += ((function)code)(*data);
    printf("%ld\n", total);
    mprotect(code, 8192, PROT_READ | PROT_EXEC);
    printf("%d\n", ((function)code)(1));
    munmap(code, 8192);
    uint8_t *again = mmap(code, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    add[2] = 100;
    memcpy(again, add, sizeof add);
    printf("%d\n", ((function)again)(1));
}
