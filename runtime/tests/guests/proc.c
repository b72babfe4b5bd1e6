/* What a process sees of itself in /proc. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "report.h"

static int in_data = 1;

static char *slurp(const char *path, size_t *size) {
    static char buffer[1 << 20];
    int fd = open(path, O_RDONLY);
    size_t n = 0;
    for (ssize_t got; fd >= 0 && (got = read(fd, buffer + n, sizeof buffer - 1 - n)) > 0;) n += got;
    close(fd);
    buffer[n] = 0;
    if (size) *size = n;
    return buffer;
}

/* Finds the mapping that holds the address; shows its rights and its name's last part. */
static void mapping(const char *what, void *address) {
    for (char *line = strtok(slurp("/proc/self/maps", 0), "\n"); line; line = strtok(0, "\n")) {
        unsigned long start, end, offset, inode;
        char rights[8], device[16], name[4096] = "";
        sscanf(line, "%lx-%lx %7s %lx %15s %lu %4095[^\n]", &start, &end, rights, &offset, device, &inode, name);
        if ((unsigned long)address < start || (unsigned long)address >= end) continue;
        char *last = strrchr(name, '/');
        printf("%s: %s %s inode %d\n", what, rights, last ? last + 1 : name, inode != 0);
        return;
    }
    printf("%s: not mapped\n", what);
}

static void same_file(const char *a, const char *b) {
    struct stat x, y;
    printf("%s is %s: %d\n", a, b, !stat(a, &x) && !stat(b, &y) && x.st_ino == y.st_ino && x.st_dev == y.st_dev);
}

int main(int argc, char **argv) {
    char link[4096], path[4096];
    ssize_t n = readlink("/proc/self/exe", link, sizeof link - 1);
    link[n] = 0;
    printf("exe is argv[0]: %d\n", !strcmp(link, realpath(argv[0], path)));
    snprintf(path, sizeof path, "/proc/%d/exe", getpid());
    char other[4096] = "";
    printf("by number: %d\n", readlink(path, other, sizeof other - 1) == n && !strcmp(link, other));
    same_file("/proc/self/exe", argv[0]);
    printf("by number is the same file: "), fflush(stdout);
    struct stat a, b;
    printf("%d\n", !stat(path, &a) && !stat(argv[0], &b) && a.st_ino == b.st_ino);
    char head[5] = "";
    int exe = open("/proc/self/exe", O_RDONLY);
    SHOW(read(exe, head, 4));
    printf("%s\n", head + 1);
    SHOW(readlink("/proc/self/exe", other, 3));
    n = readlink("/proc/self", link, sizeof link - 1);
    link[n] = 0;
    printf("self: %d\n", atoi(link) == getpid());

    mapping("code", main);
    mapping("data", &in_data);
    mapping("stack", &argc);
    void *heap = sbrk(4096);
    mapping("heap", heap);
    void *anonymous = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mapping("anonymous", anonymous);
    mprotect(anonymous, 4096, PROT_NONE);
    mapping("protected", anonymous);
    mapping("C library", puts);
    printf("translator shows: %d\n", strstr(slurp("/proc/self/maps", 0), "xlate-runtime") != 0);
    snprintf(path, sizeof path, "/proc/%d/maps", getpid());
    printf("by number: %d\n", strstr(slurp(path, 0), "[stack]") != 0);

    size_t size;
    char *text = slurp("/proc/self/cmdline", &size);
    printf("cmdline %d:", !strcmp(text, argv[0]));
    for (size_t at = strlen(text) + 1; at < size; at += strlen(text + at) + 1) printf(" <%s>", text + at);
    puts("");
    setenv("ADDED", "later", 1);
    text = slurp("/proc/self/environ", &size);
    printf("environ ends in zero: %d; later change: %d\n", !size || !text[size - 1], memmem(text, size, "ADDED", 5) != 0);
    unsigned long *vector = (void *)slurp("/proc/self/auxv", &size);
    for (size_t i = 0; i < size / 16; i++)
        if (vector[2 * i] == AT_PAGESZ || vector[2 * i] == AT_ENTRY || vector[2 * i] == AT_RANDOM)
            printf("auxv %lu: %d\n", vector[2 * i], vector[2 * i + 1] == getauxval(vector[2 * i]));
    text = slurp("/proc/self/stat", 0);
    printf("stat: %d\n", atoi(text) == getpid());
    if (!EMULATED) printf("name: %.*s\n", (int)(strchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('));
    text = slurp("/proc/self/status", 0);
    printf("status: %d\n", atoi(strstr(text, "\nPid:") + 5) == getpid());
    printf("comm: %s", slurp("/proc/self/comm", 0));
    text = slurp("/proc/cpuinfo", 0);
    printf("cpuinfo: %d %d %d\n", strstr(text, "processor\t: 0") != 0, strstr(text, "flags\t\t:") != 0, strstr(text, " sse2 ") != 0);
    if (chdir("/proc/self")) return 1;
    printf("relative: %d\n", strstr(slurp("maps", 0), "xlate-runtime") == 0);
    int folder = open("/proc/self", O_RDONLY | O_DIRECTORY);
    printf("from a folder: %d\n", openat(folder, "auxv", O_RDONLY) > 2);
    SHOW(open("/proc/self/nothing", O_RDONLY));
    SHOW(access("/proc/self/exe", X_OK));
    struct stat s;
    SHOW(lstat("/proc/self/exe", &s));
    printf("a link: %d\n", S_ISLNK(s.st_mode));
    SHOW(stat("/proc/self/maps", &s));
}
