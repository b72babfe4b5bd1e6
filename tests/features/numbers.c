// Descriptors: every number below the limit is the program's own to choose, the lowest free one is given out, a full table is
// full at the limit and not before, and /proc/self/fd lists the program's alone.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *result(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

static void set_limit(rlim_t soft) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = soft;
    if (setrlimit(RLIMIT_NOFILE, &limit)) printf("no limit of %lu\n", soft);
}

// Lists a folder of descriptors: their number and sum.
static void list(const char *path) {
    DIR *folder = opendir(path);
    long n = 0, sum = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') n++, sum += atol(entry->d_name);
    closedir(folder);
    printf("%s: %ld, sum %ld\n", path, n, sum);
}

static int fill(int kind) {
    int n = 0, pair[2];
    for (;; n++) {
        int r = kind == 0 ? open("/dev/null", O_RDONLY) : kind == 1 ? dup(0) : kind == 2 ? pipe(pair) : fcntl(0, F_DUPFD_CLOEXEC, 20);
        if (r < 0) break;
    }
    return n;
}

static int status_of(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int next_program(const char *script) {
    pid_t child = fork();
    if (!child) {
        execl("/bin/sh", "sh", "-c", script, (char *)0);
        _exit(100);
    }
    return status_of(child);
}

static void with_limit(int limit) {
    set_limit(limit);
    printf("limit %d\n", limit);
    int wrong = 0;
    for (int n = 3; n < limit; n++) wrong += dup2(0, n) != n;
    printf("chosen wrongly %d\n", wrong);
    printf("one more %s, at the limit %s\n", result(dup(0)), result(dup2(0, limit)));
    close(7);
    list("/proc/self/fd");
    printf("the only one free %d\n", dup(0));
    wrong = 0;
    struct stat stat;
    for (int n = 0; n < limit; n++) wrong += fstat(n, &stat) != 0;
    printf("lost %d\n", wrong);
    printf("fork %d\n", ({ pid_t child = fork(); if (!child) _exit(dup(0) < 0 ? 3 : 4); status_of(child); }));
    for (int n = limit - 1; n > 2; n--) wrong += close(n) != 0;
    printf("closed wrongly %d\n", wrong);
    for (int n = 3; n < limit; n++) wrong += open("/dev/null", O_RDONLY) != n;
    printf("not the lowest %d\n", wrong);
    printf("range %s\n", result(syscall(SYS_close_range, 3, ~0u, 0)));
    for (int kind = 0; kind < 4; kind++) {
        printf("kind %d: %d\n", kind, fill(kind));
        printf("range %s\n", result(syscall(SYS_close_range, 3, ~0u, 0)));
    }
    printf("next program %d\n", next_program("exit 5"));
}

int main(void) {
    setbuf(stdout, NULL);
    syscall(SYS_close_range, 3, ~0u, 0);
    list("/proc/self/fd");
    list("/proc/self/fdinfo");
    list("/dev/fd");
    // Long enough for code to be compiled, by whatever needs descriptors of its own.
    volatile long sum = 0;
    for (int i = 0; i < 3000000; i++) sum += i;
    list("/proc/self/fd");
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    int hidden = 0;
    for (int n = 3; n < 5000; n++) {
        char name[40];
        struct stat stat;
        sprintf(name, "/proc/self/fd/%d", n);
        hidden += lstat(name, &stat) == 0;
        sprintf(name, "/dev/fd/%d", n);
        hidden += open(name, O_RDONLY) >= 0;
        hidden += fcntl(n, F_GETFD) >= 0;
    }
    printf("seen above mine %d\n", hidden);
    printf("from 1000 on %d\n", fcntl(0, F_DUPFD, 1000));
    printf("1000 and 1001 %d %d\n", dup2(0, 1000), dup3(0, 1001, O_CLOEXEC));
    printf("from 1000 on %d\n", fcntl(0, F_DUPFD, 1000));
    syscall(SYS_close_range, 3, ~0u, 0);
    with_limit(64);
    with_limit(1024);
    // A loop that asks for translated code where no number is free.
    set_limit(64);
    fill(1);
    for (int i = 0; i < 3000000; i++) sum += i;
    printf("made-up file without a number %s\n", result(open("/proc/self/maps", O_RDONLY)));
    close(10);
    int maps = open("/proc/self/maps", O_RDONLY);
    char text[8];
    printf("made-up file with the last one %d, read %ld\n", maps, (long)read(maps, text, 8));
    printf("full: fork %d\n", ({ pid_t child = fork(); if (!child) _exit(9); status_of(child); }));
    if (geteuid() == 0) printf("full: next program %d\n", next_program("exit 5"));
    return 0;
}
