/* Sockets, System V and POSIX communication, and descriptors of other kinds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>
#include "report.h"

static void tcp(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    SHOW(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    SHOW(bind(listener, (void *)&a, sizeof a));
    SHOW(listen(listener, 1));
    SHOW(getsockname(listener, (void *)&a, &length));
    int client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(client, (void *)&a, sizeof a));
    int server = accept4(listener, (void *)&a, &length, SOCK_NONBLOCK);
    printf("flags %o\n", fcntl(server, F_GETFL));
    char buffer[16] = "";
    SHOW(recv(server, buffer, 4, 0));
    SHOW(send(client, "1234", 4, MSG_NOSIGNAL));
    SHOW(recv(server, buffer, 4, MSG_WAITALL));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes));
    length = sizeof yes;
    SHOW(getsockopt(client, SOL_SOCKET, SO_TYPE, &yes, &length));
    printf("type %d of %u bytes\n", yes, length);
    SHOW(shutdown(client, SHUT_WR));
    SHOW(read(server, buffer, 1));
    SHOW(connect(client, (void *)&a, 3));
    close(server), close(client), close(listener);
}

static void descriptors_by_socket(void) {
    int s[2], p[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s) || pipe(p)) exit(1);
    union { struct cmsghdr h; char space[CMSG_SPACE(sizeof(int))]; } control = {0};
    struct iovec v = {"x", 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.h = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.h), &p[1], sizeof(int));
    SHOW(sendmsg(s[0], &m, 0));
    char byte;
    v.iov_base = &byte;
    memset(&control, 0, sizeof control);
    m.msg_controllen = sizeof control;
    SHOW(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC));
    int passed;
    memcpy(&passed, CMSG_DATA(&control.h), sizeof passed);
    SHOW(write(passed, "through", 7));
    char text[8] = "";
    SHOW(read(p[0], text, 7));
    printf("%s\n", text);
    struct iovec one[2] = {{"a", 1}, {"bc", 2}}, in[2] = {{text, 4}, {text + 4, 4}};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = &one[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &one[1], .msg_iovlen = 1}}};
    SHOW(sendmmsg(s[0], many, 2, 0));
    struct mmsghdr got[2] = {{.msg_hdr = {.msg_iov = &in[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &in[1], .msg_iovlen = 1}}};
    SHOW(recvmmsg(s[1], got, 2, 0, 0));
    printf("%u %u\n", got[0].msg_len, got[1].msg_len);
}

static void semaphores(void) {
    int id = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
    union { int value; struct semid_ds *status; unsigned short *all; } argument = {.value = 5};
    SHOW(semctl(id, 1, SETVAL, argument));
    struct sembuf operations[2] = {{1, -2, 0}, {0, 1, 0}};
    SHOW(semop(id, operations, 2));
    SHOW(semctl(id, 1, GETVAL));
    unsigned short values[3];
    argument.all = values;
    SHOW(semctl(id, 0, GETALL, argument));
    printf("%u %u %u\n", values[0], values[1], values[2]);
    struct semid_ds status;
    memset(&status, 0xee, sizeof status);
    argument.status = &status;
    SHOW(semctl(id, 0, IPC_STAT, argument));
    printf("%lu semaphores, mode %o, used %d, changed %d\n", (unsigned long)status.sem_nsems, status.sem_perm.mode,
           status.sem_otime > 1000000000, status.sem_ctime > 1000000000);
    status.sem_perm.mode = 0640;
    SHOW(semctl(id, 0, IPC_SET, argument));
    SHOW(semctl(id, 0, IPC_STAT, argument));
    printf("mode %o\n", status.sem_perm.mode);
    operations[0] = (struct sembuf){2, -1, IPC_NOWAIT};
    SHOW(semop(id, operations, 1));
    operations[0].sem_flg = 0;
    SHOW(semtimedop(id, operations, 1, &(struct timespec){0, 1000000}));
    SHOW(semctl(id, 0, IPC_RMID));
}

static void messages(void) {
    struct { long kind; char text[8]; } m = {3, "message"};
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    SHOW(msgsnd(id, &m, sizeof m.text, 0));
    struct msqid_ds status;
    SHOW(msgctl(id, IPC_STAT, &status));
    printf("%lu waiting\n", (unsigned long)status.msg_qnum);
    memset(&m, 0, sizeof m);
    SHOW(msgrcv(id, &m, sizeof m.text, 3, 0));
    printf("%ld %s\n", m.kind, m.text);
    SHOW(msgrcv(id, &m, sizeof m.text, 0, IPC_NOWAIT));
    SHOW(msgctl(id, IPC_RMID, 0));
}

static void files(void) {
    char name[] = "/tmp/xlate-ipc-XXXXXX";
    int fd = mkstemp(name), copy = memfd_create("copy", MFD_CLOEXEC);
    SHOW(fallocate(fd, 0, 0, 10000));
    SHOW(pwrite(fd, "contents", 8, 100));
    off_t at = 100;
    SHOW(sendfile(copy, fd, &at, 8));
    SHOW(at);
    loff_t from = 100, to = 50;
    SHOW(copy_file_range(fd, &from, copy, &to, 4, 0) == 4 || errno == EXDEV);
    struct iovec v[2] = {{(char[8]){0}, 4}, {(char[8]){0}, 4}};
    SHOW(preadv(copy, v, 2, 0));
    printf("%s %s\n", (char *)v[0].iov_base, (char *)v[1].iov_base);
    struct statx sx;
    SHOW(statx(AT_FDCWD, name, 0, STATX_BASIC_STATS, &sx));
    printf("size %llu mode %o\n", (unsigned long long)sx.stx_size, sx.stx_mode);
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    SHOW(sync_file_range(fd, 0, 100, SYNC_FILE_RANGE_WRITE));
    SHOW(lseek(fd, 0, SEEK_DATA) >= 0);
    SHOW(setxattr(name, "user.none", "v", 1, XATTR_REPLACE) == -1);
    SHOW(fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10}));
    pid_t child = fork();
    if (!child) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
        fcntl(fd, F_GETLK, &l);
        _exit(l.l_type == F_WRLCK && l.l_pid == getppid() ? 1 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    printf("locked %d\n", WEXITSTATUS(status));
    int watch = inotify_init1(IN_NONBLOCK);
    SHOW(inotify_add_watch(watch, name, IN_MODIFY));
    SHOW(write(fd, "x", 1));
    struct inotify_event event;
    SHOW(read(watch, &event, sizeof event));
    printf("event %x\n", event.mask);
    int packets[2];
    SHOW(pipe2(packets, O_DIRECT | O_NONBLOCK));
    printf("flags %o\n", fcntl(packets[1], F_GETFL));
    SHOW(write(packets[1], "ab", 2)); SHOW(write(packets[1], "c", 1));
    char buffer[8];
    SHOW(read(packets[0], buffer, 8));
    int waiting = -1;
    SHOW(ioctl(packets[0], FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    struct termios t;
    SHOW(tcgetattr(packets[0], &t));
    SHOW(close_range(packets[0], packets[0], 0));
    SHOW(fcntl(packets[0], F_GETFD));
    unlink(name);
}

int main(void) {
    tcp();
    descriptors_by_socket();
    semaphores();
    messages();
    files();
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    kill(getpid(), SIGUSR1);
    struct signalfd_siginfo info;
    SHOW(read(fd, &info, sizeof info));
    printf("signal %u from itself %d\n", info.ssi_signo, info.ssi_pid == (unsigned)getpid());
    struct rlimit limit;
    SHOW(getrlimit(RLIMIT_STACK, &limit));
    printf("stack %ld\n", (long)limit.rlim_cur);
    limit.rlim_cur = 1 << 20;
    SHOW(setrlimit(RLIMIT_STACK, &limit));
    SHOW(prlimit(getpid(), RLIMIT_STACK, 0, &limit));
    printf("stack %ld\n", EMULATED ? 1 << 20 : (long)limit.rlim_cur);
    char name[16];
    SHOW(prctl(PR_SET_NAME, "renamed"));
    SHOW(prctl(PR_GET_NAME, name));
    printf("%s\n", name);
    SHOW(prctl(PR_SET_SECCOMP, 2, 8) == -1);
    SHOW(prctl(9999));
    SHOW(syscall(SYS_personality, 0xffffffff));
    char random[16];
    SHOW(getrandom(random, sizeof random, 0));
    struct sysinfo system;
    SHOW(sysinfo(&system));
    printf("memory %d\n", system.totalram > 0);
    cpu_set_t cpus;
    SHOW(syscall(SYS_sched_getaffinity, getpid(), sizeof cpus, &cpus) > 0);
    unsigned futex = 1;
    SHOW(syscall(SYS_futex, &futex, 0, 2, 0, 0, 0));
    SHOW(syscall(SYS_futex, &futex, 0, 1, &(struct timespec){0, 1000000}, 0, 0));
    SHOW(syscall(SYS_futex, &futex, 1, 1, 0, 0, 0));
    SHOW(syscall(SYS_close_range, 3, ~0U, 0));
    SHOW(write(1, "", 0));
}
