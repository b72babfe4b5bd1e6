/* What a checkpoint carries besides memory and registers, by the first argument. The process waits in the middle, for the
   capture; the second argument says how long, in milliseconds. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static int wait_ms;
static volatile sig_atomic_t alarms;

static void count(int signal) { alarms++; }

static void sleep_ms(int ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left)) {}
}

/* The timer's signal is pending during the wait: the timer stands still until it is delivered. */
static int timer(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGALRM, count);
    struct itimerval every = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &every, NULL);
    sleep_ms(wait_ms);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    for (int i = 0; i < 200 && alarms < 10; i++) sleep_ms(20);
    printf("timer: %s\n", alarms >= 10 ? "goes on" : "stopped");
    return 0;
}

static double of_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double of_usage(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static double of_times(void) {
    struct tms t;
    times(&t);
    return (double)(t.tms_utime + t.tms_stime) / sysconf(_SC_CLK_TCK);
}

static void clocks(double *all) {
    clockid_t own;
    clock_getcpuclockid(getpid(), &own);
    all[0] = of_clock(CLOCK_PROCESS_CPUTIME_ID);
    all[1] = of_clock(CLOCK_THREAD_CPUTIME_ID);
    all[2] = of_clock(own);
    all[3] = of_usage() + 0.02;
    all[4] = of_times() + 0.04;
}

static int cpu(void) {
    double before[5], after[5];
    while (of_clock(CLOCK_PROCESS_CPUTIME_ID) < 0.4) {}
    clocks(before);
    before[3] -= 0.02, before[4] -= 0.04; /* these are known in ticks */
    sleep_ms(wait_ms);
    clocks(after);
    for (int i = 0; i < 5; i++) printf("clock %d: %s\n", i, after[i] >= before[i] ? "goes on" : "went back");
    return 0;
}

static int resources(void) {
    int file = open("locked", O_CREAT | O_RDWR, 0600);
    struct flock all = {.l_type = F_WRLCK};
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int taken = flock(file, LOCK_SH) == 0 && fcntl(file, F_SETLK, &all) == 0 && shared != MAP_FAILED;
    int child = fork();
    if (child == 0) {
        sleep_ms(wait_ms);
        _exit(0);
    }
    printf("shared %p child %d\n", (void *)shared, child);
    fflush(stdout);
    sleep_ms(wait_ms);
    return !taken;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    wait_ms = atoi(argv[2]);
    if (!strcmp(argv[1], "timer")) return timer();
    if (!strcmp(argv[1], "cpu")) return cpu();
    if (!strcmp(argv[1], "resources")) return resources();
    return 2;
}
