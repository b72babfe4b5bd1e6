/* fork, vfork, exec, wait, pipes, exit handlers, environment. */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static void bye(void) { printf("bye from %s\n", getenv("WHO")); fflush(stdout); }

static int wait_for(pid_t pid) {
    int status;
    if (waitpid(pid, &status, 0) != pid) perror("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "child")) {
        setenv("WHO", argv[2], 1);
        atexit(bye);
        printf("child %s, %d arguments, X=%s\n", argv[2], argc, getenv("X") ? getenv("X") : "(none)");
        return 7;
    }
    setenv("WHO", "parent", 1), setenv("X", "from parent", 1);
    int p[2];
    if (pipe(p)) return 1;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) { dprintf(p[1], "hello through the pipe"); _exit(getppid() > 0 ? 3 : 4); }
    char text[64] = {0};
    close(p[1]);
    while (read(p[0], text + strlen(text), sizeof text - 1 - strlen(text)) > 0) {}
    printf("%s; status %d\n", text, wait_for(pid));
    fflush(stdout);

    if (!(pid = fork())) { execl("/proc/self/exe", "self", "child", "exec", (char *)0); _exit(99); }
    printf("exec: %d\n", wait_for(pid));
    fflush(stdout);
    if (!(pid = vfork())) { execl("/proc/self/exe", "self", "child", "vfork", (char *)0); _exit(99); }
    printf("vfork: %d\n", wait_for(pid));
    fflush(stdout);
    char *args[] = {"sh", "-c", "echo from sh: $WHO; exit 5", 0};
    if (posix_spawn(&pid, "/bin/sh", 0, 0, args, environ)) perror("posix_spawn");
    printf("spawn: %d\n", wait_for(pid));
    fflush(stdout);
    printf("system: %d\n", WEXITSTATUS(system("exit 6")));
    errno = 0;
    execl("/nonexistent/program", "x", (char *)0);
    printf("missing program: %d\n", errno == ENOENT);
    errno = 0;
    execl("/etc/passwd", "x", (char *)0);
    printf("not executable: %d\n", errno == EACCES);
    FILE *f = popen("tr a-z A-Z", "w");
    fprintf(f, "through popen\n");
    printf("pclose: %d\n", pclose(f));
    return 11;
}
