/* The memory map: what is granted, where, and what becomes of the contents. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "report.h"

#define PAGE 4096L
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

int main(void) {
    char *m = mmap(0, 8 * PAGE, RW, ANON, -1, 0);
    printf("below 2^47: %d\n", (uintptr_t)m < 1L << 47);
    memset(m, 'a', 8 * PAGE);
    SHOW(munmap(m + 2 * PAGE, PAGE));
    SHOW(munmap(m + 2 * PAGE, PAGE));
    SHOW(munmap(m + 1, PAGE));
    SHOW(munmap(m, 0));
    SHOW(mprotect(m, 4 * PAGE, PROT_READ));
    SHOW(write(1, m + 3 * PAGE, 0));
    SHOW(mprotect(m + 3 * PAGE, PAGE, RW));
    SHOW(mprotect(m + 1, PAGE, RW));
    SHOW(mmap(m, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    SHOW(mmap(m + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == m + 2 * PAGE);
    SHOW(m[2 * PAGE]);
    SHOW(mmap(m + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED);
    SHOW(mmap(0, 0, RW, ANON, -1, 0) == MAP_FAILED);
    SHOW(mmap(0, PAGE, RW, MAP_PRIVATE, 999, 0) == MAP_FAILED);
    SHOW(mmap(0, 1L << 60, RW, ANON, -1, 0) == MAP_FAILED);
    char *hint = (char *)0x10000000000;
    SHOW(mmap(hint, PAGE, RW, ANON, -1, 0) == hint);
    char *low = mmap(0, PAGE, RW, ANON | MAP_32BIT, -1, 0);
    printf("low: %d\n", (uintptr_t)low < 1L << 31);
    SHOW(mprotect(m, 8 * PAGE, RW));
    SHOW(madvise(m, PAGE, MADV_DONTNEED));
    SHOW(m[0] * 1000 + m[PAGE]);
    unsigned char there[2];
    SHOW(mincore(m, 2 * PAGE, there));
    printf("in core: %d %d\n", there[0] & 1, there[1] & 1);
    SHOW(msync(m, PAGE, MS_SYNC));
    SHOW(msync((void *)(5 * PAGE), PAGE, MS_SYNC));

    char *grown = mremap(m, 8 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
    SHOW(grown != MAP_FAILED && grown[5 * PAGE] == 'a' && grown[99 * PAGE] == 0);
    SHOW(mremap(grown, 100 * PAGE, PAGE, 0) == grown);
    SHOW(mprotect(grown + PAGE, PAGE, RW));
    SHOW(mremap(grown + 50 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
    char *fixed = hint + 16 * PAGE;
    SHOW(mremap(grown, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, fixed) == fixed);
    SHOW(mprotect(grown, PAGE, RW));

    char *start = sbrk(0);
    SHOW(sbrk(3 * PAGE) == start);
    memset(start, 'b', 3 * PAGE);
    SHOW(sbrk(-2 * PAGE) == start + 3 * PAGE);
    SHOW(sbrk(PAGE) == start + PAGE);
    SHOW(start[0] * 1000 + start[PAGE]);
    SHOW(syscall(SYS_brk, 1) == (long)(start + 2 * PAGE));

    int fd = memfd_create("file", 0);
    SHOW(ftruncate(fd, 2 * PAGE));
    char *shared = mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0), *private = mmap(0, PAGE, RW, MAP_PRIVATE, fd, PAGE);
    shared[PAGE] = 's';
    SHOW(private[0]);
    private[0] = 'p';
    SHOW(shared[PAGE]);
    char byte;
    SHOW(pread(fd, &byte, 1, PAGE));
    SHOW(byte);
    SHOW(mmap(0, PAGE, RW, MAP_SHARED, fd, 1) == MAP_FAILED);
    int readable = open("/proc/self/exe", O_RDONLY);
    SHOW(mmap(0, PAGE, RW, MAP_SHARED, readable, 0) == MAP_FAILED);
    SHOW(mmap(0, PAGE, RW, MAP_PRIVATE, readable, 0) != MAP_FAILED);

    int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
    char *a = shmat(id, 0, 0), *b = shmat(id, 0, SHM_RDONLY);
    printf("attached below 2^47: %d\n", (uintptr_t)a < 1L << 47);
    a[PAGE] = 'x';
    SHOW(b[PAGE]);
    SHOW(shmat(id, a, 0) == (void *)-1);
    SHOW(shmdt(a));
    SHOW(shmdt(a));
    SHOW(mprotect(a, PAGE, PROT_READ));
    struct shmid_ds status;
    SHOW(shmctl(id, IPC_STAT, &status));
    printf("size %zu attached %lu\n", status.shm_segsz, (unsigned long)status.shm_nattch);
    SHOW(shmctl(id, IPC_RMID, 0));
    SHOW(mlock(b, PAGE));
    SHOW(munlock(b, PAGE));
}
