// Waits in one kind of system call and tells how the call ended: a checkpoint in the middle must not show.
// usage: waits sleep|poll|select|pause|suspend|clock|collide MILLISECONDS (collide: with a page where the translator
// lies on an x86-64 host)
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { (void)signal, alarms++; }

static void start_timer(long us) {
    struct itimerval timer = {.it_value = {us / 1000000, us % 1000000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const char *kind = argv[1];
    long ms = 0;
    for (const char *c = argv[2]; *c; c++) ms = ms * 10 + *c - '0';
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    int result = -2;
    errno = 0;
    if (!strcmp(kind, "sleep")) {
        struct timespec t = {ms / 1000, ms % 1000 * 1000000};
        result = nanosleep(&t, NULL);
    } else if (!strcmp(kind, "collide")) {
        char *page = mmap((void *)0x7ffff7a00000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        page[0] = 1;
        result = poll(NULL, 0, ms);
    } else if (!strcmp(kind, "poll")) {
        result = poll(NULL, 0, ms);
    } else if (!strcmp(kind, "select")) {
        struct timeval t = {ms / 1000, ms % 1000 * 1000};
        result = select(0, NULL, NULL, NULL, &t);
    } else if (!strcmp(kind, "pause")) {
        start_timer(ms * 1000);
        result = pause();
    } else if (!strcmp(kind, "suspend")) {
        sigset_t alarm, none;
        sigemptyset(&none), sigemptyset(&alarm), sigaddset(&alarm, SIGALRM);
        sigprocmask(SIG_BLOCK, &alarm, NULL);
        start_timer(ms * 1000);
        result = sigsuspend(&none);
    } else if (!strcmp(kind, "clock")) {
        // Most of the time is spent in the vdso; time must never run backwards.
        double start = now(), last = start;
        for (result = 0; last - start < ms * 1e-3;) {
            double t = now();
            if (t < last) result = 1;
            last = t;
        }
    } else {
        return 2;
    }
    printf("%s: %d, errno %d, alarms %d\n", kind, result, result < 0 ? errno : 0, (int)alarms);
    return 0;
}
