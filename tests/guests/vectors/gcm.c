/* AES-256 in the Galois/Counter mode (NIST SP 800-38D) with the processor's instructions for it; 64 bytes in a vector
   where there are such vectors, elsewhere four vectors in turn. */
#include "vectors.h"

enum { ROUNDS = 14, SIZE = 16384 };

#if defined __VAES__ && WIDTH == 64
typedef __m512i blocks;
enum { LANES = 4, VECTORS = 1 };
#define products(a, b, which) _mm512_clmulepi64_epi128(a, b, which)
#define bytes_left(v, n) _mm512_bslli_epi128(v, n)
#define bytes_right(v, n) _mm512_bsrli_epi128(v, n)
#define reversed(v) _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f)))
#define in_all(block) _mm512_broadcast_i32x4(block)
typedef __m128i block;
#elif defined __x86_64__
typedef __m128i blocks;
enum { LANES = 1, VECTORS = 4 };
#define products(a, b, which) _mm_clmulepi64_si128(a, b, which)
#define bytes_left(v, n) _mm_slli_si128(v, n)
#define bytes_right(v, n) _mm_srli_si128(v, n)
#define reversed(v) _mm_shuffle_epi8(v, _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f))
#define in_all(block) (block)
typedef __m128i block;
#else
typedef int64_t blocks __attribute__((vector_size(16)));
enum { LANES = 1, VECTORS = 4 };
#define products(a, b, which) \
    (blocks)vmull_p64((poly64_t)(a)[(which) & 1], (poly64_t)(b)[(which) >> 4])
#define bytes_left(v, n) (blocks)vextq_u8(vdupq_n_u8(0), (uint8x16_t)(v), 16 - (n))
#define bytes_right(v, n) (blocks)vextq_u8((uint8x16_t)(v), vdupq_n_u8(0), n)
#define reversed(v) (blocks)vextq_u8(vrev64q_u8((uint8x16_t)(v)), vrev64q_u8((uint8x16_t)(v)), 8)
#define in_all(block) (block)
typedef blocks block;
#endif

typedef uint32_t words __attribute__((vector_size(sizeof(blocks))));
#define left(v, n) (blocks)((words)(v) << (n))
#define right(v, n) (blocks)((words)(v) >> (n))

static blocks keys[ROUNDS + 1];

static inline blocks encrypt(blocks v) {
#if !defined __x86_64__
    uint8x16_t s = (uint8x16_t)v;
    for (int n = 0; n < ROUNDS - 1; n++) s = vaesmcq_u8(vaeseq_u8(s, (uint8x16_t)keys[n]));
    return (blocks)vaeseq_u8(s, (uint8x16_t)keys[ROUNDS - 1]) ^ keys[ROUNDS];
#else
    v ^= keys[0];
#if defined __VAES__ && WIDTH == 64
    for (int n = 1; n < ROUNDS; n++) v = _mm512_aesenc_epi128(v, keys[n]);
    return _mm512_aesenclast_epi128(v, keys[ROUNDS]);
#else
    for (int n = 1; n < ROUNDS; n++) v = _mm_aesenc_si128(v, keys[n]);
    return _mm_aesenclast_si128(v, keys[ROUNDS]);
#endif
#endif
}

/* The product in GHASH's field, of operands whose bytes are reversed. */
static inline blocks multiply(blocks a, blocks b) {
    blocks low = products(a, b, 0x00), high = products(a, b, 0x11);
    blocks middle = products(a, b, 0x10) ^ products(a, b, 0x01);
    low ^= bytes_left(middle, 8);
    high ^= bytes_right(middle, 8);
    /* By one bit to the left, because the bits of GHASH's blocks are in the other order. */
    blocks low_carries = right(low, 31), high_carries = right(high, 31);
    high = left(high, 1) | bytes_left(high_carries, 4) | bytes_right(low_carries, 12);
    low = left(low, 1) | bytes_left(low_carries, 4);
    /* Modulo x^128 + x^7 + x^2 + x + 1. */
    blocks folded = left(low, 31) ^ left(low, 30) ^ left(low, 25);
    low ^= bytes_left(folded, 12);
    folded = right(low, 1) ^ right(low, 2) ^ right(low, 7) ^ bytes_right(folded, 4);
    return high ^ low ^ folded;
}

static inline block lane(blocks v, int n) {
    block all[LANES];
    memcpy(all, &v, sizeof v);
    return all[n];
}

static inline blocks of_lanes(const block *all) {
    blocks v;
    memcpy(&v, all, sizeof v);
    return v;
}

static blocks powers, sum;

/* Multiplies each lane by its power of the key and adds up: the next block's sum is in the first lane. */
static inline void hash(blocks data) {
    blocks product = multiply(data ^ sum, powers);
    block next[LANES] = {lane(product, 0)};
    for (int n = 1; n < LANES; n++) next[0] ^= lane(product, n);
    sum = of_lanes(next);
}

static void seal(uint8_t *data, uint32_t counter) {
    uint32_t block_counters[LANES * 4] = {0};
    for (size_t at = 0; at < SIZE; at += sizeof(blocks) * VECTORS) {
        blocks streams[VECTORS];
        for (int k = 0; k < VECTORS; k++) {
            for (int n = 0; n < LANES; n++) block_counters[4 * n + 3] = __builtin_bswap32(counter++);
            memcpy(&streams[k], block_counters, sizeof(blocks));
        }
        for (int k = 0; k < VECTORS; k++) streams[k] = encrypt(streams[k]);
        for (int k = 0; k < VECTORS; k++) {
            blocks text;
            memcpy(&text, data + at + k * sizeof text, sizeof text);
            text ^= streams[k];
            memcpy(data + at + k * sizeof text, &text, sizeof text);
            hash(reversed(text));
        }
    }
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 10;
    static uint8_t data[SIZE] __attribute__((aligned(64)));
    uint32_t random = 1;
    block key[LANES], one;
    /* The rounds' keys are of no schedule: their number and form are AES-256's. */
    for (int n = 0; n <= ROUNDS; n++) {
        uint32_t word[4];
        for (int k = 0; k < 4; k++) word[k] = next_random(&random);
        memcpy(&one, word, sizeof one);
        keys[n] = in_all(one);
    }
    one = lane(reversed(encrypt((blocks){0})), 0);
    key[LANES - 1] = one;
    for (int n = LANES - 2; n >= 0; n--) key[n] = lane(multiply(in_all(key[n + 1]), in_all(one)), 0);
    powers = of_lanes(key);
    for (long r = 0; r < rounds; r++) seal(data, r * 65536);
    block tag = lane(sum, 0);
    uint64_t halves[2];
    memcpy(halves, &tag, sizeof halves);
    printf("%016llx%016llx\n", (unsigned long long)halves[1], (unsigned long long)halves[0]);
}
