// The first process of a container that reaps nobody: runs a command so many times, one after the other, and shows what
// other processes there are a second after the last one's end. usage: noreap TIMES COMMAND ARGS...
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int status = 0;
    for (int i = 0; i < atoi(argv[1]) && status == 0; i++) {
        pid_t child = fork();
        if (child == 0) {
            execv(argv[2], argv + 2);
            _exit(127);
        }
        waitpid(child, &status, 0);
    }
    sleep(1);
    DIR *processes = opendir("/proc");
    for (struct dirent *e; (e = readdir(processes)) != NULL;) {
        char path[300], comm[64], state;
        if (!isdigit(e->d_name[0]) || !strcmp(e->d_name, "1")) continue;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *stat = fopen(path, "r");
        if (stat && fscanf(stat, "%*d (%63[^)]) %c", comm, &state) == 2) printf("%s %c\n", comm, state);
        if (stat) fclose(stat);
    }
    return status != 0;
}
