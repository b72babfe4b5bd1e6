/* Code that is written, run, and rewritten while it is hot. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef int (*function)(int);

/* A store to the instruction behind it, to a function that is called next, both often, and after a long time of storing
   elsewhere. */
static void patches(int distance) {
    uint8_t *code = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* mov byte [rip+1], dil; mov eax, 9; ret */
    static const uint8_t next[] = {0x40, 0x88, 0x3d, 1, 0, 0, 0, 0xb8, 9, 0, 0, 0, 0xc3};
    memcpy(code + 1024, next, sizeof next);
    unsigned total = 0;
    for (int i = 0; i < 3000; i++) total = total * 3 + ((function)(code + 1024))(i & 127);
    printf("next %u\n", total);
    /* mov eax, 9; ret, and mov [rdi], sil; call it; ret */
    static const uint8_t callee[] = {0xb8, 9, 0, 0, 0, 0xc3};
    uint8_t caller[] = {0x40, 0x88, 0x37, 0xe8, 0, 0, 0, 0, 0xc3}, data = 0;
    int to = -distance - 8;
    memcpy(caller + 4, &to, 4);
    memcpy(code, callee, sizeof callee), memcpy(code + distance, caller, sizeof caller);
    int (*call)(uint8_t *, int) = (int (*)(uint8_t *, int))(code + distance);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 20000; i++) total = total * 3 + call(&data, i);
        printf("callee %d\n", call(code + 1, 20 + round));
    }
    for (int i = 0; i < 50; i++) total = total * 3 + call(code + 1, i);
    printf("callee %u\n", total);
    munmap(code, 8192);
}

int main(void) {
    patches(64);
    patches(4096);
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
