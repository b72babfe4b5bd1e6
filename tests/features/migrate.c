/* The demonstration's computation: state on the stack, in the heap, and in a half-written output file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node { struct node *left, *right; uint64_t key, count; };

static struct node *insert(struct node *n, uint64_t key) {
    if (!n) {
        n = calloc(1, sizeof *n);
        n->key = key;
    }
    if (key < n->key) n->left = insert(n->left, key);
    else if (key > n->key) n->right = insert(n->right, key);
    else n->count++;
    return n;
}

static void walk(const struct node *n, uint64_t *hash) {
    if (!n) return;
    walk(n->left, hash);
    *hash = (*hash ^ n->key ^ n->count) * 1099511628211u;
    walk(n->right, hash);
}

/* Recursion keeps live state on the stack while the work goes on at the bottom. */
static uint64_t work(int depth, int steps, struct node **root, FILE *out) {
    uint64_t frame[8], x = depth * 7919 + 1;
    for (int i = 0; i < 8; i++) frame[i] = x += i * 0x9e3779b97f4a7c15u;
    if (depth > 0) return work(depth - 1, steps, root, out) * 31 + frame[depth & 7];
    double mean = 0;
    for (int s = 1; s <= steps; s++) {
        for (int i = 0; i < 4000; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            *root = insert(*root, x % 20011);
            mean += ((double)(x >> 11) * 0x1p-53 - mean) / (s * 4000.0 + i);
        }
        uint64_t hash = 1469598103934665603u;
        walk(*root, &hash);
        fprintf(out, "step %d hash %016llx mean %.12f\n", s, (unsigned long long)hash, mean);
    }
    return x;
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 3000;
    FILE *out = argc > 2 ? fopen(argv[2], "w") : stdout;
    if (!out) { perror(argv[2]); return 1; }
    struct node *root = NULL;
    uint64_t r = work(40, steps, &root, out);
    fprintf(out, "result %016llx\n", (unsigned long long)r);
    return fclose(out) ? 1 : 0;
}
