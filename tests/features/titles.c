/* /proc/self by other ways than its name, and arguments that the program overwrites. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void link_of(const char *path) {
    char text[4096] = "";
    if (readlink(path, text, sizeof text - 1) < 0) perror(path);
    printf("%s: %s\n", path, strrchr(text, '/') ? strrchr(text, '/') : text);
}

static int lines_with(const char *path, const char *word) {
    FILE *file = fopen(path, "r");
    char line[4096];
    int found = 0;
    while (file && fgets(line, sizeof line, file)) found += strstr(line, word) != NULL;
    if (file) fclose(file);
    return found;
}

static void command_line(void) {
    char text[4096];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = read(file, text, sizeof text);
    close(file);
    for (ssize_t i = 0; i < length; i++)
        if (!text[i]) text[i] = '|';
    printf("%zd: %.*s\n", length, length > 40 ? 40 : (int)length, text);
}

int main(int argc, char **argv) {
    char folder[] = "/tmp/titles-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder) || symlink("/proc/self", "self-by-link")) return 1;
    link_of("self-by-link/exe");
    printf("%d %d\n", lines_with("self-by-link/maps", "runtime"), lines_with("self-by-link/maps", "/features-titles") > 0);
    unlink("self-by-link");
    link_of("/proc/self/task/../exe");
    link_of("/tmp/../proc/self/exe");
    if (chdir("/proc/self")) return 1;
    link_of("../self/exe");
    link_of("task/../exe");
    rmdir(folder);

    /* The arguments' own path differs from run to run in length alone where the tests pass one. */
    memset(argv[0], 'Z', strlen(argv[0]));
    command_line();
    if (argc > 1) {
        char *end = argv[argc - 1] + strlen(argv[argc - 1]);
        memset(argv[0], 'T', (size_t)(end + 1 - argv[0]));
        command_line();
    }
    return 0;
}
