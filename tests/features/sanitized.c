// Built with the address and undefined behaviour sanitizers: one error a run, by the first argument.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words) {
    char kind = count > 1 ? words[1][0] : 'n';
    char *heap = malloc(100);
    memset(heap, 1, 100);
    int sum = 0;
    for (int i = 0; i < 100; i++) sum += heap[i];
    printf("sum %d\n", sum);
    fflush(stdout);
    if (kind == 'o') sum += heap[100 + (count > 5)];
    if (kind == 'f') free(heap), sum += heap[5];
    if (kind == 's') {
        char stack[10];
        volatile int i = 10;
        *(volatile char *)(stack + i) = 1;
    }
    if (kind == 'i') {
        volatile int k = 2147483647;
        k += count;
    }
    if (kind != 'f') free(heap);
    return 0;
}
