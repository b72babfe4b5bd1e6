/* Targets of indirect branches that want the same place of the translator's table. An index is made of an address's bits
 * up to the 25th, so functions 64 MiB apart have the same one: the argument says how many do each time. */
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FUNCTIONS = 96, STEP = 64, ROUNDS = 1200 };

static const size_t APART = 64u << 20;

typedef uint64_t function(uint64_t);

static function *functions[FUNCTIONS];

/* lea rax, [rdi + 2 * rdi + n]; ret */
static function *write_function(uint8_t *at, uint32_t n) {
    static const uint8_t code[] = {0x48, 0x8d, 0x84, 0x7f, 0, 0, 0, 0, 0xc3};
    memcpy(at, code, sizeof code);
    memcpy(at + 4, &n, sizeof n);
    return (function *)at;
}

__attribute__((noinline)) static uint64_t by_call(function *f, uint64_t x) {
    return f(x) ^ x >> 7;
}

__attribute__((noinline)) static uint64_t by_jump(function *f, uint64_t x) {
    return f(x + 1);
}

int main(int argc, char **argv) {
    unsigned same = argc > 1 ? atoi(argv[1]) : 2;
    int protection = PROT_READ | PROT_WRITE | PROT_EXEC;
    uint8_t *memory =
        mmap(NULL, same * APART, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    for (unsigned i = 0; i < FUNCTIONS; i++)
        functions[i] = write_function(memory + i % same * APART + i / same * STEP, 77 * i + 1);
    uint64_t x = 1;
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < FUNCTIONS; i++) {
            x = by_call(functions[(i * 5 + round) % FUNCTIONS], x);
            x = by_jump(functions[(i * 7 + round) % FUNCTIONS], x);
        }
    printf("%u %016llx\n", same, (unsigned long long)x);
    return 0;
}
