/* New processes and programs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "report.h"

extern char **environ;

static void ended(const char *what, int status) {
    if (WIFEXITED(status)) printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else printf("%s: signal %d\n", what, WTERMSIG(status));
    fflush(stdout);
}

static void write_file(const char *name, const char *text, int mode) {
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    if (write(fd, text, strlen(text)) < 0) exit(1);
    close(fd);
    chmod(name, mode);
}

static void exec_fails(const char *path) {
    errno = 0;
    execl(path, path, (char *)0);
    printf("execve %s errno %d\n", path, errno);
}

static void caught(int signal) { (void)signal; }

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IONBF, 0);
    int status;
    if (argc > 1 && !strcmp(argv[1], "again")) {
        printf("again: argc %d argv[0] %s argv[2] %s HOME %s NEW %s\n", argc, argv[0], argv[2], getenv("HOME") ? "set" : "unset", getenv("NEW"));
        struct sigaction a;
        sigaction(SIGUSR1, 0, &a);
        printf("SIGUSR1 default %d", a.sa_handler == SIG_DFL);
        sigaction(SIGUSR2, 0, &a);
        printf(" SIGUSR2 ignored %d", a.sa_handler == SIG_IGN);
        sigset_t mask;
        sigprocmask(SIG_BLOCK, 0, &mask);
        printf(" SIGHUP blocked %d\n", sigismember(&mask, SIGHUP));
        printf("descriptors: %d %d\n", fcntl(100, F_GETFD), fcntl(101, F_GETFD));
        return 9;
    }
    volatile int shared = 1;
    pid_t pid = vfork();
    if (!pid) {
        shared = 2;
        _exit(3);
    }
    waitpid(pid, &status, 0);
    ended("vfork", status);
    /* Under an emulator's vfork memory isn't shared; POSIX leaves it open. */
    printf("shared %d\n", shared == 2 || EMULATED);
    pid = vfork();
    if (!pid) {
        execl("/bin/sh", "sh", "-c", "exit 4", (char *)0);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    ended("vfork and exec", status);
    char *echo[] = {"echo", "spawned", 0}, *none[] = {"none", 0};
    int error = posix_spawnp(&pid, "echo", 0, 0, echo, environ);
    waitpid(pid, &status, 0);
    printf("posix_spawn %d\n", error);
    ended("spawned", status);
    error = posix_spawn(&pid, "/no/such/program", 0, 0, none, environ);
    printf("posix_spawn of nothing %d\n", EMULATED ? ENOENT : error);
    while (wait(&status) > 0) {}
    ended("system", system("exit 6"));
    FILE *f = popen("echo through a pipe", "r");
    char line[100];
    printf("popen: %s", fgets(line, sizeof line, f));
    ended("pclose", pclose(f));
    if (!(pid = fork())) abort();
    waitpid(pid, &status, 0);
    ended("abort", status);
    if (!(pid = fork())) raise(SIGTERM);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    SHOW(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    printf("waitid: same %d code %d status %d\n", info.si_pid == pid, info.si_code, info.si_status);
    SHOW(wait4(-1, &status, WNOHANG, 0) == pid);
    SHOW(wait4(-1, &status, 0, 0));
    int tid = 0, parent_tid = 0;
    pid = syscall(SYS_clone, CLONE_CHILD_SETTID | CLONE_PARENT_SETTID | SIGCHLD, 0, &parent_tid, &tid, 0);
    if (!pid) _exit(tid == getpid() ? 21 : 22);
    waitpid(pid, &status, 0);
    ended("clone", status);
    printf("tids %d %d\n", EMULATED || parent_tid == pid, tid);
    unsigned long clone3[8] = {0, 0, 0, 0, SIGCHLD, 0, 0, 0};
    pid = syscall(SYS_clone3, clone3, sizeof clone3);
    if (!pid) _exit(23);
    waitpid(pid, &status, 0);
    ended("clone3", status);
    SHOW(syscall(SYS_clone3, clone3, 8));
    SHOW(setpgid(0, 0) || getpgrp() != getpid() || getpgid(getpid()) != getpid());
    SHOW(getsid(0) > 0);
    SHOW(kill(getpid(), 0));
    SHOW(kill(-getpid(), 0));
    SHOW(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0));
    SHOW(syscall(SYS_tkill, syscall(SYS_gettid), 0));

    char folder[] = "/tmp/xlate-spawn-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    write_file("text", "just text\n", 0755);
    write_file("plain", "#!/bin/sh\n", 0644);
    write_file("lost", "#!/no/such/interpreter\n", 0755);
    write_file("loop", "#!./loop\n", 0755);
    write_file("empty", "", 0755);
    write_file("script", "#!/bin/sh -e\necho script $0 $1 $#\nexit 8\n", 0755);
    write_file("stub", "\177ELF\2\1\1", 0755);
    exec_fails("./text"), exec_fails("./plain"), exec_fails("./lost"), exec_fails("./none"), exec_fails("./empty");
    exec_fails("./loop"), exec_fails("./stub"), exec_fails("."), exec_fails("./text/x"), exec_fails("");
    char **nowhere = (char **)8;
    SHOW(syscall(SYS_execve, "./script", nowhere, environ));
    SHOW(syscall(SYS_execve, nowhere, nowhere, environ));
    if (!(pid = fork())) {
        execl("./script", "other name", "argument", (char *)0);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    ended("script", status);
    int sh = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    char *args[] = {"sh", "-c", "echo by descriptor", 0};
    if (!(pid = fork())) {
        fexecve(sh, args, environ);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    ended("fexecve", status);
    const char *names[] = {"text", "plain", "lost", "loop", "empty", "script", "stub"};
    for (int i = 0; i < 7; i++) unlink(names[i]);
    if (chdir("/") || rmdir(folder)) return 1;

    signal(SIGUSR1, caught), signal(SIGUSR2, SIG_IGN);
    sigset_t hup;
    sigemptyset(&hup), sigaddset(&hup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hup, 0);
    dup2(1, 100), dup2(1, 101), fcntl(101, F_SETFD, FD_CLOEXEC);
    char *again[] = {"name", "again", "x y", 0}, *with[] = {"NEW=new", 0};
    execve("/proc/self/exe", again, with);
    return 1;
}
