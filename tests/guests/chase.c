/* Pointer chase through a random cycle. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct node { struct node *next; uint64_t value; };

int main(int argc, char **argv) {
    long steps = argc > 1 ? atol(argv[1]) : 30000000;
    enum { N = 1 << 16 };
    struct node *nodes = malloc(N * sizeof *nodes);
    uint32_t *order = malloc(N * sizeof *order), x = 7;
    for (uint32_t i = 0; i < N; i++) order[i] = i;
    for (uint32_t i = N - 1; i > 0; i--) {
        x = x * 1664525u + 1013904223u;
        uint32_t j = (uint32_t)((uint64_t)x * (i + 1) >> 32), t = order[i];
        order[i] = order[j], order[j] = t;
    }
    for (uint32_t i = 0; i < N; i++) nodes[order[i]] = (struct node){&nodes[order[(i + 1) % N]], i};
    uint64_t sum = 0;
    for (struct node *n = nodes; steps--; n = n->next) sum += n->value;
    printf("%llu\n", (unsigned long long)sum);
}
