/* Published table, row 3: file output through the C library: formatted lines and small raw writes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int lines = argc > 1 ? atoi(argv[1]) : 400000;
    const char *path = argc > 2 ? argv[2] : "/dev/null";
    FILE *f = fopen(path, "w");
    if (!f) { perror(path); return 1; }
    for (int i = 0; i < lines; i++) fprintf(f, "line %d of the output, %08x\n", i, i * 2654435761u);
    if (fclose(f)) { perror(path); return 1; }
    int fd = open(path, O_WRONLY | O_APPEND);
    if (fd < 0) { perror(path); return 1; }
    char block[64];
    for (int i = 0; i < 64; i++) block[i] = i == 63 ? '\n' : 'a' + i % 26;
    for (int i = 0; i < lines / 4; i++)
        if (write(fd, block, sizeof block) != sizeof block) { perror(path); return 1; }
    close(fd);
    printf("%d lines\n", lines);
}
