/* The C library's string functions on short and long strings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 20000;
    static char text[8192], copy[8192];
    size_t sum = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) text[i] = 'a' + (i * 7 + i / 26) % 26;
    for (int r = 0; r < rounds; r++) {
        size_t at = r % 1024;
        text[8000 + r % 100] = '!';
        sum += strlen(text + at);
        strcpy(copy, text + at);
        sum += strcmp(copy, text + at) == 0;
        sum += (size_t)(strchr(text + at, '!') - text);
        sum += memcmp(text, copy, 4000) > 0;
        memmove(copy + 3, copy, 4096);
        char *hit = strstr(copy, "xyz");
        sum += hit ? (size_t)(hit - copy) : 1;
        text[8000 + r % 100] = 'a';
    }
    printf("%zu\n", sum);
}
