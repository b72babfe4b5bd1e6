// System calls by `int 0x80`, with the numbers and registers of 32-bit programs.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// Gives rax. All other registers stay as they are, beyond 32 bits, too.
static long call(long number, uint64_t b, uint64_t c, uint64_t d, uint64_t s, uint64_t di) {
    const uint64_t high = 0x5555666600000000;
    register uint64_t r8 asm("r8") = 0x1111111122222222, r10 asm("r10") = 0xaaaaaaaabbbbbbbb, r11 asm("r11") = 0xcccc;
    uint64_t rax = number, rbx = b, rcx = c | high, rdx = d, rsi = s, rdi = di;
    asm volatile("int $0x80" : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx), "+S"(rsi), "+D"(rdi), "+r"(r8), "+r"(r10), "+r"(r11)
                 : : "memory");
    int kept = rbx == b && rcx == (c | high) && rdx == d && rsi == s && rdi == di && r8 == 0x1111111122222222 &&
               r10 == 0xaaaaaaaabbbbbbbb && r11 == 0xcccc;
    if (!kept) printf("%ld: registers changed\n", number);
    return rax;
}

int main(void) {
    char *low = mmap((void *)0x20000000, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    uint64_t at = (uint64_t)low;
    printf("getpid %d getppid %d\n", call(20, 0, 0, 0, 0, 0) == getpid(), call(64, 0, 0, 0, 0, 0) == getppid());
    printf("ids %d %d %d %d\n", call(199, 0, 0, 0, 0, 0) == getuid(), call(200, 0, 0, 0, 0, 0) == getgid(),
           call(201, 0, 0, 0, 0, 0) == geteuid(), call(202, 0, 0, 0, 0, 0) == getegid());
    strcpy(low, "/dev/zero");
    long fd = call(5, at, O_RDWR, 0, 0, 0);
    memset(low + 100, 7, 10);
    printf("open %d read %ld %d close %ld again %ld\n", fd >= 0, call(3, fd, at + 100, 8, 0, 0), low[107] + low[108],
           call(6, fd, 0, 0, 0, 0), call(6, fd, 0, 0, 0, 0));
    strcpy(low, "nowhere");
    printf("open %ld\n", call(5, at, 0, 0, 0, 0));
    // A file: lseek's offset is signed, pread64's and truncate64's have two halves.
    long file = memfd_create("file", 0);
    memcpy(low, "0123456789", 10);
    printf("write %ld lseek %ld %ld\n", call(4, file, at, 10, 0, 0), call(19, file, -3, SEEK_END, 0, 0), call(3, file, at + 16, 99, 0, 0));
    printf("pread64 %ld %.3s\n", call(180, file, at + 32, 3, 4, 0), low + 32);
    printf("ftruncate64 %ld %ld\n", call(194, file, 5, 1, 0, 0), lseek(file, 0, SEEK_END));
    long map = call(192, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    printf("mmap2 low %d", map > 0 && map < 1L << 32);
    *(int *)map = 5;
    printf(" mprotect %ld munmap %ld\n", call(125, map, 4096, PROT_READ, 0, 0), call(91, map, 4096, 0, 0, 0));
    printf("dup %d pipe %ld", call(41, 1, 0, 0, 0, 0) > 1, call(42, at, 0, 0, 0, 0));
    int *ends = (int *)low;
    printf(" %d\n", ends[0] >= 0 && ends[1] == ends[0] + 1);
    printf("umask %lo %lo\n", call(60, 022, 0, 0, 0, 0) & 0, (long)umask(022));
    printf("kill %ld sched_yield %ld getpgid %ld\n", call(37, getpid(), 0, 0, 0, 0), call(158, 0, 0, 0, 0, 0), call(132, -1, 0, 0, 0, 0));
    printf("bad pointer %ld unknown %ld\n", call(4, 1, 4, 1, 0, 0), call(9999, 0, 0, 0, 0, 0));
    fflush(stdout);
    long child = call(2, 0, 0, 0, 0, 0);
    if (child == 0) call(252, 7, 0, 0, 0, 0);
    int status = 0, waited = waitpid(child, &status, 0) == child;
    printf("fork %d exit %d\n", waited, WEXITSTATUS(status));
    fflush(stdout);
    call(1, 3, 0, 0, 0, 0);
}
