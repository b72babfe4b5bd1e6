/* Files, directories and descriptors. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static void report(const char *what, long result) { printf("%s %ld errno %d\n", what, result, result < 0 ? errno : 0); }

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

int main(void) {
    char dir[] = "/tmp/xlate-files-XXXXXX";
    if (!mkdtemp(dir) || chdir(dir)) return 1;
    int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
    struct iovec v[2] = {{"hello, ", 7}, {"world\n", 6}};
    printf("writev %zd\n", writev(fd, v, 2));
    struct stat st;
    fstat(fd, &st);
    printf("size %ld mode %o links %ld blksize %ld\n", (long)st.st_size, st.st_mode, (long)st.st_nlink, (long)st.st_blksize);
    char buf[32] = {0};
    report("pread", pread(fd, buf, 5, 7));
    printf("%.5s\n", buf);
    printf("seek %ld\n", (long)lseek(fd, -3, SEEK_END));
    printf("ftruncate %d", ftruncate(fd, 8192));
    stat("a", &st);
    printf(" %ld\n", (long)st.st_size);
    char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    strcpy(m + 4096, "mapped");
    msync(m, 8192, MS_SYNC), munmap(m, 8192);
    report("pread after the mapping", pread(fd, buf, 7, 4096));
    printf("%s\n", buf);
    report("link", link("a", "b")), report("symlink", symlink("a", "s")), report("rename", rename("b", "c"));
    report("readlink", readlink("s", buf, sizeof buf));
    lstat("s", &st);
    printf("lstat is link %d\n", S_ISLNK(st.st_mode));
    report("O_NOFOLLOW", open("s", O_RDONLY | O_NOFOLLOW));
    report("O_DIRECTORY", open("a", O_RDONLY | O_DIRECTORY));
    printf("mkdir %d", mkdir("d", 0755));
    printf(" access %d %d\n", access("d", X_OK), access("nothing", F_OK));
    struct dirent **names;
    int n = scandir(".", &names, 0, by_name);
    for (int i = 0; i < n; i++) printf("%s%s", names[i]->d_name, i + 1 < n ? " " : "\n");
    int copy = dup(fd), third = dup2(fd, 77);
    printf("dup %d dup2 %d flags %#x\n", copy > fd, third, fcntl(copy, F_GETFL) & O_ACCMODE);
    fcntl(copy, F_SETFD, FD_CLOEXEC);
    printf("cloexec %d\n", fcntl(copy, F_GETFD));

    int p[2];
    if (pipe2(p, O_NONBLOCK)) return 1;
    report("empty pipe", read(p[0], buf, 1));
    struct pollfd pf[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
    printf("poll %d %x %x\n", poll(pf, 2, 0), pf[0].revents, pf[1].revents);
    if (write(p[1], "xy", 2) != 2) return 1;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    struct timeval none = {0, 0};
    printf("select %d\n", select(p[0] + 1, &set, 0, 0, &none));
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x123456789abcdefULL}, out[3];
    epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e);
    printf("epoll %d", epoll_wait(ep, out, 3, 100));
    printf(" %x %llx\n", out[0].events, (unsigned long long)out[0].data.u64);
    umask(027);
    close(open("u", O_CREAT | O_WRONLY, 0666));
    stat("u", &st);
    printf("umask %o\n", st.st_mode & 0777);
    printf("utimensat %d", utimensat(AT_FDCWD, "u", (struct timespec[2]){{1, 0}, {1234567890, 5}}, 0));
    stat("u", &st);
    printf(" %ld %ld\n", (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    char cwd[256];
    printf("cwd %d\n", !strcmp(getcwd(cwd, sizeof cwd), dir));
    report("unlink", unlink("a")), report("rmdir", rmdir("d"));
    unlink("c"), unlink("s"), unlink("u");
    if (chdir("/")) return 1;
    report("gone", rmdir(dir));
    report("bad descriptor", write(555, "x", 1));
    char *volatile nowhere = (char *)8;
    report("bad pointer", write(p[1], nowhere, 1));
}
