/* Instructions of SSE4.2 that are one of the host's or several: CRC32 of each width, comparisons of strings with zeros. */
#pragma GCC target("sse4.2")
#include <nmmintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t random_state = 7;

static uint32_t next(void) {
    random_state = random_state * 1664525 + 1013904223;
    return random_state >> 8;
}

__attribute__((noinline)) static uint32_t checksum(const uint8_t *p, size_t n) {
    uint64_t crc = ~0u;
    for (; n >= 15; p += 15, n -= 15) {
        uint64_t eight;
        uint32_t four;
        uint16_t two;
        memcpy(&eight, p, 8), memcpy(&four, p + 8, 4), memcpy(&two, p + 12, 2);
        crc = _mm_crc32_u64(crc, eight);
        crc = _mm_crc32_u32(crc, four);
        crc = _mm_crc32_u16(crc, two);
        crc = _mm_crc32_u8(crc, p[14]);
    }
    while (n--)
        crc = _mm_crc32_u8(crc, *p++);
    return ~crc;
}

/* Index, mask and all flags of one comparison, mixed. */
#define COMPARED(control)                                                                             \
    (_mm_cmpistri(a, b, control) + 32 * _mm_cmpistrc(a, b, control) + 64 * _mm_cmpistrz(a, b, control) \
     + 128 * _mm_cmpistrs(a, b, control) + 256 * _mm_cmpistro(a, b, control)                          \
     + 512 * _mm_cmpistra(a, b, control)                                                              \
     + 1024ull * (_mm_movemask_epi8(_mm_cmpistrm(a, b, control)) ^ _mm_extract_epi16(_mm_cmpistrm(a, b, control), 0)))

__attribute__((noinline)) static uint64_t compare(const uint8_t *x, const uint8_t *y) {
    __m128i a = _mm_loadu_si128((const __m128i *)x), b = _mm_loadu_si128((const __m128i *)y);
    uint64_t h = COMPARED(_SIDD_UBYTE_OPS | _SIDD_CMP_EQUAL_EACH | _SIDD_NEGATIVE_POLARITY);
    h = h * 31 + COMPARED(_SIDD_UBYTE_OPS | _SIDD_CMP_EQUAL_ANY | _SIDD_MOST_SIGNIFICANT | _SIDD_UNIT_MASK);
    h = h * 31 + COMPARED(_SIDD_UWORD_OPS | _SIDD_CMP_EQUAL_ORDERED);
    h = h * 31 + COMPARED(_SIDD_SBYTE_OPS | _SIDD_CMP_RANGES | _SIDD_MASKED_NEGATIVE_POLARITY);
    return h * 31 + COMPARED(_SIDD_SWORD_OPS | _SIDD_CMP_EQUAL_EACH | _SIDD_UNIT_MASK);
}

int main(void) {
    static uint8_t data[4096];
    uint64_t hash = 0;
    printf("%08x\n", checksum((const uint8_t *)"123456789", 9));
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = next() % (round % 2 ? 4 : 23);
        hash = hash * 31 + checksum(data, sizeof data - round);
        for (size_t i = 0; i + 32 < sizeof data; i += 16)
            hash = hash * 31 + compare(data + i, data + i + next() % 3 * 8);
    }
    printf("%016llx\n", (unsigned long long)hash);
    return 0;
}
