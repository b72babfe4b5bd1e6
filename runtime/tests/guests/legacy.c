/* Calls that exist on x86-64 only, or look different there, by their numbers: the C library no longer makes most of them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>
#include "report.h"

static void show_stat(const char *name, const struct stat *s) {
    printf("%s: size %ld mode %o links %ld blksize %ld blocks %ld uid %u gid %u rdev %lx mtime %ld\n", name, (long)s->st_size,
           s->st_mode, (long)s->st_nlink, (long)s->st_blksize, (long)s->st_blocks, s->st_uid, s->st_gid, (long)s->st_rdev,
           (long)s->st_mtim.tv_sec);
}

struct old_dirent {
    unsigned long ino, off;
    unsigned short length;
    char name[];
};

static int order(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void directory(void) {
    char buffer[4096], *lines[32];
    int n = 0, fd = syscall(SYS_open, ".", O_RDONLY | O_DIRECTORY);
    for (long got; (got = syscall(SYS_getdents, fd, buffer, sizeof buffer)) > 0;)
        for (long at = 0; at < got;) {
            struct old_dirent *d = (void *)(buffer + at);
            struct stat s;
            lstat(d->name, &s);
            if (asprintf(&lines[n++], "%s type %d inode %d", d->name, buffer[at + d->length - 1], s.st_ino == d->ino) < 0) exit(1);
            at += d->length;
        }
    qsort(lines, n, sizeof *lines, order);
    /* The parent may be a mount point, whose inode in the listing is another. */
    for (int i = 0; i < n; i++)
        if (strncmp(lines[i], "..", 2)) puts(lines[i]);
    close(fd);
}

/* The emulator doesn't know this call. */
static void open_how(void) {
    struct { unsigned long flags, mode, resolve, more; } how = {O_RDONLY | O_DIRECTORY, 0, 0, 0};
    SHOW(syscall(SYS_openat2, AT_FDCWD, "d", &how, 24) > 2);
    SHOW(syscall(SYS_openat2, AT_FDCWD, "a", &how, 24));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "a", &how, 8));
    how.more = 1;
    SHOW(syscall(SYS_openat2, AT_FDCWD, "d", &how, 32));
}

int main(void) {
    char folder[] = "/tmp/xlate-legacy-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    struct stat s;
    SHOW(syscall(SYS_creat, "a", 0644) > 2);
    SHOW(syscall(SYS_open, "a", O_RDWR | O_EXCL | O_CREAT, 0600));
    int fd = syscall(SYS_open, "a", O_RDWR);
    SHOW(write(fd, "0123456789", 10));
    struct utimbuf times = {1000, 2000};
    SHOW(syscall(SYS_utime, "a", &times));
    SHOW(syscall(SYS_stat, "a", &s));
    show_stat("a", &s);
    SHOW(syscall(SYS_stat, "/dev/null", &s));
    printf("/dev/null is %u:%u\n", major(s.st_rdev), minor(s.st_rdev));
    SHOW(syscall(SYS_utimes, "a", (struct timeval[2]){{1, 2}, {3, 4}}));
    SHOW(syscall(SYS_utimes, "a", (struct timeval[2]){{1, 2}, {3, 1000000}}));
    SHOW(syscall(SYS_fstat, fd, &s));
    printf("times %ld.%09ld %ld.%09ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    SHOW(syscall(SYS_futimesat, AT_FDCWD, "a", (struct timeval[2]){{5, 6}, {7, 8}}));
    SHOW(syscall(SYS_newfstatat, AT_FDCWD, "a", &s, 0));
    printf("mtime %ld.%09ld\n", s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    SHOW(syscall(SYS_stat, "a", (void *)8));
    SHOW(syscall(SYS_stat, (void *)8, &s));
    SHOW(syscall(SYS_stat, "none", &s));
    SHOW(syscall(SYS_mkdir, "d", 0755));
    SHOW(syscall(SYS_mkdir, "d", 0755));
    SHOW(syscall(SYS_symlink, "a", "l"));
    SHOW(syscall(SYS_link, "a", "h"));
    SHOW(syscall(SYS_lstat, "l", &s));
    printf("a link of %ld bytes\n", (long)s.st_size);
    char text[8] = "-------";
    SHOW(syscall(SYS_readlink, "l", text, 8));
    printf("%.7s\n", text);
    SHOW(syscall(SYS_readlink, "a", text, 8));
    SHOW(syscall(SYS_readlink, "l", text, 0));
    SHOW(syscall(SYS_mknod, "p", S_IFIFO | 0600, 0));
    SHOW(syscall(SYS_chmod, "a", 0604));
    SHOW(syscall(SYS_chown, "a", -1, -1));
    SHOW(syscall(SYS_lchown, "l", -1, -1));
    SHOW(syscall(SYS_access, "a", R_OK));
    SHOW(syscall(SYS_access, "none", F_OK));
    directory();
    SHOW(syscall(SYS_rename, "h", "r"));
    SHOW(syscall(SYS_open, "l", O_RDONLY | O_NOFOLLOW));
    SHOW(syscall(SYS_open, "a", O_RDONLY | O_DIRECTORY));
    SHOW(syscall(SYS_open, "d", O_WRONLY));
    int temporary = syscall(SYS_open, ".", O_TMPFILE | O_RDWR, 0600);
    SHOW(fstat(temporary, &s));
    printf("unnamed: links %ld\n", (long)s.st_nlink);
    SHOW(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    printf("flags %o\n", fcntl(fd, F_GETFL) | (EMULATED ? 0100000 : 0));
    if (!EMULATED) open_how();
    SHOW(syscall(SYS_dup2, fd, fd) == fd);
    SHOW(syscall(SYS_dup2, 999, 999));
    SHOW(syscall(SYS_dup2, fd, 200));
    SHOW(syscall(SYS_unlink, "r")); SHOW(syscall(SYS_rmdir, "d"));
    SHOW(syscall(SYS_unlink, "p")); SHOW(syscall(SYS_unlink, "l")); SHOW(syscall(SYS_unlink, "a"));
    if (chdir("/")) return 1;
    SHOW(syscall(SYS_rmdir, folder));

    int p[2];
    SHOW(syscall(SYS_pipe, p));
    struct pollfd ready[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
    SHOW(syscall(SYS_poll, ready, 2, 0));
    printf("%x %x\n", ready[0].revents, ready[1].revents);
    SHOW(syscall(SYS_poll, ready, 1, 10));
    SHOW(write(p[1], "x", 1));
    SHOW(syscall(SYS_poll, ready, 2, -1));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    struct timeval second = {1, 0};
    SHOW(syscall(SYS_select, p[0] + 1, &set, 0, 0, &second));
    printf("left %d\n", second.tv_sec == 0 ? second.tv_usec > 900000 : second.tv_sec == 1);
    FD_ZERO(&set);
    struct timeval moment = {0, 10000};
    SHOW(syscall(SYS_select, 0, 0, 0, 0, &moment));
    printf("left %ld.%06ld\n", moment.tv_sec, moment.tv_usec);
    struct timeval wrong = {0, -1};
    SHOW(syscall(SYS_select, 0, 0, 0, 0, &wrong));
    int ep;
    SHOW(syscall(SYS_epoll_create, 0));
    SHOW((ep = syscall(SYS_epoll_create, 1)) > 2);
    struct epoll_event e = {EPOLLIN, {.u64 = 0x0123456789abcdef}}, out[4];
    SHOW(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, p[0], &e));
    e.events = EPOLLOUT, e.data.u64 = 42;
    SHOW(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, p[1], &e));
    SHOW(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, p[1], &e));
    memset(out, 0xee, sizeof out);
    SHOW(syscall(SYS_epoll_wait, ep, out, 4, 100));
    printf("%x %lx, %x %lx, %x\n", out[0].events, out[0].data.u64, out[1].events, out[1].data.u64, out[2].events);
    SHOW(syscall(SYS_epoll_wait, ep, out, 0, 0));
    SHOW(syscall(SYS_epoll_wait, ep, out, -1, 0));
    SHOW(syscall(SYS_epoll_pwait, ep, out, 1, 0, 0, 8));
    SHOW(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_DEL, p[1], 0));
    /* The emulator does not know this call. */
    if (!EMULATED) SHOW(syscall(SYS_epoll_pwait2, ep, out, 4, &(struct timespec){0, 1000}, 0, 8));
    unsigned long count = 0;
    int ev = syscall(SYS_eventfd, 7);
    SHOW(read(ev, &count, 8));
    printf("count %lu\n", count);
    SHOW(close(syscall(SYS_inotify_init)));
    unsigned long none = 0;
    SHOW(close(syscall(SYS_signalfd, -1, &none, 8)));
    time_t now = 0;
    SHOW(syscall(SYS_time, &now) == now && now - time(0) <= 0 && time(0) - now < 5);
    SHOW(syscall(SYS_time, 0) > 1000000000);
    SHOW(syscall(SYS_alarm, 100));
    SHOW(syscall(SYS_alarm, 0));
    SHOW(syscall(SYS_alarm, 0));
    SHOW(syscall(SYS_getpgrp) == getpgid(0));
    struct utsname name;
    SHOW(uname(&name));
    printf("%s %s\n", name.sysname, name.machine);
    SHOW(syscall(SYS_rseq, 0, 0, 0, 0) == -1);
    SHOW(syscall(SYS_arch_prctl, 0x1004, &count));
    printf("gs %lx\n", count);
    SHOW(syscall(SYS_arch_prctl, 0x3001, &count));
    SHOW(syscall(SYS_arch_prctl, 0x1002, -1L));
    SHOW(getpid() == syscall(SYS_gettid));
}
