/* An open-addressing hash map: insertions, look-ups and deletions of 64-bit keys. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SLOTS (1u << 18)
static uint64_t keys[SLOTS], values[SLOTS];

static uint32_t slot_of(uint64_t key) {
    uint32_t i = (key * 0x9e3779b97f4a7c15u) >> 46;
    while (keys[i] && keys[i] != key) i = (i + 1) & (SLOTS - 1);
    return i;
}

int main(int argc, char **argv) {
    int ops = argc > 1 ? atoi(argv[1]) : 10000000;
    uint64_t x = 1, hits = 0, sum = 0;
    for (int n = 0; n < ops; n++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t key = (x >> 40) % 150000 + 1;
        uint32_t i = slot_of(key);
        if (keys[i]) hits++, sum += values[i], values[i] ^= x;
        else keys[i] = key, values[i] = n;
    }
    printf("%llu %016llx\n", (unsigned long long)hits, (unsigned long long)sum);
}
