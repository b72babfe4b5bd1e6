/* Sieve of Eratosthenes: byte stores with a stride. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 20, n = 1000000, count = 0;
    char *composite = malloc(n + 1);
    for (int r = 0; r < rounds; r++) {
        memset(composite, 0, n + 1);
        count = 0;
        for (int i = 2; i <= n; i++) {
            if (composite[i]) continue;
            count++;
            for (long j = (long)i * i; j <= n; j += i) composite[j] = 1;
        }
    }
    printf("%d\n", count);
    free(composite);
}
