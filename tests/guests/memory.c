/* Published table, row 1: memory access. Strided reads and writes over a 32 MiB array. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    const size_t n = 4u << 20;
    uint64_t *a = malloc(n * sizeof *a), sum = 0;
    for (size_t i = 0; i < n; i++) a[i] = i * 2654435761u;
    for (int r = 0; r < rounds; r++)
        for (size_t i = 0, at = r; i < n; i++, at = (at + 17) & (n - 1)) {
            sum += a[at];
            a[at] = sum ^ i;
        }
    printf("%016llx\n", (unsigned long long)sum);
    free(a);
}
