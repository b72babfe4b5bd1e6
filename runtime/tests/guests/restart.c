/* Calls that a signal interrupts: which come back with EINTR, which are made again, and under which mask handlers run. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "report.h"

static volatile int handled, blocked_inside;
static int p[2];

static void handler(int signal) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    blocked_inside = sigismember(&now, SIGUSR2);
    handled = signal;
    /* Ends a read that is made again. */
    if (write(p[1], "!", 1) != 1) _exit(1);
}

static void quiet(int signal) { handled = signal; }

/* Milliseconds until a signal: by then the call it is to interrupt has been made, even on a busy machine. */
enum { SOON = 100 };

static void in(int milliseconds) {
    handled = 0;
    struct itimerval t = {{0, 0}, {milliseconds / 1000, milliseconds % 1000 * 1000}};
    setitimer(ITIMER_REAL, &t, 0);
}

static void install(int signal, void (*function)(int), int flags) {
    struct sigaction action = {.sa_handler = function, .sa_flags = flags};
    sigaction(signal, &action, 0);
}

int main(void) {
    char c;
    sigset_t set, empty;
    sigemptyset(&empty);
    if (pipe(p)) return 1;

    install(SIGALRM, handler, SA_RESTART);
    in(SOON);
    SHOW(read(p[0], &c, 1));
    printf("handled %d\n", handled == SIGALRM);
    install(SIGALRM, quiet, 0);
    in(SOON);
    SHOW(read(p[0], &c, 1));
    printf("handled %d\n", handled == SIGALRM);
    install(SIGALRM, quiet, SA_RESTART);
    struct pollfd ready = {p[0], POLLIN, 0};
    in(SOON);
    SHOW(poll(&ready, 1, 10000));
    in(SOON);
    SHOW(select(0, 0, 0, 0, &(struct timeval){10, 0}));
    struct timespec left = {0, 0};
    in(SOON);
    SHOW(nanosleep(&(struct timespec){10, 0}, &left));
    printf("left %d\n", left.tv_sec == 9);
    in(SOON);
    printf("clock_nanosleep %d\n", clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){10, 0}, &left));
    in(SOON);
    SHOW(pause());
    int ep = epoll_create1(0);
    struct epoll_event event;
    in(SOON);
    SHOW(epoll_wait(ep, &event, 1, 10000));
    pid_t child = fork();
    if (!child) {
        usleep(3000 * SOON);
        _exit(5);
    }
    int status;
    in(SOON);
    SHOW(waitpid(child, &status, 0) == child);
    printf("status %d handled %d\n", WEXITSTATUS(status), handled == SIGALRM);

    /* A mask of the call's own: the signal is blocked but while the call waits. */
    sigemptyset(&set), sigaddset(&set, SIGALRM), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, 0);
    sigset_t only_usr2;
    sigemptyset(&only_usr2), sigaddset(&only_usr2, SIGUSR2);
    install(SIGALRM, handler, 0);
    in(SOON);
    SHOW(ppoll(0, 0, &(struct timespec){10, 0}, &only_usr2));
    printf("handled %d, SIGUSR2 blocked in it %d\n", handled == SIGALRM, blocked_inside);
    in(SOON);
    SHOW(ppoll(0, 0, &(struct timespec){10, 0}, &empty));
    printf("handled %d, SIGUSR2 blocked in it %d\n", handled == SIGALRM, blocked_inside);
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    printf("afterwards blocked: %d %d\n", sigismember(&now, SIGALRM), sigismember(&now, SIGUSR2));
    in(SOON);
    SHOW(pselect(0, 0, 0, 0, &(struct timespec){10, 0}, &empty));
    in(SOON);
    SHOW(epoll_pwait(ep, &event, 1, 10000, &empty));
    in(SOON);
    SHOW(sigsuspend(&empty));
    printf("handled %d\n", handled == SIGALRM);
    in(SOON);
    int taken;
    printf("sigwait %d", sigwait(&set, &taken));
    printf(" %d handled %d\n", taken == SIGALRM, handled);
    kill(getpid(), SIGUSR2);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    SHOW(sigtimedwait(&set, &info, &(struct timespec){0, 0}));
    printf("from itself: %d %d\n", info.si_pid == getpid(), info.si_code);
    SHOW(sigtimedwait(&set, &info, &(struct timespec){0, 1000000}));
    sigset_t pending;
    kill(getpid(), SIGUSR2);
    sigpending(&pending);
    printf("pending %d %d\n", sigismember(&pending, SIGUSR2), sigismember(&pending, SIGALRM));
    install(SIGUSR2, quiet, 0);
    handled = 0;
    sigprocmask(SIG_UNBLOCK, &set, 0);
    printf("delivered when unblocked: %d\n", handled == SIGUSR2);

    /* A socket with a timeout of its own is never read again. */
    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return 1;
    install(SIGALRM, quiet, SA_RESTART);
    struct timeval ten = {10, 0};
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &ten, sizeof ten);
    in(SOON);
    SHOW(recv(s[0], &c, 1, 0));

    /* Timers of other kinds. */
    timer_t timer;
    struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 77};
    SHOW(timer_create(CLOCK_MONOTONIC, &by_signal, &timer));
    sigprocmask(SIG_BLOCK, &only_usr2, 0);
    SHOW(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 10000000}}, 0));
    SHOW(sigwaitinfo(&only_usr2, &info));
    printf("value %d code %d\n", info.si_value.sival_int, info.si_code);
    SHOW(timer_delete(timer));
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    SHOW(timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {0, 10000000}}, 0));
    unsigned long expired = 0;
    SHOW(read(fd, &expired, 8));
    printf("expired %lu\n", expired);
    struct sigaction chld = {.sa_handler = SIG_IGN};
    sigaction(SIGCHLD, &chld, 0);
    if (!fork()) _exit(3);
    SHOW(wait(&status));
}
