/* Stack that is used far below what was used before: by stores, loads of 16 bytes, atomic operations and system calls. */
#define _GNU_SOURCE
#include <alloca.h>
#include <emmintrin.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int use(volatile char *low, size_t length) {
    __m128i sixteen = _mm_loadu_si128((const __m128i *)(low + 32));
    long number = 5;
    __atomic_fetch_add((int64_t *)((uintptr_t)(low + 71) & ~(uintptr_t)7), 7, __ATOMIC_SEQ_CST);
    __asm__ volatile("lock xaddq %0, %1" : "+r"(number), "+m"(*(volatile int64_t *)(low + 129)));
    low[0] = 1, low[length - 1] = 2;
    int zeros = open("/dev/zero", O_RDONLY);
    long got = read(zeros, (char *)low + 4096, 8192);
    close(zeros);
    return got == 8192 && number == 0 && _mm_movemask_epi8(_mm_cmpeq_epi8(sixteen, _mm_setzero_si128())) == 0xffff;
}

static int __attribute__((noinline)) below(size_t length) {
    volatile char *low = alloca(length);
    return use(low, length) + low[0] + low[length - 1];
}

int main(void) {
    /* Each is the lowest so far. */
    for (size_t length = 64 << 10; length <= 7 << 20; length *= 2)
        printf("%zu KiB below: %d\n", length >> 10, below(length));
    return 0;
}
