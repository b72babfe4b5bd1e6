/* The C library's qsort with a callback. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 10, n = 200000;
    uint32_t *a = malloc(n * sizeof *a), x = 1, sum = 0;
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < n; i++) a[i] = x = x * 1664525u + 1013904223u;
        qsort(a, n, sizeof *a, by_value);
        for (int i = 0; i < n; i += 997) sum = sum * 31 + a[i];
    }
    printf("%08x\n", sum);
    free(a);
}
