/* Lengths of strings that begin anywhere, by comparing vectors with zero. */
#include "vectors.h"

/* The place of the first zero byte in an aligned vector from `skip` on, or WIDTH. */
static inline unsigned first_zero(const char *p, unsigned skip) {
#if WIDTH == 64
    uint64_t zeros = _mm512_testn_epi8_mask(*(const __m512i *)p, *(const __m512i *)p) >> skip << skip;
    return zeros ? __builtin_ctzll(zeros) : WIDTH;
#elif WIDTH == 32
    uint32_t zeros = _mm256_movemask_epi8(_mm256_cmpeq_epi8(*(const __m256i *)p, _mm256_setzero_si256()));
    zeros = zeros >> skip << skip;
    return zeros ? __builtin_ctz(zeros) : WIDTH;
#elif defined __x86_64__
    unsigned zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(*(const __m128i *)p, _mm_setzero_si128())) >> skip << skip;
    return zeros ? __builtin_ctz(zeros) : WIDTH;
#else
    uint8x16_t equal = vceqzq_u8(vld1q_u8((const uint8_t *)p));
    uint64_t zeros = vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(equal), 4)), 0);
    zeros = zeros >> 4 * skip << 4 * skip;
    return zeros ? __builtin_ctzll(zeros) / 4 : WIDTH;
#endif
}

static size_t length(const char *s) {
    unsigned skip = (uintptr_t)s % WIDTH;
    const char *p = s - skip;
    unsigned at;
    while ((at = first_zero(p, skip)) == WIDTH) p += WIDTH, skip = 0;
    return p + at - s;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    static char text[8192] __attribute__((aligned(64)));
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof text; i++) text[i] = 1 + next_random(&random) % 255;
    uint64_t sum = 0;
    for (long r = 0; r < rounds; r++) {
        size_t at = next_random(&random) % 4000, count = random >> (20 + r % 8);
        char before = text[at + count];
        text[at + count] = 0;
        sum = sum * 31 + length(text + at);
        text[at + count] = before;
    }
    printf("%llu\n", (unsigned long long)sum);
}
