/* A loop that other parts of it are used of in each of its phases: regions formed in one leave for what is hot in the next. */
#include <stdio.h>
#include <stdint.h>

enum { LENGTH = 400000, PHASES = 4 };

static uint8_t program[LENGTH + 1];

/* Cases 2 * phase and 2 * phase + 1 come in that phase for the first time. */
static void fill(unsigned phase) {
    uint32_t random = 1 + phase;
    for (int i = 0; i < LENGTH; i++) {
        random = random * 1103515245 + 12345;
        program[i] = (random >> 16) % (2 * phase + 2);
    }
    program[LENGTH] = 255;
}

__attribute__((noinline)) static uint64_t interpret(const uint8_t *p, double *sum) {
    uint64_t a = 1;
    for (;; p++) {
        switch (*p) {
        case 0: a += 3; break;
        case 1: a = a * 2 & 0xffffff; break;
        case 2: a ^= a >> 5; break;
        case 3: *sum += (double)(a & 7) / 3; break;
        case 4: a = a % 1000003 + 7; break;
        case 5: a = (a << 9 | a >> 15) & 0xffffff; break;
        case 6: *sum -= (double)(a & 15) * 0.25; break;
        case 7: a = __builtin_popcountll(a) * 12345 + (a & 0xfff); break;
        default: return a;
        }
    }
}

/* What is called in the loop gets another side. */
__attribute__((noinline)) static uint32_t digits(uint32_t n, unsigned phase) {
    uint32_t found = 0;
    for (; n; n /= 10) {
        found += n % 10;
        if (phase & 1)
            found ^= n << 3;
    }
    return found;
}

int main(void) {
    for (unsigned phase = 0; phase < PHASES; phase++) {
        double sum = 0;
        uint64_t hash = 0;
        fill(phase);
        hash = interpret(program, &sum);
        for (uint32_t n = 0; n < 20000; n++)
            hash = hash * 31 + digits(n * 2654435761u, phase);
        printf("%u %016llx %a\n", phase, (unsigned long long)hash, sum);
    }
    return 0;
}
