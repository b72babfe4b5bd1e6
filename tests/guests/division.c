/* Published table, row 2: 64-bit integer division, signed and unsigned, quotient and remainder. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    uint64_t rounds = argc > 1 ? strtoull(argv[1], 0, 0) : 20000000, x = 88172645463325252u, sum = 0;
    for (uint64_t i = 1; i <= rounds; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint64_t d = (x >> 40) | 1;
        sum += x / d + x % (i | 1);
        sum += (uint64_t)((int64_t)x / (int64_t)(d + i));
    }
    printf("%016llx\n", (unsigned long long)sum);
}
