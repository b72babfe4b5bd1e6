/* Memory whose code has run and is then moved, grown, emptied, or not there in a child: what is executed next is what is there. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, RWX = PROT_READ | PROT_WRITE | PROT_EXEC, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS };

/* mov eax, value; ret */
static void put(char *at, char value) {
    const char code[] = {(char)0xb8, value, 0, 0, 0, (char)0xc3};
    memcpy(at, code, sizeof code);
}

static int run(char *at) {
    int sum = 0;
    for (int i = 0; i < 500; i++) sum += ((int (*)(void))at)();
    return sum / 500;
}

static char *code(size_t pages) {
    char *at = mmap(NULL, pages * PAGE, RWX, PRIVATE, -1, 0);
    put(at, 1);
    return at;
}

static void moved(void) {
    char *at = code(4), *to;
    put(at + PAGE, 1);
    printf("before %d\n", run(at + PAGE));
    to = mremap(at, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
    printf("grown %d\n", to == MAP_FAILED ? -1 : run(to + PAGE));
    for (int way = 0; way < 3; way++) {
        at = code(1);
        int before = run(at);
        char *place = mmap(NULL, 2 * PAGE, PROT_NONE, PRIVATE, -1, 0);
        const int flags[] = {MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_FIXED};
        to = mremap(at, PAGE, way == 0 ? 2 * PAGE : PAGE, flags[way], place);
        if (to == MAP_FAILED) {
            printf("moved %d: fails\n", way);
            continue;
        }
        put(to, 2);
        printf("moved %d: %d %d", way, before, run(to));
        if (way == 1) put(at, 3), printf(" %d", run(at));
        puts("");
    }
    at = mmap(NULL, 3 * PAGE, PROT_READ, PRIVATE, -1, 0);
    mprotect(at + PAGE, PAGE, RWX);
    printf("shrunk over two mappings: %d\n", mremap(at, 3 * PAGE, PAGE, 0) == at);
}

/* In a child: what running the code gives, or that it can't be. */
static void fault(int signal) { _exit(100 + signal); }

static int in_child(char *at) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, fault), signal(SIGBUS, fault), signal(SIGILL, fault);
        _exit(run(at));
    }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void grown(void) {
    char *top = mmap(NULL, 64 * PAGE, PROT_NONE, PRIVATE, -1, 0);
    munmap(top, 64 * PAGE);
    char *at = mmap(top + 60 * PAGE, PAGE, RWX, PRIVATE | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    put(at, 1);
    int before = run(at);
    at[-8] = 1;
    put(at, 2), put(at - 64, 3);
    printf("grown below code: %d %d %d\n", before, run(at), run(at - 64));
}

static void emptied(void) {
    char *at = code(3);
    int before = run(at);
    munmap(at + PAGE, PAGE);
    printf("hole %d: %d", before, madvise(at, 3 * PAGE, MADV_DONTNEED));
    printf(" %d\n", in_child(at));
    const int advice[] = {MADV_DONTNEED, MADV_WIPEONFORK, MADV_DONTFORK};
    for (int i = 0; i < 3; i++) {
        at = code(1);
        before = run(at);
        printf("advice %d: %d, %d", advice[i], before, madvise(at, PAGE, advice[i]));
        printf(" %d\n", in_child(at));
    }
    madvise(at, PAGE, MADV_DOFORK);
    printf("in a child again: %d\n", in_child(at));
    madvise(at, PAGE, MADV_DONTFORK);
    fflush(stdout);
    if (!fork()) _exit(mmap(at, PAGE, PROT_READ, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) == at ? 6 : 7);
    int status;
    wait(&status);
    printf("its place is free: %d\n", WEXITSTATUS(status));
}

static void detached(void) {
    int id = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0700);
    char *at = shmat(id, NULL, 0), *other = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    mmap(at + PAGE, PAGE, PROT_READ | PROT_WRITE, PRIVATE | MAP_FIXED, -1, 0);
    at[PAGE] = 5;
    printf("detached: %d", shmdt(at));
    printf(" %d, again %d\n", at[PAGE], shmdt(at));
    char *place = mmap(NULL, 2 * PAGE, PROT_NONE, PRIVATE, -1, 0);
    other = mremap(other, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    printf("moved and detached: %d\n", shmdt(other));
}

static void beyond(void) {
    /* The translator lies there, if anywhere; the advice isn't for it. */
    printf("advice beyond: %d", madvise((void *)0x7ffff0000000, 0x10000000, MADV_NOHUGEPAGE));
    printf(" %d\n", madvise((void *)0x800000000000, PAGE, MADV_DONTNEED));
    char *at = mmap(NULL, 2 * PAGE, PROT_READ, PRIVATE, -1, 0);
    printf("munmap beyond the end: %d %d\n", munmap((void *)0x7ff000000000, 1ul << 46), munmap((void *)0x7ffffffff000, PAGE));
    printf("PROT_SEM: %d, nothing: %d\n", mprotect(at, PAGE, PROT_READ | 8), mprotect(at, 0, 0x1234));
}

int main(int argc, char **argv) {
    (void)argv;
    moved();
    /* What an emulator doesn't do. */
    if (argc == 1) grown(), emptied(), detached();
    beyond();
    return 0;
}
