/* Products of matrices of small integers in single precision: four rows at a time, a vector of columns each. */
#include "vectors.h"

enum { SIZE = 128 };

static float a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static void multiply(void) {
    for (int i = 0; i < SIZE; i += 4)
        for (int j = 0; j < SIZE; j += FLOATS) {
            floats sums[4] = {{0}};
            for (int k = 0; k < SIZE; k++) {
                floats row = *(const floats_anywhere *)&b[k][j];
                for (int n = 0; n < 4; n++) sums[n] += a[i + n][k] * row;
            }
            for (int n = 0; n < 4; n++) *(floats_anywhere *)&c[i + n][j] = sums[n];
        }
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 10;
    uint32_t random = 1;
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) a[i][j] = next_random(&random) % 8, b[i][j] = next_random(&random) % 8;
    double sum = 0;
    for (long r = 0; r < rounds; r++) {
        a[r % SIZE][r % 7] = r % 8;
        multiply();
        sum += c[r % SIZE][r % 5];
    }
    printf("%.0f\n", sum);
}
