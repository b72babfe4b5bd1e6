// What a process asks of its own description: personality and what follows from it, the vsyscall page, and files of
// /proc/self that would show the translator.
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigjmp_buf back;
static void on_fault(int signal) { siglongjmp(back, signal); }
static void nothing(int signal) { (void)signal; }

static int line_of(const char *path, const char *key, char *line) {
    FILE *file = fopen(path, "r");
    int found = 0;
    while (!found && fgets(line, 400, file)) found = strstr(line, key) != NULL;
    fclose(file);
    line[strcspn(line, "\n")] = 0;
    return found;
}

static void show(const char *path, const char *key) {
    char line[400];
    printf("%s\n", line_of(path, key, line) ? line : "(no such line)");
}

static void runs(const char *what, char *code) {
    static const unsigned char seven[] = {0xb8, 7, 0, 0, 0, 0xc3};
    memcpy(code, seven, sizeof seven);
    int signal;
    if (!(signal = sigsetjmp(back, 1))) printf("%s runs %d\n", what, ((int (*)(void))code)());
    else printf("%s: signal %d\n", what, signal);
}

static void personalities(void) {
    struct utsname names;
    printf("personality %x\n", personality(0xffffffff) & ~ADDR_NO_RANDOMIZE);
    personality(ADDR_NO_RANDOMIZE);
    printf("now %x\n", personality(0xffffffff));
    personality(PER_LINUX32);
    uname(&names);
    printf("as %s\n", names.machine);
    personality(0);
    char *before = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    personality(READ_IMPLIES_EXEC);
    printf("implied %x\n", personality(0xffffffff));
    char *after = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    runs("mapped before", before);
    runs("mapped after", after);
    mprotect(before, 4096, PROT_READ | PROT_WRITE);
    runs("protected after", before);
    runs("heap", (char *)sbrk(8192) + 4096);
    show("/proc/self/personality", "0");
    fflush(stdout);
    if (!fork()) {
        execl("/proc/self/exe", "identity", "next", (char *)0);
        _exit(1);
    }
    wait(NULL);
    personality(0);
    mprotect(before, 4096, PROT_READ | PROT_WRITE);
    runs("no longer implied", before);
}

// The page is called where there is one (a kernel may do without), by the addresses that old programs have built in.
static void vsyscalls(void) {
    char line[400];
    int there = line_of("/proc/self/maps", "[vsyscall]", line), signal;
    struct timeval now;
    int right = 0;
    if (!(signal = sigsetjmp(back, 1))) {
        int r = ((int (*)(struct timeval *, void *))0xffffffffff600000)(&now, NULL);
        time_t seconds = ((time_t (*)(time_t *))0xffffffffff600400)(NULL), stored;
        right = r == 0 && labs(seconds - time(NULL)) < 3 && labs(now.tv_sec - seconds) < 3;
        right &= ((time_t (*)(time_t *))0xffffffffff600400)(&stored) == stored;
        unsigned cpu = 9999;
        right &= ((int (*)(unsigned *, void *, void *))0xffffffffff600800)(&cpu, NULL, NULL) == 0 && cpu < 9999;
    }
    printf("vsyscall page as expected %d\n", there ? right && !signal : signal == SIGSEGV);
    if (!(signal = sigsetjmp(back, 1))) ((int (*)(void *))0xffffffffff600000)((void *)8);
    printf("bad pointer: signal %d\n", signal);
    if (!(signal = sigsetjmp(back, 1))) ((int (*)(void *))0xffffffffff600001)(NULL);
    printf("no entry: signal %d\n", signal);
    if (!(signal = sigsetjmp(back, 1))) printf("%d\n", *(volatile int *)0xffffffffff600000);
    printf("not readable: signal %d\n", signal);
}

static void status(void) {
    signal(SIGUSR1, nothing);
    signal(SIGHUP, SIG_IGN);
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_SETMASK, &set, NULL);
    raise(SIGUSR2);
    const char *keys[] = {"Name:", "Threads:", "TracerPid:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:"};
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) show("/proc/self/status", keys[i]);
    char line[400];
    line_of("/proc/self/status", "VmSize:", line);
    long size = atol(line + 7);
    mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    line_of("/proc/self/status", "VmSize:", line);
    printf("size below 100 MB %d, grows by 64 MB %d\n", size < 100000, atol(line + 7) - size == 64 << 10);
    const char *limits[] = {"Max stack size", "Max open files", "Max data size", "Max address space", "Max locked memory", "Max core file"};
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) show("/proc/self/limits", limits[i]);
}

int main(int count, char **words) {
    signal(SIGSEGV, on_fault);
    if (count > 1 && !strcmp(words[1], "next")) {
        printf("next program: %x\n", personality(0xffffffff));
        return 0;
    }
    personalities();
    vsyscalls();
    status();
    return 0;
}
