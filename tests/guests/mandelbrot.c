/* The Mandelbrot set: double arithmetic with a data-dependent exit. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 500;
    long total = 0;
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++) {
            double cr = 3.0 * x / n - 2, ci = 2.0 * y / n - 1, zr = 0, zi = 0;
            int i = 0;
            for (; i < 200 && zr * zr + zi * zi <= 4; i++) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci, zr = t;
            }
            total += i;
        }
    printf("%ld\n", total);
}
