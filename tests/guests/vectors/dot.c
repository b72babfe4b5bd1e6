/* Dot products of vectors of small integers in single precision, so that no sum is rounded. */
#include "vectors.h"

enum { COUNT = 4096 };

static float dot(const float *a, const float *b) {
    floats sums[4] = {{0}};
    for (int i = 0; i < COUNT; i += 4 * FLOATS)
        for (int k = 0; k < 4; k++)
            sums[k] += *(const floats_anywhere *)(a + i + k * FLOATS) * *(const floats_anywhere *)(b + i + k * FLOATS);
    floats all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float sum = 0;
    for (int k = 0; k < FLOATS; k++) sum += all[k];
    return sum;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    static float a[COUNT + 1], b[COUNT + 1];
    uint32_t random = 1;
    for (int i = 0; i <= COUNT; i++) a[i] = next_random(&random) % 16, b[i] = next_random(&random) % 16;
    double sum = 0;
    for (long r = 0; r < rounds; r++) {
        sum += dot(a + r % 2, b);
        a[r % COUNT] = r % 16;
    }
    printf("%.0f\n", sum);
}
