/* Code that changes without a store to its own address: by another mapping of the same memory, by another process, by the
   file behind it, by another mapping in its place, and by a file that ends before it. With an argument, also by a mapping
   that mremap has doubled, which the emulator of AArch64 can't do. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*function)(void);
enum { PAGE = 4096, RWX = PROT_READ | PROT_WRITE | PROT_EXEC, RX = PROT_READ | PROT_EXEC, RW = PROT_READ | PROT_WRITE };
enum { ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS };

static int times;
static char *const place = (char *)0x600000000;

/* mov eax, value; ret */
static void put(void *to, int value) {
    unsigned char code[] = {0xb8, value, 0, 0, 0, 0xc3};
    memcpy(to, code, sizeof code);
}

static int run(void *code) {
    unsigned sum = 0;
    for (int i = 0; i < times; i++) sum += ((function)code)();
    return sum / times;
}

static sigjmp_buf back;
static siginfo_t seen;
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    seen = *info;
    siglongjmp(back, 1);
}

static void try(const char *what, char *code) {
    if (!sigsetjmp(back, 1)) printf("%s: %d\n", what, ((function)code)());
    else printf("%s: signal %d, code %d, %ld bytes on\n", what, seen.si_signo, seen.si_code, (long)((char *)seen.si_addr - code));
}

static void child(void (*work)(void *), void *with) {
    if (fork() == 0) work(with), _exit(0);
    wait(0);
}

static void put_3(void *code) { put(code, 3); }

static void through_another_mapping(const char *what, char *writable, char *code) {
    put(writable, 1);
    int first = run(code);
    put(writable, 2);
    int second = run(code);
    child(put_3, writable);
    printf("%s: %d %d %d\n", what, first, second, run(code));
}

static void aliases(int doubled) {
    int fd = memfd_create("code", 0);
    if (ftruncate(fd, PAGE)) exit(1);
    char *writable = mmap(0, PAGE, RW, MAP_SHARED, fd, 0), *code = mmap(0, PAGE, RX, MAP_SHARED, fd, 0);
    through_another_mapping("memfd", writable, code);
    munmap(writable, PAGE), munmap(code, PAGE), close(fd);

    int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0700);
    writable = shmat(id, 0, 0), code = shmat(id, 0, SHM_EXEC | SHM_RDONLY);
    shmctl(id, IPC_RMID, 0);
    through_another_mapping("System V", writable, code);
    shmdt(writable), shmdt(code);

    code = mmap(0, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    through_another_mapping("one mapping", code, code);
    if (doubled) {
        char *again = mremap(code, 0, PAGE, MREMAP_MAYMOVE);
        through_another_mapping("doubled", again, code);
        munmap(again, PAGE);
    }
    munmap(code, PAGE);

    fd = memfd_create("code", 0);
    if (ftruncate(fd, PAGE)) exit(1);
    code = mmap(0, PAGE, RX, MAP_SHARED, fd, 0);
    for (int value = 7; value < 9; value++) {
        char bytes[6];
        put(bytes, value);
        if (pwrite(fd, bytes, 6, 0) != 6) exit(1);
        printf("pwrite: %d\n", run(code));
    }
    munmap(code, PAGE), close(fd);
}

static void replaced(void) {
    char *code = mmap(place, PAGE, RWX, ANONYMOUS | MAP_FIXED, -1, 0), *other = place + 65536;
    put(code, 1), printf("first: %d\n", run(code));
    /* Lengths that are no multiple of a page count as such. */
    put(code + 2000, 1), run(code + 2000);
    munmap(code, 100);
    if (mmap(place, PAGE, RWX, ANONYMOUS, -1, 0) != place) exit(2);
    put(code, 2), put(code + 2000, 3), printf("unmapped, mapped: %d %d\n", run(code), run(code + 2000));
    mmap(other, PAGE, RWX, ANONYMOUS | MAP_FIXED, -1, 0);
    put(other, 4), printf("elsewhere: %d\n", run(other));
    if (mremap(other, 1, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place) exit(3);
    printf("moved here: %d\n", run(code));
    if (mremap(code, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) != other) exit(4);
    if (mmap(place, 1, RWX, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != place) exit(5);
    put(code, 5), printf("moved away: %d %d\n", run(code), run(other));
    madvise(code, 1, MADV_DONTNEED);
    put(code, 6), printf("zeroed: %d\n", run(code));
    mprotect(code, 100, RX), printf("protected: %d\n", run(code));
    mprotect(code, 100, RWX), put(code, 7), printf("and written: %d\n", run(code));
    munmap(code, PAGE), munmap(other, PAGE);
}

static void over_two_pages(void) {
    char *code = place + PAGE - 3;
    mmap(place, 2 * PAGE, RWX, ANONYMOUS | MAP_FIXED, -1, 0);
    put(code, 17), printf("over two pages: %d\n", run(code));
    place[PAGE] = 1, printf("second page written: %#x\n", run(code));
    mmap(place + PAGE, PAGE, RWX, ANONYMOUS | MAP_FIXED, -1, 0);
    place[PAGE + 2] = (char)0xc3, printf("second page replaced: %d\n", run(code));
    mprotect(place, PAGE, RX);
    place[PAGE] = 1, printf("first one fixed: %#x\n", run(code));
    munmap(place + PAGE, PAGE);
    mprotect(place, PAGE, RWX);
    memcpy(place + PAGE - 5, "\xb8\x09\x00\x00\x00", 5);
    try("runs off", place + PAGE - 5);
    mmap(place + PAGE, PAGE, RWX, ANONYMOUS | MAP_FIXED, -1, 0);
    place[PAGE] = (char)0xc3;
    try("goes on", place + PAGE - 5);
    munmap(place, 2 * PAGE);
}

/* To one page, or to nothing, by each call there is for it. */
static void shorten(int how, int fd, const char *name) {
    int failed = how == 0 ? ftruncate(fd, PAGE) : how == 1 ? truncate(name, PAGE) : how == 2 ? ftruncate(fd, 0) : close(open(name, O_WRONLY | O_TRUNC));
    if (failed) exit(6);
}

static void shortened(int shared) {
    for (int how = 0; how < 4; how++) {
        char name[] = "/tmp/remapping-XXXXXX", bytes[2 * PAGE] = {0};
        int fd = mkstemp(name);
        put(bytes, 7), put(bytes + PAGE, 8);
        if (write(fd, bytes, sizeof bytes) != sizeof bytes) exit(7);
        char *code = mmap(place, sizeof bytes, RX, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        printf("file, shared %d, call %d: %d %d\n", shared, how, run(code), run(code + PAGE));
        shorten(how, fd, name);
        try("first page", code), try("second page", code + PAGE);
        put(bytes, 9);
        if (pwrite(fd, bytes, sizeof bytes, 0) != sizeof bytes) exit(8);
        if (how > 1 || shared) try("written again", code);
        try("second page again", code + PAGE);
        munmap(code, sizeof bytes), close(fd), unlink(name);
    }
}

static void empty(void *fd) {
    if (ftruncate(*(int *)fd, 0)) _exit(1);
}

static void shortened_by_a_child(void) {
    int fd = memfd_create("code", 0);
    if (ftruncate(fd, PAGE)) exit(9);
    char *writable = mmap(0, PAGE, RW, MAP_SHARED, fd, 0), *code = mmap(0, PAGE, RX, MAP_SHARED, fd, 0);
    put(writable, 10), printf("before: %d\n", run(code));
    child(empty, &fd);
    try("behind", code);
    if (ftruncate(fd, PAGE)) exit(10);
    put(writable, 11), printf("longer again: %d\n", run(code));
    munmap(writable, PAGE), munmap(code, PAGE), close(fd);
}

int main(int argc, char **argv) {
    (void)argv;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    setbuf(stdout, 0);
    for (times = 1; times <= 40000; times *= 200) {
        aliases(argc > 1);
        replaced();
        sigaction(SIGBUS, &action, 0), sigaction(SIGSEGV, &action, 0);
        over_two_pages();
        shortened(0), shortened(1);
        shortened_by_a_child();
        signal(SIGBUS, SIG_DFL), signal(SIGSEGV, SIG_DFL);
    }
}
