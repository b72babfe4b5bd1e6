// A computation with state in all places a checkpoint must carry: recursion on the stack, a table in the heap,
// a half-written file, a handler and a mask, floating-point state, and its own pid.
// usage: halfway FILE ROUNDS PASSES MICROSECONDS. Each round makes PASSES over the table and sleeps; FILE gets a
// line a round, and in the last line the sum of everything.
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static void on_usr1(int signal) { handled += signal; }

enum { WORDS = 1 << 16 };

static int rounds, passes, pause_us;

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 29;
    return x;
}

// Each level keeps a partial result in its frame; the rounds are done at the innermost one.
static uint64_t descend(int depth, uint64_t seed, uint64_t *table, FILE *out) {
    volatile uint64_t own[8];
    for (int i = 0; i < 8; i++) own[i] = mix(seed + i);
    uint64_t sum = 0;
    if (depth > 0) {
        sum = descend(depth - 1, mix(seed), table, out);
    } else {
        double angle = 0.5;
        for (int round = 0; round < rounds; round++) {
            for (int pass = 0; pass < passes; pass++)
                for (size_t i = 0; i < WORDS; i++) table[i] = mix(table[i] + i + pass);
            angle = sqrt(angle * 1.7 + round) / 1.3;
            sum += table[round % WORDS];
            if (pause_us) usleep(pause_us);
            fprintf(out, "round %d: %016llx %.12f\n", round, (unsigned long long)sum, angle);
        }
    }
    for (int i = 0; i < 8; i++) sum = sum * 31 + own[i];
    return sum;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    rounds = atoi(argv[2]), passes = atoi(argv[3]), pause_us = atoi(argv[4]);
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGHUP, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    FILE *out = fopen(argv[1], "w");
    uint64_t *table = malloc(WORDS * sizeof *table);
    if (!out || !table) return 2;
    for (size_t i = 0; i < WORDS; i++) table[i] = i * 0x9e3779b97f4a7c15ull;
    pid_t before = getpid();
    uint64_t sum = descend(50, 1, table, out);
    raise(SIGUSR1);
    fprintf(out, "handled %d, same pid %d, sum %016llx\n", (int)handled, getpid() == before, (unsigned long long)sum);
    if (fclose(out)) return 1;
    printf("done %016llx\n", (unsigned long long)sum);
    return 7;
}
