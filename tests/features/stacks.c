// Stacks: the main one as the C library sees it, its growth by code and by system calls up to the limit, a limit that is
// raised later or for the next program, overflow with and without a handler, and other mappings that grow downwards.
#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// Each frame has the address of the one before, so that this stays a recursion.
static long __attribute__((noinline)) descend(long n, volatile char *before) {
    volatile char frame[4000];
    frame[0] = before ? before[0] + 1 : 0;
    return n ? descend(n - 1, frame) + 1 : 0;
}

static long recurse(long n) { return descend(n, NULL); }

static void on_overflow(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    _exit(info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR ? 44 : 45);
}

static void end_of(const char *what, pid_t child) {
    int status;
    waitpid(child, &status, 0);
    printf("%s: status %d signal %d\n", what, WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void stack_of(void **low, size_t *size) {
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, low, size);
}

// Whether /proc/self/maps shows this address on the stack.
static int on_stack_line(void *address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[400];
    int found = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        if (strstr(line, "[stack]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
            found |= (unsigned long)address >= start && (unsigned long)address < end;
    }
    fclose(maps);
    return found;
}

static void successor(long megabytes) {
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    void *low;
    size_t size;
    stack_of(&low, &size);
    printf("limit of %ld MB: depth %ld, size near the limit %d\n", (long)(limit.rlim_cur >> 20), recurse(megabytes * 230),
           size > limit.rlim_cur / 2 && size <= limit.rlim_cur + (1 << 20));
}

int main(int count, char **words) {
    setbuf(stdout, NULL);
    if (count > 1) {
        successor(atol(words[1]));
        return 0;
    }
    void *low;
    size_t size;
    stack_of(&low, &size);
    printf("on the stack %d\n", (char *)&size > (char *)low && (char *)&size < (char *)low + size);
    printf("deep %ld\n", recurse(1000));
    char *far = alloca(5 << 20);
    // The first to touch these pages is the kernel.
    int zeros = open("/dev/zero", O_RDONLY);
    long got = read(zeros, far + (1 << 20), 1 << 20);
    printf("read below the stack's end %ld, shown %d\n", got, on_stack_line(far + (1 << 20)));
    far[0] = 1;
    printf("shown %d\n", on_stack_line(far));

    // A limit raised while the program runs: there is room for 64 MB at least.
    pid_t child = fork();
    if (!child) {
        struct rlimit limit;
        getrlimit(RLIMIT_STACK, &limit);
        limit.rlim_cur = 64 << 20;
        printf("raised %d\n", setrlimit(RLIMIT_STACK, &limit));
        printf("deeper %ld\n", recurse(50 * 230));
        _exit(0);
    }
    end_of("raised limit", child);
    for (long megabytes = 16; megabytes <= 512; megabytes *= 32) {
        child = fork();
        if (!child) {
            struct rlimit limit = {megabytes << 20, RLIM_INFINITY};
            setrlimit(RLIMIT_STACK, &limit);
            char number[20];
            sprintf(number, "%ld", megabytes / 2);
            execv("/proc/self/exe", (char *[]){words[0], number, NULL});
            _exit(1);
        }
        end_of("larger limit", child);
    }
    child = fork();
    if (!child) {
        stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
        sigaltstack(&alternate, NULL);
        struct sigaction action = {.sa_sigaction = on_overflow, .sa_flags = SA_ONSTACK | SA_SIGINFO};
        sigaction(SIGSEGV, &action, NULL);
        recurse(100000000);
        _exit(0);
    }
    end_of("overflow with a handler", child);
    child = fork();
    if (!child) {
        recurse(100000000);
        _exit(0);
    }
    end_of("overflow", child);

    // A mapping that grows until it comes near another one.
    char *room = mmap(NULL, 8 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(room, 8 << 20);
    char *page = mmap(room, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    char *grows = mmap(room + (4 << 20), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    printf("placed %d %d\n", page == room, grows == room + (4 << 20));
    for (int i = 0; i < 20; i++) grows[-i * 4096 - 1] = (char)i;
    printf("grew, bytes kept %d\n", grows[-10 * 4096 - 1]);
    printf("protected from its start %d\n", mprotect(grows, 4096, PROT_READ | PROT_GROWSDOWN));
    child = fork();
    if (!child) {
        grows[-5 * 4096] = 1;
        _exit(0);
    }
    end_of("write to what is protected", child);
    printf("not growing %d %d\n", mprotect(page, 4096, PROT_READ | PROT_GROWSDOWN), errno);
    printf("gone %d\n", munmap(grows - 19 * 4096, 19 * 4096));
    child = fork();
    if (!child) {
        printf("read what is gone: %d\n", write(-1, grows - 4096 * 3, 1) < 0);
        struct rlimit limit = {1 << 20, RLIM_INFINITY};
        char *fresh = mmap(room + (6 << 20), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
        setrlimit(RLIMIT_STACK, &limit);
        for (int i = 0; i < 300; i++) fresh[-i * 4096 - 1] = 1;
        _exit(0);
    }
    end_of("growth beyond the limit", child);
    // As musl finds the stack's lower end.
    char *top = (char *)((unsigned long)&count & ~4095ul);
    long steps = 0;
    while (steps < 100000 && mremap(top - steps * 4096 - 4096, 4096, 8192, 0) == MAP_FAILED && errno == ENOMEM) steps++;
    printf("probe ends %d\n", steps > 0 && steps < 100000);
    return 0;
}
