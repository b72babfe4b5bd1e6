/* System calls that write into pages of code that has run: each has its effect once, and the code runs as it was written.
   Every test has a page of its own, because pages that change often are treated differently. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int function(void);
enum { SIZE = 4096, DATA = 1024 };

/* How often the code runs between two changes. */
static int times_run;
/* Whether what an emulator of the kernel's interface gets wrong is tried, too. */
static int all;

/* mov eax, value; ret */
static void put(uint8_t *at, int value) {
    uint8_t code[] = {0xb8, (uint8_t)value, 0, 0, 0, 0xc3};
    memcpy(at, code, sizeof code);
}

static const uint8_t *code_of(int value) {
    static uint8_t code[6];
    put(code, value);
    return code;
}

static int run(const uint8_t *page) {
    int last = 0;
    for (int i = 0; i < times_run; i++) last = ((function *)page)();
    return last;
}

static uint8_t *fresh_pages(int pages) {
    /* Never unmapped: the next ones get other addresses. */
    uint8_t *page = mmap(0, pages * SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) exit(1);
    return page;
}

/* A page with code that has run. */
static uint8_t *fresh(void) {
    uint8_t *page = fresh_pages(1);
    put(page, 1);
    if (run(page) != 1) printf("wrong from the start\n");
    return page;
}

/* A page of code in which there is this data, too. */
static void *with_data(const void *data, size_t size) {
    uint8_t *page = fresh_pages(1);
    memcpy(page + DATA, data, size);
    put(page, 1);
    run(page);
    return page + DATA;
}

/* The code in the page of data still runs. */
static void check(const char *name, const void *data) {
    const uint8_t *page = (const uint8_t *)((uintptr_t)data & ~(uintptr_t)(SIZE - 1));
    int got = run(page);
    if (got != 1) printf("%s: code gives %d\n", name, got);
}

#define SHOW(name, result) \
    do { \
        errno = 0; \
        long shown_ = (long)(result); \
        printf("%s %ld %d\n", name, shown_, shown_ < 0 ? errno : 0); \
    } while (0)

static int file_with_code(int value) {
    int fd = memfd_create("code", 0);
    if (write(fd, code_of(value), 6) != 6) exit(1);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void reads(void) {
    int fd = file_with_code(2);
    uint8_t *p = fresh();
    SHOW("read", read(fd, p, 6));
    printf("code %d, at %ld\n", run(p), (long)lseek(fd, 0, SEEK_CUR));
    p = fresh();
    SHOW("pread", pread(fd, p, 6, 0));
    printf("code %d\n", run(p));
    p = fresh();
    struct iovec parts[2] = {{p, 3}, {p + 3, 3}};
    lseek(fd, 0, SEEK_SET);
    SHOW("readv", readv(fd, parts, 2));
    printf("code %d\n", run(p));
    p = fresh();
    struct iovec *in_page = with_data((struct iovec[2]){{p, 3}, {p + 3, 3}}, sizeof parts);
    SHOW("preadv", preadv(fd, in_page, 2, 0));
    printf("code %d\n", run(p));
    /* Over two pages, of which the second has code: no short count. */
    uint8_t *two = fresh_pages(2);
    put(two + SIZE, 1);
    run(two + SIZE);
    lseek(fd, 0, SEEK_SET);
    SHOW("over two", read(fd, two + SIZE - 3, 6));
    printf("%d\n", memcmp(two + SIZE - 3, code_of(2), 6));
    /* As much as there is, though asked for far more. */
    if (all) {
        p = fresh();
        SHOW("pread all", pread(fd, p, 1 << 20, 0));
        printf("code %d\n", run(p));
    }
    close(fd);

    int ends[2];
    if (pipe(ends)) exit(1);
    if (write(ends[1], code_of(3), 6) != 6 || write(ends[1], code_of(4), 6) != 6) exit(1);
    p = fresh();
    SHOW("pipe", read(ends[0], p, 6));
    printf("code %d\n", run(p));
    p = fresh();
    SHOW("the rest", read(ends[0], p, 100));
    printf("code %d\n", run(p));
    /* A bad buffer between good ones. */
    p = fresh();
    struct iovec bad[3] = {{p, 2}, {(void *)8, 2}, {p + 2, 4}};
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    if (all) {
        if (write(ends[1], code_of(5), 6) != 6) exit(1);
        SHOW("bad buffer", readv(ends[0], bad, 3));
        SHOW("after it", read(ends[0], p, 6));
    }
    SHOW("bad array", syscall(SYS_readv, ends[0], 8, 3));
    SHOW("too many", syscall(SYS_readv, ends[0], bad, 5000));
    SHOW("negative", readv(ends[0], &(struct iovec){p, -1}, 1));
    close(ends[0]), close(ends[1]);
}

static void datagrams(void) {
    int s[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s)) exit(1);
    for (int i = 2; i < 9; i++) send(s[0], code_of(i), 6, 0);
    uint8_t *p = fresh();
    SHOW("recv", recv(s[1], p, 6, MSG_DONTWAIT));
    printf("code %d\n", run(p));
    p = fresh();
    struct { struct sockaddr_un name; socklen_t len; } *from = (void *)(p + DATA);
    from->len = sizeof from->name;
    run(p);
    SHOW("recvfrom", recvfrom(s[1], p, 6, MSG_DONTWAIT, (void *)&from->name, &from->len));
    printf("length %d, code %d\n", (int)from->len, run(p));
    p = fresh();
    struct iovec *parts = with_data((struct iovec[2]){{p, 3}, {p + 3, 3}}, 2 * sizeof(struct iovec));
    struct msghdr *header = with_data(&(struct msghdr){.msg_iov = parts, .msg_iovlen = 2}, sizeof *header);
    SHOW("recvmsg", recvmsg(s[1], header, MSG_DONTWAIT));
    printf("code %d\n", run(p));
    check("recvmsg", header);
    uint8_t *q = fresh();
    p = fresh();
    struct iovec a = {p, 6}, b = {q, 6};
    struct mmsghdr both[2] = {{{.msg_iov = &a, .msg_iovlen = 1}, 0}, {{.msg_iov = &b, .msg_iovlen = 1}, 0}};
    struct mmsghdr *two = with_data(both, sizeof both);
    SHOW("recvmmsg", recvmmsg(s[1], two, 2, MSG_DONTWAIT, 0));
    printf("%d and %d, code %d and %d\n", (int)two[0].msg_len, (int)two[1].msg_len, run(p), run(q));
    check("recvmmsg", two);
    /* With nothing to read, a call that has to wait gets what comes. */
    p = fresh();
    SHOW("recv", recv(s[1], p, 6, 0));
    SHOW("recv", recv(s[1], p, 6, 0));
    printf("code %d\n", run(p));
    SHOW("no more", recv(s[1], p, 6, MSG_DONTWAIT));
    struct mmsghdr *out = with_data(both, sizeof both);
    SHOW("sendmmsg", sendmmsg(s[0], out, 2, 0));
    printf("%d and %d\n", (int)out[0].msg_len, (int)out[1].msg_len);
    p = fresh();
    SHOW("one", recv(s[1], p, 6, MSG_DONTWAIT));
    SHOW("two", recv(s[1], p, 6, MSG_DONTWAIT));
    SHOW("no more", recv(s[1], p, 6, MSG_DONTWAIT));
    SHOW("bad header", recvmsg(s[1], (void *)8, MSG_DONTWAIT));
    close(s[0]), close(s[1]);
}

/* Descriptors that a message carries arrive once. */
static void passed_descriptors(void) {
    int s[2], before = dup(0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) exit(1);
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {{0}};
    char byte = 'x';
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &before, sizeof before);
    SHOW("sendmsg", sendmsg(s[0], &message, 0));
    uint8_t *p = fresh();
    message.msg_control = p + DATA;
    SHOW("recvmsg", recvmsg(s[1], &message, MSG_DONTWAIT));
    int got;
    memcpy(&got, p + DATA + sizeof(struct cmsghdr), sizeof got);
    printf("descriptor %d, control %d, code %d\n", got - before, (int)message.msg_controllen, run(p));
    close(got), close(s[0]), close(s[1]), close(before);
}

static void connections(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "xlate-test-%d", (int)getpid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW("bind", bind(server, (void *)&name, size));
    SHOW("listen", listen(server, 5));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW("connect", connect(client, (void *)&name, size));
    struct { struct sockaddr_un name; socklen_t len; } peer = {.len = sizeof peer.name}, *in_page = with_data(&peer, sizeof peer);
    int got = accept(server, (void *)&in_page->name, &in_page->len);
    printf("accepted %d, length %d\n", got - client, (int)in_page->len);
    check("accept", in_page);
    SHOW("no more", accept4(server, 0, 0, 0));
    in_page = with_data(&peer, sizeof peer);
    SHOW("getsockname", getsockname(server, (void *)&in_page->name, &in_page->len));
    printf("length %d, as bound %d\n", (int)(in_page->len - size), memcmp(&in_page->name, &name, size));
    in_page = with_data(&peer, sizeof peer);
    SHOW("getpeername", getpeername(client, (void *)&in_page->name, &in_page->len));
    int option[2] = {-1, sizeof(int)}, *place = with_data(option, sizeof option);
    SHOW("getsockopt", getsockopt(server, SOL_SOCKET, SO_TYPE, place, (socklen_t *)(place + 1)));
    printf("%d %d\n", place[0], place[1]);
    check("getsockopt", place);
    close(got), close(client), close(server);
}

static void children(void) {
    uint8_t *p = fresh();
    pid_t child = fork();
    if (!child) _exit(run(p) + 6);
    run(p);
    SHOW("wait4", wait4(child, (int *)(p + DATA), 0, (struct rusage *)(p + 2 * DATA)) == child);
    printf("status %d, code %d\n", WEXITSTATUS(*(int *)(p + DATA)), run(p));
    SHOW("no child", wait4(-1, (int *)(p + DATA), 0, 0));
    p = fresh();
    child = fork();
    if (!child) _exit(9);
    siginfo_t *info = (siginfo_t *)(p + DATA);
    SHOW("waitid", syscall(SYS_waitid, P_PID, child, info, WEXITED, (struct rusage *)(p + 2 * DATA)));
    printf("status %d, child %d, code %d\n", info->si_status, info->si_pid == child, run(p));
    /* Numbers that the kernel writes in both processes. */
    p = fresh();
    int *numbers = (int *)(p + DATA);
    run(p);
    child = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, 0, numbers, numbers + 1, 0);
    if (!child) _exit((numbers[1] == getpid()) + 2 * (run(p) == 1));
    int status;
    waitpid(child, &status, 0);
    printf("clone %d %d, status %d, code %d\n", !all || numbers[0] == child, numbers[1], WEXITSTATUS(status), run(p));
}

static volatile sig_atomic_t handled;
static const uint8_t *for_handler;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    handled += for_handler ? run(for_handler) : 1;
}

static void signals(void) {
    sigset_t *set, one, none;
    sigemptyset(&one), sigemptyset(&none);
    sigaddset(&one, SIGRTMIN + 1);
    uint64_t *old = with_data(&(uint64_t){99}, 8);
    SHOW("block", syscall(SYS_rt_sigprocmask, SIG_BLOCK, &one, old, 8));
    printf("before %lx\n", (long)*old);
    check("block", old);
    old = with_data(&(uint64_t){99}, 8);
    SHOW("block again", syscall(SYS_rt_sigprocmask, SIG_BLOCK, &one, old, 8));
    printf("before %lx\n", (long)*old);
    set = with_data(&none, sizeof none);
    union sigval value = {.sival_int = 5};
    sigqueue(getpid(), SIGRTMIN + 1, value);
    value.sival_int = 6;
    sigqueue(getpid(), SIGRTMIN + 1, value);
    SHOW("sigpending", syscall(SYS_rt_sigpending, set, 8));
    printf("%d\n", sigismember(set, SIGRTMIN + 1));
    siginfo_t *info = with_data(&(siginfo_t){0}, sizeof *info);
    struct timespec soon = {0, 1000};
    for (int i = 0; i < 3; i++) {
        SHOW("sigtimedwait", syscall(SYS_rt_sigtimedwait, &one, info, &soon, 8) > 0);
        printf("value %d\n", info->si_value.sival_int);
    }
    check("sigtimedwait", info);
    int fd = signalfd(-1, &one, SFD_NONBLOCK);
    value.sival_int = 7;
    sigqueue(getpid(), SIGRTMIN + 1, value);
    struct signalfd_siginfo *read_info = with_data(&(struct signalfd_siginfo){0}, sizeof *read_info);
    SHOW("signalfd", read(fd, read_info, sizeof *read_info));
    printf("value %d\n", read_info->ssi_int);
    SHOW("no more", read(fd, read_info, sizeof *read_info));
    close(fd);
    sigprocmask(SIG_UNBLOCK, &one, 0);

    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigaction(SIGUSR1, &action, 0);
    uint64_t *previous = with_data((uint64_t[4]){0}, 32);
    SHOW("sigaction", syscall(SYS_rt_sigaction, SIGUSR1, 0, previous, 8));
    printf("%d\n", previous[0] == (uint64_t)handler);
    /* A frame beside code. */
    uint8_t *stack = fresh_pages(8);
    put(stack + 8 * SIZE - 32, 1);
    run(stack + 8 * SIZE - 32);
    for_handler = stack + 8 * SIZE - 32;
    stack_t *given = with_data(&(stack_t){.ss_sp = stack, .ss_size = 8 * SIZE - 64}, sizeof(stack_t));
    SHOW("sigaltstack", sigaltstack(given, 0));
    SHOW("sigaltstack", sigaltstack(0, given));
    printf("%d %d\n", given->ss_sp == stack, given->ss_flags);
    raise(SIGUSR1);
    raise(SIGUSR1);
    printf("handled %d, code %d\n", (int)handled, run(for_handler));
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, 0);
}

/* A handler runs the code of the page that the interrupted call writes to. */
static void interrupted(void) {
    uint8_t *p = fresh();
    for_handler = p;
    handled = 0;
    int data[2], go[2];
    if (pipe(data) || pipe(go)) exit(1);
    pid_t child = fork();
    if (!child) {
        char byte;
        if (read(go[0], &byte, 1) != 1) _exit(1);
        usleep(30000);
        kill(getppid(), SIGUSR1);
        usleep(60000);
        _exit(write(data[1], code_of(2), 6) != 6);
    }
    if (write(go[1], "x", 1) != 1) exit(1);
    SHOW("interrupted", read(data[0], p, 6));
    printf("handled %d, code %d\n", (int)handled, run(p));
    waitpid(child, 0, 0);
    for_handler = 0;
    close(data[0]), close(data[1]), close(go[0]), close(go[1]);
}

static void counters(void) {
    uint64_t *count = with_data(&(uint64_t){0}, 8);
    int fd = eventfd(5, EFD_NONBLOCK);
    SHOW("eventfd", read(fd, count, 8));
    printf("count %ld\n", (long)*count);
    check("eventfd", count);
    SHOW("no more", read(fd, count, 8));
    close(fd);
    fd = eventfd(3, EFD_NONBLOCK | EFD_SEMAPHORE);
    count = with_data(&(uint64_t){0}, 8);
    int reads = 0;
    while (read(fd, count, 8) == 8) reads++;
    printf("semaphore %d\n", reads);
    close(fd);
    fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec once = {.it_value = {0, 1}}, *old = with_data(&once, sizeof once);
    SHOW("timerfd_settime", timerfd_settime(fd, 0, &once, old));
    printf("before %ld\n", (long)old->it_value.tv_nsec);
    usleep(2000);
    count = with_data(&(uint64_t){0}, 8);
    SHOW("timerfd", read(fd, count, 8));
    printf("count %ld\n", (long)*count);
    SHOW("no more", read(fd, count, 8));
    old = with_data(&once, sizeof once);
    SHOW("timerfd_gettime", timerfd_gettime(fd, old));
    close(fd);
    struct itimerval hour = {.it_value = {3600, 0}}, day = {.it_value = {86400, 0}}, *before = with_data(&day, sizeof day);
    setitimer(ITIMER_REAL, &hour, 0);
    SHOW("setitimer", setitimer(ITIMER_REAL, &day, before));
    printf("before %d\n", before->it_value.tv_sec <= 3600);
    before = with_data(&hour, sizeof hour);
    SHOW("getitimer", getitimer(ITIMER_REAL, before));
    printf("now %d\n", before->it_value.tv_sec > 3600);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, 0);
    struct rlimit limit, less, *was = with_data(&limit, sizeof limit);
    getrlimit(RLIMIT_CORE, &limit);
    less = limit;
    less.rlim_cur = 0;
    SHOW("prlimit", syscall(SYS_prlimit64, 0, RLIMIT_CORE, &less, was));
    printf("before %d\n", memcmp(was, &limit, sizeof limit));
    check("prlimit", was);
}

static void waiting(void) {
    int ends[2];
    if (pipe(ends) || write(ends[1], "x", 1) != 1) exit(1);
    struct pollfd ask = {ends[0], POLLIN, 0}, *set = with_data(&ask, sizeof ask);
    SHOW("poll", poll(set, 1, 0));
    printf("%d\n", set->revents);
    set = with_data(&ask, sizeof ask);
    struct timespec minute = {60, 0}, *left = with_data(&minute, sizeof minute);
    SHOW("ppoll", syscall(SYS_ppoll, set, 1, left, 0, 8));
    printf("%d %d\n", set->revents, left->tv_sec < 60);
    fd_set files;
    FD_ZERO(&files);
    FD_SET(ends[0], &files);
    FD_SET(ends[1], &files);
    fd_set *in_page = with_data(&files, sizeof files);
    struct timeval long_time = {60, 0}, *rest = with_data(&long_time, sizeof long_time);
    SHOW("select", syscall(SYS_select, ends[1] + 1, in_page, 0, 0, rest));
    printf("%d %d %d\n", FD_ISSET(ends[0], in_page) != 0, FD_ISSET(ends[1], in_page) != 0, rest->tv_sec < 60);
    in_page = with_data(&files, sizeof files);
    left = with_data(&minute, sizeof minute);
    SHOW("pselect", syscall(SYS_pselect6, ends[1] + 1, in_page, 0, 0, left, 0));
    printf("%d %d\n", FD_ISSET(ends[0], in_page) != 0, left->tv_sec < 60);
    int queue = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 42};
    epoll_ctl(queue, EPOLL_CTL_ADD, ends[0], &event);
    struct epoll_event *found = with_data(&(struct epoll_event){0}, sizeof *found);
    SHOW("epoll_wait", epoll_wait(queue, found, 1, 0));
    printf("%ld\n", (long)found->data.u64);
    check("epoll_wait", found);
    SHOW("edge only", epoll_wait(queue, found, 1, 0));
    close(queue), close(ends[0]), close(ends[1]);
    struct timespec nap = {0, 1000};
    left = with_data(&minute, sizeof minute);
    SHOW("nanosleep", syscall(SYS_nanosleep, &nap, left));
}

static void files(void) {
    char name[] = "/tmp/xlate-kernel-writes-XXXXXX";
    if (!mkdtemp(name)) exit(1);
    char path[64];
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "%s/a-file-with-a-name-%d", name, i);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    int directory = open(name, O_RDONLY | O_DIRECTORY), found = 0;
    for (;;) {
        uint8_t *buffer = (uint8_t *)with_data("", 1);
        long length = syscall(SYS_getdents64, directory, buffer, 300);
        if (length <= 0) break;
        for (long at = 0; at < length; at += ((struct dirent64 *)(buffer + at))->d_reclen) found++;
        check("getdents", buffer);
    }
    printf("%d names\n", found);
    struct stat seen, *stat_in_page = with_data("", 1);
    lstat(path, &seen);
    SHOW("stat", syscall(SYS_stat, path, stat_in_page));
    printf("%d\n", stat_in_page->st_ino == seen.st_ino);
    stat_in_page = with_data("", 1);
    SHOW("fstatat", syscall(SYS_newfstatat, AT_FDCWD, path, stat_in_page, 0));
    printf("%d\n", stat_in_page->st_ino == seen.st_ino);
    struct statx *more = with_data("", 1);
    SHOW("statx", syscall(SYS_statx, AT_FDCWD, path, 0, STATX_ALL, more));
    printf("%d\n", more->stx_ino == seen.st_ino);
    SHOW("statfs", statfs(name, with_data("", 1)));
    char *text = with_data("", 1), link[64];
    snprintf(link, sizeof link, "%s/link", name);
    if (symlink("somewhere", link)) exit(1);
    SHOW("readlink", readlink(link, text, 100));
    printf("%s\n", text);
    if (chdir(name)) exit(1);
    text = with_data("", 1);
    SHOW("getcwd", syscall(SYS_getcwd, text, 100) == (long)strlen(name) + 1);
    printf("%d\n", strcmp(text, name));
    check("getcwd", text);
    if (chdir("/")) exit(1);

    int from = file_with_code(2), to = memfd_create("to", 0);
    off_t *offset = with_data(&(off_t){0}, sizeof(off_t));
    SHOW("sendfile", sendfile(to, from, offset, 6));
    printf("%ld\n", (long)*offset);
    offset = with_data(&(off_t){0}, sizeof(off_t));
    SHOW("copy_file_range", copy_file_range(from, offset, to, 0, 6, 0));
    printf("%ld %ld\n", (long)*offset, (long)lseek(to, 0, SEEK_CUR));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, *asked = with_data(&lock, sizeof lock);
    SHOW("F_GETLK", fcntl(to, F_GETLK, asked));
    printf("%d\n", asked->l_type);
    close(from), close(to), close(directory);

    int watch = inotify_init1(IN_NONBLOCK);
    inotify_add_watch(watch, name, IN_DELETE);
    unlink(link);
    struct inotify_event *event = with_data("", 1);
    SHOW("inotify", read(watch, event, 512));
    printf("%s\n", event->name);
    SHOW("no more", read(watch, event, 512));
    close(watch);
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "%s/a-file-with-a-name-%d", name, i);
        unlink(path);
    }
    rmdir(name);
}

static void made_descriptors(void) {
    int next = dup(0), *pair = with_data("", 1);
    close(next);
    SHOW("pipe", syscall(SYS_pipe, pair));
    printf("%d %d\n", pair[0] - next, pair[1] - next);
    close(pair[0]), close(pair[1]);
    pair = with_data("", 1);
    SHOW("pipe2", pipe2(pair, O_CLOEXEC));
    if (write(pair[1], "abc", 3) != 3) exit(1);
    int *number = with_data("", 1);
    SHOW("FIONREAD", ioctl(pair[0], FIONREAD, number));
    printf("%d\n", *number);
    close(pair[0]), close(pair[1]);
    pair = with_data("", 1);
    SHOW("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    printf("%d %d\n", pair[0] - next, pair[1] - next);
    check("socketpair", pair);
    close(pair[0]), close(pair[1]);
}

static void system_values(void) {
    struct utsname *names = with_data("", 1);
    SHOW("uname", syscall(SYS_uname, names));
    printf("%s %s\n", names->sysname, names->machine);
    SHOW("sysinfo", sysinfo(with_data("", 1)));
    struct timespec *now = with_data("", 1);
    SHOW("clock_gettime", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, now));
    printf("%d\n", now->tv_sec > 0 || now->tv_nsec > 0);
    SHOW("clock_getres", syscall(SYS_clock_getres, CLOCK_MONOTONIC, with_data("", 1)));
    SHOW("gettimeofday", syscall(SYS_gettimeofday, with_data("", 1), with_data("", 1)));
    time_t *seconds = with_data("", 1);
    SHOW("time", syscall(SYS_time, seconds) == *seconds);
    SHOW("times", times(with_data("", 1)) > 0);
    SHOW("getrusage", getrusage(RUSAGE_SELF, with_data("", 1)));
    SHOW("getrlimit", syscall(SYS_getrlimit, RLIMIT_CPU, with_data("", 1)));
    SHOW("getrandom", syscall(SYS_getrandom, with_data("", 1), 16, 0));
    unsigned *ids = with_data("", 1);
    SHOW("getresuid", syscall(SYS_getresuid, ids, ids + 1, ids + 2));
    printf("%d\n", ids[0] == getuid() && ids[1] == geteuid());
    SHOW("affinity", syscall(SYS_sched_getaffinity, 0, 128, with_data("", 1)) > 0);
    SHOW("getparam", syscall(SYS_sched_getparam, 0, with_data("", 1)));
    SHOW("getcpu", syscall(SYS_getcpu, with_data("", 1), with_data("", 1), 0));
    char *name = with_data("", 1);
    prctl(PR_SET_NAME, "a name");
    SHOW("PR_GET_NAME", prctl(PR_GET_NAME, name));
    printf("%s\n", name);
    unsigned long *base = with_data("", 1);
    SHOW("ARCH_GET_FS", syscall(SYS_arch_prctl, 0x1003, base));
    printf("%d\n", *base != 0);
    uint32_t *header = with_data((uint32_t[2]){0x20080522, 0}, 8);
    SHOW("capget", syscall(SYS_capget, header, with_data("", 1)));
    int *timer = with_data("", 1);
    SHOW("timer_create", syscall(SYS_timer_create, CLOCK_MONOTONIC, 0, timer));
    struct itimerspec hour = {.it_value = {3600, 0}}, *old = with_data(&hour, sizeof hour);
    SHOW("timer_settime", syscall(SYS_timer_settime, *timer, 0, &hour, old));
    printf("%ld\n", (long)old->it_value.tv_sec);
    SHOW("timer_gettime", syscall(SYS_timer_gettime, *timer, old));
    SHOW("timer_delete", syscall(SYS_timer_delete, *timer));
    check("timers", timer);
    int *word = with_data(&(int){7}, sizeof(int));
    SHOW("WAIT", syscall(SYS_futex, word, FUTEX_WAIT, 6, 0, 0, 0));
    SHOW("WAKE", syscall(SYS_futex, with_data(&(int){7}, sizeof(int)), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0));
    word = with_data(&(int){7}, sizeof(int));
    SHOW("WAKE_OP", syscall(SYS_futex, with_data("", 1), FUTEX_WAKE_OP, 1, 1, word, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 7)));
    printf("%d\n", *word);
}

/* mov rax, rdi; mov rdi, rsi; mov rsi, rdx; mov rdx, rcx; syscall; ret */
static const uint8_t caller[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48, 0x89, 0xca, 0x0f, 0x05, 0xc3};
typedef long called(long number, const void *first, const void *second, long third);

/* Into the page that holds the `syscall` instruction. */
static void own_page(void) {
    uint8_t *p = fresh_pages(1);
    memcpy(p, caller, sizeof caller);
    long got = 0;
    for (int i = 0; i < times_run; i++) got |= ((called *)p)(SYS_clock_gettime, (void *)CLOCK_MONOTONIC, p + DATA, 0);
    printf("own page %ld\n", got);
    /* Over the instruction behind: it returns one more. */
    p = fresh_pages(1);
    memcpy(p, caller, sizeof caller);
    for (int i = 0; i < times_run; i++) got |= ((called *)p)(SYS_clock_gettime, (void *)CLOCK_MONOTONIC, &(struct timespec){0}, 0);
    int fd = memfd_create("code", 0);
    if (write(fd, (uint8_t[]){0x48, 0xff, 0xc0, 0xc3}, 4) != 4) exit(1);
    lseek(fd, 0, SEEK_SET);
    printf("next instruction %ld\n", ((called *)p)(SYS_read, (void *)(long)fd, p + sizeof caller - 1, 4));
    printf("and again %ld\n", ((called *)p)(SYS_read, (void *)(long)fd, p + DATA, 4));
    close(fd);
}

/* Memory through its file, which needs no permission to write. */
static void memory_file(const char *name) {
    int fd = open(name, O_RDWR);
    uint8_t *p = fresh();
    SHOW("pwrite", pwrite(fd, code_of(2), 6, (off_t)p));
    printf("code %d\n", run(p));
    p = fresh();
    mprotect(p, SIZE, PROT_READ | PROT_EXEC);
    run(p);
    int copy = dup(fd);
    SHOW("pwrite, read-only", pwrite(copy, code_of(3), 6, (off_t)p));
    printf("code %d\n", run(p));
    lseek(fd, (off_t)p, SEEK_SET);
    SHOW("write", write(copy, code_of(4), 6));
    printf("code %d\n", run(p));
    lseek(fd, (off_t)p, SEEK_SET);
    static uint8_t code[6];
    put(code, 5);
    struct iovec parts[2] = {{code, 2}, {code + 2, 4}};
    SHOW("writev", writev(fd, parts, 2));
    printf("code %d\n", run(p));
    put(code, 6);
    SHOW("pwritev", pwritev(fd, parts, 2, (off_t)p));
    printf("code %d\n", run(p));
    close(fd), close(copy);
}

/* System V's and POSIX's queues. */
static void queues(void) {
    struct { long type; uint8_t code[6]; } message = {1, {0}}, *got = with_data(&message, sizeof message);
    int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    for (int i = 2; i < 4; i++) {
        memcpy(message.code, code_of(i), 6);
        SHOW("msgsnd", msgsnd(queue, &message, 6, 0));
    }
    SHOW("msgrcv", msgrcv(queue, got, 6, 0, IPC_NOWAIT));
    printf("type %ld, code %d\n", got->type, got->code[1]);
    check("msgrcv", got);
    got = with_data(&message, sizeof message);
    SHOW("msgrcv", msgrcv(queue, got, 6, 0, IPC_NOWAIT));
    printf("type %ld, code %d\n", got->type, got->code[1]);
    SHOW("no more", msgrcv(queue, got, 6, 0, IPC_NOWAIT));
    struct msqid_ds *state = with_data("", 1);
    SHOW("msgctl", msgctl(queue, IPC_STAT, state));
    printf("%d messages\n", (int)state->msg_qnum);
    msgctl(queue, IPC_RMID, 0);
    int set = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
    unsigned short *values = with_data((unsigned short[]){5, 6, 7}, 6);
    SHOW("SETALL", semctl(set, 0, SETALL, values));
    values = with_data("", 1);
    SHOW("GETALL", semctl(set, 0, GETALL, values));
    printf("%d %d %d\n", values[0], values[1], values[2]);
    struct semid_ds *about = with_data("", 1);
    SHOW("semctl", semctl(set, 0, IPC_STAT, about));
    printf("%d\n", (int)about->sem_nsems);
    semctl(set, 0, IPC_RMID);
    int memory = shmget(IPC_PRIVATE, 12345, IPC_CREAT | 0600);
    struct shmid_ds *size = with_data("", 1);
    SHOW("shmctl", shmctl(memory, IPC_STAT, size));
    printf("%d\n", (int)size->shm_segsz);
    shmctl(memory, IPC_RMID, 0);

    char name[40];
    snprintf(name, sizeof name, "/xlate-test-%d", (int)getpid());
    struct mq_attr form = {.mq_maxmsg = 4, .mq_msgsize = 16}, *attributes = with_data("", 1);
    mqd_t posix = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &form);
    mq_unlink(name);
    SHOW("mq_getattr", mq_getattr(posix, attributes));
    printf("%ld\n", attributes->mq_msgsize);
    mq_send(posix, (const char *)code_of(2), 6, 3);
    uint8_t *p = fresh();
    unsigned *priority = with_data("", 1);
    SHOW("mq_receive", mq_receive(posix, (char *)p, 16, priority));
    printf("priority %u, code %d\n", *priority, run(p));
    SHOW("no more", mq_receive(posix, (char *)p, 16, priority));
    mq_close(posix);
}

/* Reads that may end after the call that asks for them. */
static void asynchronous(void) {
    aio_context_t *context = with_data(&(aio_context_t){0}, sizeof *context);
    SHOW("io_setup", syscall(SYS_io_setup, 4, context));
    int fd = file_with_code(2);
    for (int i = 0; i < 12; i++) {
        uint8_t *p = fresh();
        struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (unsigned)fd, .aio_buf = (uintptr_t)p, .aio_nbytes = 6};
        struct iocb *in_page = with_data(&request, sizeof request), *list[] = {in_page};
        struct io_event *event = with_data("", 1);
        int submitted = (int)syscall(SYS_io_submit, *context, 1, list);
        int got = (int)syscall(SYS_io_getevents, *context, 1, 1, event, 0);
        printf("%d submitted, %d got: %d bytes, code %d\n", submitted, got, (int)event->res, run(p));
        check("io_submit", in_page);
    }
    syscall(SYS_io_destroy, *context);
    close(fd);
}

/* Answers behind addresses, and of a length that the request doesn't tell. */
static void nested(void) {
    uint8_t *p = fresh();
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifconf *list = with_data(&(struct ifconf){.ifc_len = 512, .ifc_buf = (char *)p + DATA}, sizeof *list);
    SHOW("SIOCGIFCONF", ioctl(fd, SIOCGIFCONF, list));
    printf("%d, code %d\n", list->ifc_len >= 0, run(p));
    struct ifreq *name = with_data(&(struct ifreq){.ifr_ifindex = 1}, sizeof *name);
    SHOW("SIOCGIFNAME", ioctl(fd, SIOCGIFNAME, name));
    printf("%s\n", name->ifr_name);
    close(fd);
    SHOW("getgroups", getgroups(64, with_data("", 1)) >= 0);
    SHOW("mincore", mincore(p, SIZE, with_data("", 1)));
    SHOW("populate", madvise(p, SIZE, MADV_POPULATE_WRITE));
    SHOW("sched_getattr", syscall(SYS_sched_getattr, 0, with_data("", 1), 56, 0));
}

/* Code of a child that is running it. */
static void into_child(int by_file) {
    int ready[2];
    if (pipe(ready)) exit(1);
    uint8_t *p = fresh();
    if (by_file) mprotect(p, SIZE, PROT_READ | PROT_EXEC);
    pid_t child = fork();
    if (!child) {
        run(p);
        alarm(60);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        while (((function *)p)() == 1) {}
        _exit(((function *)p)());
    }
    char byte;
    if (read(ready[0], &byte, 1) != 1) exit(1);
    usleep(20000);
    if (by_file) {
        char name[32];
        snprintf(name, sizeof name, "/proc/%d/mem", (int)child);
        int fd = open(name, O_WRONLY);
        SHOW("into a child, by its file", pwrite(fd, code_of(2), 6, (off_t)p));
        close(fd);
    } else {
        static uint8_t code[6];
        put(code, 3);
        struct iovec local = {code, 6}, remote[2] = {{p, 2}, {p + 2, 4}};
        SHOW("into a child", process_vm_writev(child, &local, 1, remote, 2, 0));
    }
    int status;
    waitpid(child, &status, 0);
    printf("child: code %d, signal %d; here: %d\n", WEXITSTATUS(status), WTERMSIG(status), run(p));
    close(ready[0]), close(ready[1]);
}

/* This process's own, by its number. */
static void into_itself(void) {
    uint8_t *p = fresh();
    static uint8_t code[6];
    put(code, 4);
    struct iovec local = {code, 6}, remote = {p, 6};
    SHOW("into itself", process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
    printf("code %d\n", run(p));
    uint8_t *q = fresh();
    struct iovec into = {q, 6};
    SHOW("from itself", process_vm_readv(getpid(), &into, 1, &remote, 1, 0));
    printf("code %d\n", run(q));
    mprotect(p, SIZE, PROT_READ | PROT_EXEC);
    SHOW("read-only", process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IONBF, 0);
    all = argc > 1 && !strcmp(argv[1], "all");
    for (int i = 0; i < 2; i++) {
        times_run = i ? 400 : 1;
        reads();
        datagrams();
        passed_descriptors();
        connections();
        children();
        signals();
        interrupted();
        counters();
        waiting();
        files();
        made_descriptors();
        system_values();
        own_page();
        if (all) {
            queues();
            asynchronous();
            nested();
            memory_file("/proc/self/mem");
            memory_file("/proc/thread-self/mem");
            char name[32];
            snprintf(name, sizeof name, "/proc/%d/mem", (int)getpid());
            memory_file(name);
            into_itself();
            into_child(0);
            into_child(1);
        }
    }
}
