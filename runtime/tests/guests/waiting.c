/* Signals against blocking calls: what is restarted, what isn't, and which mask handlers run under. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t got, blocked_usr2, order[8], count;
static int pipes[2];

static void note(int sig) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    got = sig, blocked_usr2 = sigismember(&now, SIGUSR2);
    if (count < 8) order[count++] = sig;
}

static void feed(int sig) { note(sig); if (write(pipes[1], "x", 1) != 1) _exit(1); }

static void on(int sig, void (*f)(int), int flags) {
    struct sigaction sa = {.sa_handler = f, .sa_flags = flags};
    sigaction(sig, &sa, 0);
}

static void in_ms(int ms) {
    struct itimerval t = {{0, 0}, {0, ms * 1000}};
    setitimer(ITIMER_REAL, &t, 0);
}

static const char *outcome(long r) { return r < 0 ? strerrorname_np(errno) : "fine"; }

static void value(int sig, siginfo_t *info, void *uc) {
    (void)sig, (void)uc;
    printf("value %d code %d from me %d\n", info->si_value.sival_int, info->si_code, info->si_pid == getpid());
}

int main(void) {
    char c;
    setvbuf(stdout, 0, _IOLBF, 0);
    if (pipe(pipes)) return 1;
    on(SIGALRM, feed, SA_RESTART), in_ms(30);
    printf("read, SA_RESTART: %s\n", outcome(read(pipes[0], &c, 1)));
    on(SIGALRM, note, 0), in_ms(30);
    printf("read: %s\n", outcome(read(pipes[0], &c, 1)));
    on(SIGALRM, note, SA_RESTART), in_ms(30);
    struct pollfd p = {pipes[0], POLLIN, 0};
    printf("poll, SA_RESTART: %s\n", outcome(poll(&p, 1, 5000)));
    in_ms(30);
    struct timespec second = {5, 0}, left;
    const char *slept = outcome(nanosleep(&second, &left));
    printf("nanosleep, SA_RESTART: %s, left %d\n", slept, left.tv_sec >= 4);
    in_ms(30);
    printf("pause, SA_RESTART: %s\n", outcome(pause()));
    pid_t child = fork();
    if (!child) { usleep(150000); _exit(5); }
    int status = 0;
    in_ms(30);
    const char *waited = outcome(waitpid(child, &status, 0));
    printf("waitpid, SA_RESTART: %s %d\n", waited, WEXITSTATUS(status));

    sigset_t usr, none, alarm_only, old;
    sigemptyset(&none), sigemptyset(&usr), sigaddset(&usr, SIGUSR1), sigaddset(&usr, SIGUSR2);
    sigemptyset(&alarm_only), sigaddset(&alarm_only, SIGALRM);
    on(SIGUSR1, note, 0), on(SIGUSR2, note, 0);
    sigprocmask(SIG_BLOCK, &usr, &old);
    kill(getpid(), SIGUSR1);
    got = 0;
    printf("ppoll with a mask: %s", outcome(ppoll(&p, 1, &second, &none)));
    printf(", got %d, USR2 blocked in the handler %d\n", got == SIGUSR1, blocked_usr2);
    sigprocmask(SIG_BLOCK, 0, &old);
    printf("blocked again: %d\n", sigismember(&old, SIGUSR1) && sigismember(&old, SIGUSR2));
    kill(getpid(), SIGUSR2);
    count = 0;
    const char *suspended = outcome(sigsuspend(&none));
    printf("sigsuspend: %s, got %d\n", suspended, order[0] == SIGUSR2);
    kill(getpid(), SIGUSR1);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipes[0], &set);
    printf("pselect: %s\n", outcome(pselect(pipes[0] + 1, &set, 0, 0, &second, &none)));
    int e = epoll_create1(0);
    struct epoll_event ev;
    kill(getpid(), SIGUSR1);
    printf("epoll_pwait: %s\n", outcome(epoll_pwait(e, &ev, 1, 5000, &none)));

    siginfo_t info;
    kill(getpid(), SIGUSR1);
    printf("sigtimedwait: %d\n", sigtimedwait(&usr, &info, &second) == SIGUSR1 && info.si_pid == getpid());
    struct timespec soon = {0, 1000000};
    printf("sigtimedwait, nothing: %s\n", outcome(sigtimedwait(&usr, &info, &soon)));
    int fd = signalfd(-1, &usr, 0);
    struct signalfd_siginfo si;
    kill(getpid(), SIGUSR2);
    printf("signalfd: %d\n", read(fd, &si, sizeof si) == sizeof si && si.ssi_signo == SIGUSR2);

    count = 0;
    kill(getpid(), SIGUSR2), kill(getpid(), SIGUSR1), kill(getpid(), SIGUSR1);
    sigprocmask(SIG_UNBLOCK, &usr, 0);
    printf("together: %d, last first %d\n", count, order[0] == SIGUSR2);

    struct sigaction sa = {.sa_sigaction = value, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN + 3, &sa, 0);
    sigset_t rt;
    sigemptyset(&rt), sigaddset(&rt, SIGRTMIN + 3), sigprocmask(SIG_BLOCK, &rt, 0);
    for (int i = 0; i < 3; i++) sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
    sigprocmask(SIG_UNBLOCK, &rt, 0);

    on(SIGUSR1, note, SA_RESETHAND | SA_NODEFER);
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, 0, &now);
    printf("reset: %d\n", now.sa_handler == SIG_DFL);
    on(SIGUSR1, SIG_IGN, 0);
    raise(SIGUSR1);

    child = fork();
    if (!child) { raise(SIGSTOP); _exit(6); }
    waitpid(child, &status, WUNTRACED);
    printf("stopped: %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status) == SIGSTOP);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    printf("continued: %d\n", WEXITSTATUS(status));
    for (int sig = 1; sig < 32; sig++) {
        if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) continue;
        child = fork();
        if (!child) { signal(sig, SIG_DFL); raise(sig); _exit(1); }
        waitpid(child, &status, 0);
        printf("%d:%d ", sig, WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status));
    }
    printf("\n");
    return 0;
}
