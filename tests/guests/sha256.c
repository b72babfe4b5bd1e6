/* SHA-256 (FIPS 180-4) of generated data: rotates and additions. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t k[64], h[8];

/* The constants are the fractional parts of the cube and square roots of the first primes. */
static uint32_t root_fraction(unsigned prime, int cube) {
    unsigned __int128 lo = 0, hi = (unsigned __int128)1 << 36;
    for (unsigned __int128 target = cube ? (unsigned __int128)prime << 96 : (unsigned __int128)prime << 64; hi - lo > 1;) {
        unsigned __int128 mid = (lo + hi) / 2, p = cube ? mid * mid * mid : mid * mid;
        if (p <= target) lo = mid; else hi = mid;
    }
    return (uint32_t)lo;
}

static void init(void) {
    int n = 0;
    for (unsigned p = 2; n < 64; p++) {
        int prime = 1;
        for (unsigned d = 2; d * d <= p; d++) prime &= p % d != 0;
        if (!prime) continue;
        k[n] = root_fraction(p, 1);
        if (n < 8) h[n] = root_fraction(p, 0);
        n++;
    }
}

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void block(const uint8_t *data) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) memcpy(&w[i], data + 4 * i, 4), w[i] = __builtin_bswap32(w[i]);
    for (int i = 16; i < 64; i++)
        w[i] = (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10) + w[i - 7] +
               (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 16];
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
        uint32_t t2 = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 28);
        s[4] += t1, s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

int main(int argc, char **argv) {
    int blocks = argc > 1 ? atoi(argv[1]) : 400000;
    uint8_t data[64];
    init();
    for (int n = 0; n < blocks; n++) {
        for (int i = 0; i < 64; i++) data[i] = (uint8_t)(n + i * 7);
        block(data);
    }
    for (int i = 0; i < 8; i++) printf("%08x", h[i]);
    printf("\n");
}
