/* What a program finds when it starts: stack, auxiliary vector, vdso. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

extern char **environ;
extern char __executable_start[];
extern void _start(void);

static void auxiliary_vector(char **argv) {
    char **end = environ;
    while (*end) end++;
    Elf64_auxv_t *auxv = (void *)(end + 1);
    size_t count = 0;
    while (auxv[count].a_type != AT_NULL) count++;
    /* Not HWCAP3 and HWCAP4 (29, 30), which newer kernels have. */
    for (unsigned long kind = 0; kind < 64; kind++)
        for (size_t i = 0; i < count; i++)
            if (auxv[i].a_type == kind && kind != 29 && kind != 30) printf("%lu ", kind);
    Elf64_Ehdr *header = (void *)__executable_start;
    printf("\nphdr %d phnum %d entry %d base %d\n", getauxval(AT_PHDR) == (unsigned long)header + header->e_phoff,
           getauxval(AT_PHNUM) == header->e_phnum, getauxval(AT_ENTRY) == (unsigned long)_start,
           !getauxval(AT_BASE) || !memcmp((void *)getauxval(AT_BASE), "\177ELF", 4));
    printf("ids %d %d secure %lu page %lu tick %lu platform %s flags %lu rseq %d %lu\n", getauxval(AT_UID) == getuid(),
           getauxval(AT_EGID) == getegid(), getauxval(AT_SECURE), getauxval(AT_PAGESZ), getauxval(AT_CLKTCK),
           (char *)getauxval(AT_PLATFORM), getauxval(AT_FLAGS), getauxval(27) >= 20, getauxval(28));
    printf("name %d\n", !strcmp((char *)getauxval(AT_EXECFN), argv[0]));
    unsigned long file[200];
    int fd = open("/proc/self/auxv", O_RDONLY);
    ssize_t n = read(fd, file, sizeof file);
    printf("/proc/self/auxv %d\n", n >= 16 * (ssize_t)count && !memcmp(file, auxv, 16 * count));
    close(fd);
}

static int frames;
static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *arg) {
    (void)context, (void)arg;
    return frames++, _URC_NO_REASON;
}

static void vdso(void) {
    Elf64_Ehdr *header = (void *)getauxval(AT_SYSINFO_EHDR);
    printf("vdso %d type %d machine %d\n", !memcmp(header, "\177ELF", 4), header->e_type, header->e_machine);
    char line[300];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vdso]"))
            printf("map %d %d\n", strtoul(line, 0, 16) == (unsigned long)header, strstr(line, " r-xp ") != 0);
    fclose(maps);
    void *object = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
    printf("object %d\n", object != 0);
    if (!object) return;
    int (*gettime)(int, struct timespec *) = dlvsym(object, "__vdso_clock_gettime", "LINUX_2.6");
    int (*getres)(int, struct timespec *) = dlvsym(object, "__vdso_clock_getres", "LINUX_2.6");
    int (*timeofday)(struct timeval *, void *) = dlvsym(object, "__vdso_gettimeofday", "LINUX_2.6");
    time_t (*seconds)(time_t *) = dlvsym(object, "__vdso_time", "LINUX_2.6");
    int (*getcpu)(unsigned *, unsigned *, void *) = dlvsym(object, "__vdso_getcpu", "LINUX_2.6");
    printf("functions %d %d %d %d %d, weak %d, another version %d\n", !!gettime, !!getres, !!timeofday, !!seconds, !!getcpu,
           dlsym(object, "clock_gettime") == (void *)gettime, dlvsym(object, "__vdso_time", "LINUX_2.7") != 0);
    struct timespec now = {0}, resolution = {0};
    struct timeval day = {0};
    time_t since = 0;
    unsigned cpu = 99999, node = 99999;
    int results[] = {gettime(CLOCK_REALTIME, &now), getres(CLOCK_REALTIME, &resolution), timeofday(&day, 0),
                     getcpu(&cpu, &node, 0), seconds(&since) == since};
    for (int i = 0; i < 5; i++) printf("%d ", results[i]);
    printf("agree %d %d resolution %d cpu %d %d\n", labs(now.tv_sec - day.tv_sec) < 5, labs(since - day.tv_sec) < 5,
           resolution.tv_nsec > 0, cpu < 4096, node < 4096);
    printf("no such clock %d\n", gettime(9999, &now) == -EINVAL);
    Dl_info info;
    printf("in %s\n", dladdr(gettime, &info) ? info.dli_fname : "nothing");
    struct { void *a, *b, *c; } bases;
    extern void *_Unwind_Find_FDE(void *, void *);
    printf("unwind %d\n", _Unwind_Find_FDE((char *)gettime + 5, &bases) != 0);
    _Unwind_Backtrace(frame, 0);
    printf("frames %d\n", frames > 2);
}

int main(int argc, char **argv) {
    /* Arguments, environment and the vector follow each other, and so do their strings. */
    printf("order %d %d\n", argv + argc + 1 == environ, (char *)argv < argv[0]);
    int adjacent = 1;
    for (int i = 0; environ[i] && environ[i + 1]; i++) adjacent &= environ[i] + strlen(environ[i]) + 1 == environ[i + 1];
    printf("strings %d\n", adjacent);
    auxiliary_vector(argv);
    vdso();
    return 0;
}
