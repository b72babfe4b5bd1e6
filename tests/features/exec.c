/* execve and execveat: what they refuse, by which name a program runs, scripts, and files that are busy.
   With the argument "emulated" it leaves out what an emulator's own execve hides: whether a file is being written to. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXECVE_CHECK 0x10000

static char *args[] = {"zero", "CHILD", 0}, *env[] = {"MARK=m", 0}, *none[] = {0};

static const char *outcome(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }

/* What a program sees of how it was started. */
static int child(int argc, char **argv) {
    char exe[600] = {0}, comm[16], magic[4] = {0};
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *last = n > 0 ? strrchr(exe, '/') : exe;
    prctl(PR_GET_NAME, comm);
    printf("child");
    for (int i = 0; i < argc; i++) printf(" [%s]", argv[i]);
    /* Before Linux 6.14, a program without a name was called after its descriptor. */
    char *name = (char *)getauxval(AT_EXECFN), *descriptor = strrchr(name, '/');
    int by_number = descriptor && !strncmp(name, "/dev/fd/", 8) && !strcmp(comm, descriptor + 1);
    printf(" as %s, comm %s, exe %s, secure %lu", name, by_number && !strchr(exe, ':') ? last + 1 : comm,
           strstr(exe, "memfd:") ? exe : last + 1, getauxval(AT_SECURE));
    int fd = open("/proc/self/exe", O_RDONLY);
    printf(", read %d", read(fd, magic, 4) == 4 && !memcmp(magic, "\177ELF", 4));
    close(fd);
    if (!strstr(exe, "memfd:")) printf(", write %s", outcome(open("/proc/self/exe", O_WRONLY)));
    printf(", MARK=%s\n", getenv("MARK") ? getenv("MARK") : "-");
    return 5;
}

static void at(const char *what, int directory, const char *path, char **argv, char **envp, int flags) {
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        if (directory == AT_FDCWD && !flags) syscall(SYS_execve, path, argv, envp);
        else syscall(SYS_execveat, directory, path, argv, envp, flags);
        printf("%s: %s\n", what, outcome(-1));
        fflush(stdout);
        _exit(9);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("%s -> %d %d\n", what, WEXITSTATUS(status), WTERMSIG(status));
}

static void run(const char *what, const char *path) { at(what, AT_FDCWD, path, args, env, 0); }

static void put(const char *name, const void *bytes, size_t size, int mode) {
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || fchmod(fd, mode)) perror(name);
    close(fd);
}

static void script(const char *name, const char *text) { put(name, text, strlen(text), 0755); }

static char self[1 << 21];
static size_t size;

static void refusals(void) {
    run("trailing slash", "./prog/");
    run("below a file", "./prog/x");
    run("no name", "");
    run("nowhere", "./nothere");
    run("bad path", (void *)8);
    char long_name[5000];
    memset(long_name, 'p', sizeof long_name);
    long_name[4999] = 0;
    run("long path", long_name);
    long_name[300] = 0;
    run("long name", long_name);
    at("bad arguments", AT_FDCWD, "./prog", (void *)8, env, 0);
    at("bad argument", AT_FDCWD, "./prog", (char *[]){"a", (void *)8, 0}, env, 0);
    at("bad environment", AT_FDCWD, "./prog", args, (void *)8, 0);
    char *big = malloc(140000);
    memset(big, 'b', 140000);
    big[131071] = 0;
    at("longest argument", AT_FDCWD, "/bin/true", (char *[]){"true", big, 0}, env, 0);
    big[131071] = 'b', big[131072] = 0;
    at("too long an argument", AT_FDCWD, "/bin/true", (char *[]){"true", big, 0}, env, 0);
    symlink("loop2", "loop1"), symlink("loop1", "loop2");
    run("loop", "loop1");
    put("noperm", self, size, 0644);
    run("not executable", "./noperm");
    put("empty", "", 0, 0755);
    run("empty file", "./empty");
    put("junk", "hello", 5, 0755);
    run("junk", "./junk");
    mkfifo("fifo", 0755);
    run("fifo", "./fifo");
    run("device", "/dev/null");
    run("directory", "/");
}

static void names(void) {
    run("plain", "./prog");
    at("no arguments", AT_FDCWD, "./prog", none, none, 0);
    at("null vectors", AT_FDCWD, "./prog", 0, 0, 0);
    put("a-name-of-twenty-four-xx", self, size, 0755);
    run("long comm", "./a-name-of-twenty-four-xx");
    symlink("prog", "link");
    run("symbolic link", "./link");
    run("own program", "/proc/self/exe");
}

static void descriptors(void) {
    int open_file = open("prog", O_RDONLY), closing = open("prog", O_RDONLY | O_CLOEXEC), path = open("prog", O_PATH);
    at("descriptor", open_file, "", args, env, AT_EMPTY_PATH);
    at("close-on-exec", closing, "", args, env, AT_EMPTY_PATH);
    at("O_PATH", path, "", args, env, AT_EMPTY_PATH);
    close(open_file), close(closing), close(path);
    int memory = memfd_create("prog", 0);
    if (write(memory, self, size) != (ssize_t)size) perror("memfd");
    at("memfd", memory, "", args, env, AT_EMPTY_PATH);
    char name[64];
    sprintf(name, "/proc/self/fd/%d", memory);
    run("memfd by path", name);
    fcntl(memory, F_SETFD, FD_CLOEXEC);
    at("memfd, close-on-exec", memory, "", args, env, AT_EMPTY_PATH);
    close(memory);
    put("gone", self, size, 0755);
    int gone = open("gone", O_RDONLY);
    unlink("gone");
    at("deleted", gone, "", args, env, AT_EMPTY_PATH);
    close(gone);
    mkdir("dir", 0755);
    rename("prog", "dir/prog"), symlink("prog", "dir/link"), symlink("dir/prog", "prog");
    int dir = open("dir", O_DIRECTORY);
    at("relative", dir, "prog", args, env, 0);
    at("link, not followed", dir, "link", args, env, AT_SYMLINK_NOFOLLOW);
    at("link", dir, "link", args, env, 0);
    at("directory itself", dir, "", args, env, AT_EMPTY_PATH);
    at("no flag", dir, "", args, env, 0);
    at("no directory", 77, "prog", args, env, 0);
    at("no descriptor", 77, "", args, env, AT_EMPTY_PATH);
    at("working directory", AT_FDCWD, "", args, env, AT_EMPTY_PATH);
    at("unknown flag", dir, "prog", args, env, 4);
    script("dir/script", "#!/bin/sh\necho script $# $1 $MARK; exit 3\n");
    at("script", dir, "script", args, env, 0);
    int text = open("dir/script", O_RDONLY);
    at("script by descriptor", text, "", args, env, AT_EMPTY_PATH);
    fcntl(text, F_SETFD, FD_CLOEXEC), fcntl(dir, F_SETFD, FD_CLOEXEC);
    at("script by closing descriptor", text, "", args, env, AT_EMPTY_PATH);
    at("script in closing directory", dir, "script", args, env, 0);
    at("program in closing directory", dir, "prog", args, env, 0);
    close(text), close(dir);
}

static void scripts(void) {
    script("s1", "#!./prog\n");
    run("script", "./s1");
    script("s2", "#! ./prog \t opt one \t\n");
    run("script with an argument", "./s2");
    script("s3", "#!./prog");
    run("no newline", "./s3");
    script("s4", "#!\n./prog");
    run("no interpreter", "./s4");
    script("s5", "#!/nothere x\n");
    run("missing interpreter", "./s5");
    script("s6", "#!./s1 y\n");
    run("script of a script", "./s6");
    script("t1", "#!./s6\n"), script("t2", "#!./t1\n"), script("t3", "#!./t2\n"), script("t4", "#!./t3\n");
    run("five scripts", "./t3");
    run("six scripts", "./t4");
    script("s7", "#!./noperm\n");
    run("interpreter not executable", "./s7");
    script("s8", "#!./dir\n");
    run("interpreter a directory", "./s8");
    char line[600];
    sprintf(line, "#!./prog %0*d END", 400, 0);
    script("s9", line);
    run("long argument", "./s9");
    sprintf(line, "#!/%0*d\n", 400, 0);
    script("s10", line);
    run("long interpreter", "./s10");
}

static void busy(const char *own_path, int emulated) {
    printf("own program: write %s", outcome(open(own_path, O_WRONLY)));
    printf(", truncate on opening %s", outcome(open(own_path, O_RDONLY | O_TRUNC)));
    printf(", create %s", outcome(creat(own_path, 0755)));
    printf(", create new %s", outcome(open(own_path, O_CREAT | O_EXCL | O_WRONLY, 0755)));
    printf(", truncate %s", outcome(truncate(own_path, 0)));
    int fd = open(own_path, O_RDONLY);
    printf(", read %s\n", outcome(fd));
    close(fd);
    if (!emulated) {
        int writer = open("dir/prog", O_RDWR);
        run("being written", "./prog");
        at("check while being written", AT_FDCWD, "./prog", args, env, EXECVE_CHECK);
        close(writer);
        run("not any more", "./prog");
        /* The interpreter of a script is a program as well. */
        writer = open("dir/prog", O_WRONLY);
        run("its interpreter is being written", "./s1");
        close(writer);
    }
    int down[2], up[2];
    if (pipe(down) || pipe(up)) return;
    put("other", self, size, 0755);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        dup2(down[0], 0), dup2(up[1], 1), close(down[1]), close(up[0]);
        execl("./other", "other", "WAIT", (char *)0);
        _exit(9);
    }
    char byte = 0;
    close(up[1]), close(down[0]);
    if (read(up[0], &byte, 1) != 1) printf("no sign of the other\n");
    printf("another's program: write %s", outcome(open("other", O_WRONLY)));
    printf(", create %s", outcome(open("other", O_RDWR | O_CREAT | O_TRUNC, 0755)));
    printf(", remove %s", outcome(rename("other", "another")));
    printf(", write under its new name %s\n", outcome(open("another", O_WRONLY)));
    close(down[1]);
    waitpid(pid, 0, 0);
    printf("ended: write %s\n", outcome(open("another", O_WRONLY)));
}

/* Executes each of these files: one line a file, with what became of it. */
static int run_all(int count, char **paths) {
    for (int i = 0; i < count; i++) {
        fflush(stdout);
        pid_t pid = fork();
        if (!pid) {
            execve(paths[i], args, env);
            printf("%s: %s\n", paths[i], outcome(-1));
            exit(9);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status != 9 << 8) printf("%s: exit %d signal %d\n", paths[i], WEXITSTATUS(status), WTERMSIG(status));
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "RUN")) return run_all(argc - 2, argv + 2);
    if (argc > 1 && !strcmp(argv[1], "WAIT")) return write(1, "", 1) != 1 || read(0, self, 1) != 0;
    if (argc > 1 && !strcmp(argv[argc - 1], "CHILD")) return child(argc, argv);
    if (argc == 1 && !argv[0][0]) return child(argc, argv);
    int emulated = argc > 1 && !strcmp(argv[1], "emulated");
    char dir[] = "/tmp/xlate-exec-XXXXXX", own_path[4096];
    int fd = open("/proc/self/exe", O_RDONLY);
    size = read(fd, self, sizeof self);
    close(fd);
    if (!realpath(argv[0], own_path) || !mkdtemp(dir) || chdir(dir)) return 1;
    put("prog", self, size, 0755);
    refusals();
    names();
    descriptors();
    scripts();
    busy(own_path, emulated);
    fflush(stdout);
    char *const cleanup[] = {"rm", "-r", dir, 0};
    execv("/bin/rm", cleanup);
    return 1;
}
