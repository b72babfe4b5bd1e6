/* Copies of a few bytes to a few kilobytes from and to anywhere, by vectors; the rest by a mask or by bytes. */
#include "vectors.h"

static void copy(uint8_t *to, const uint8_t *from, size_t count) {
    while (count >= 4 * WIDTH) {
        bytes v[4];
        for (int k = 0; k < 4; k++) v[k] = *(const bytes_anywhere *)(from + k * WIDTH);
        for (int k = 0; k < 4; k++) *(bytes_anywhere *)(to + k * WIDTH) = v[k];
        to += 4 * WIDTH, from += 4 * WIDTH, count -= 4 * WIDTH;
    }
    while (count >= WIDTH) {
        *(bytes_anywhere *)to = *(const bytes_anywhere *)from;
        to += WIDTH, from += WIDTH, count -= WIDTH;
    }
#if WIDTH == 64
    __mmask64 rest = ((uint64_t)1 << count) - 1;
    _mm512_mask_storeu_epi8(to, rest, _mm512_maskz_loadu_epi8(rest, from));
#else
    for (size_t i = 0; i < count; i++) {
        to[i] = from[i];
        __asm__ volatile(""); /* Not by vectors. */
    }
#endif
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    static uint8_t from[16384], to[16384];
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof from; i++) from[i] = next_random(&random);
    uint64_t sum = 0;
    for (long r = 0; r < rounds; r++) {
        size_t count = next_random(&random) >> (20 + r % 8), at = random % 4000;
        copy(to + at % 777, from + at, count);
        sum = sum * 31 + to[(at + count) % 4096];
    }
    printf("%llu\n", (unsigned long long)sum);
}
