/* Bodies under gravitation: double arithmetic, square roots and divisions. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODIES = 5 };
static double p[BODIES][3] = {{0, 0, 0}, {4.84, -1.16, -.10}, {8.34, 4.12, -.40}, {12.89, -15.11, -.22}, {15.37, -25.91, .17}};
static double v[BODIES][3] = {{0, 0, 0}, {.6, 2.8, -.02}, {-1.01, 1.82, .008}, {1.08, .86, -.01}, {.97, .59, -.03}};
static const double m[BODIES] = {39.47, .037, .011, .0017, .002};

static void advance(double dt) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], d2 = 0;
            for (int k = 0; k < 3; k++) d[k] = p[i][k] - p[j][k], d2 += d[k] * d[k];
            double mag = dt / (d2 * sqrt(d2));
            for (int k = 0; k < 3; k++) v[i][k] -= d[k] * m[j] * mag, v[j][k] += d[k] * m[i] * mag;
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) p[i][k] += dt * v[i][k];
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 500000;
    for (int i = 0; i < steps; i++) advance(0.001);
    for (int i = 0; i < BODIES; i++) printf("%.9f %.9f %.9f\n", p[i][0], p[i][1], p[i][2]);
}
