// What a captured process may be in the middle of: `registers` has values in all zmm and k registers, `moves` is in the C
// library's memmove, `lengths` in its strlen. Each makes the file "started" with the address of the function's code in it, and
// works until there is a file "release". What it prints doesn't depend on how long that took.
// usage: wide registers|moves|lengths
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void started(const void *code) {
    FILE *file = fopen("started.tmp", "w");
    if (!file || fprintf(file, "%lu\n", (unsigned long)code) < 0 || fclose(file) || rename("started.tmp", "started"))
        exit(1);
}

static int released(void) { return access("release", F_OK) == 0; }

static uint64_t mix(uint64_t sum, const void *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
    return sum;
}

// Each round changes all registers and changes them back: rotations, and additions under masks.
#define ALL "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define MASKS "1,2,3,4,5,6,7"

static void registers(void) {
    static uint64_t vectors[32][8] __attribute__((aligned(64))), masks[8];
    for (int n = 0; n < 32; n++)
        for (int i = 0; i < 8; i++) vectors[n][i] = (n * 8 + i + 1) * 0x9e3779b97f4a7c15;
    for (int n = 0; n < 8; n++) masks[n] = (n + 1) * 0xd1b54a32d192ed03;
    started(registers);
    asm volatile(
        ".irp n," ALL "\n vmovdqu64 64*\\n(%[v]), %%zmm\\n\n .endr\n"
        ".irp n," MASKS "\n kmovq 8*\\n(%[k]), %%k\\n\n .endr\n"
        "1:\n"
        ".irp n," ALL "\n vprolq $13, %%zmm\\n, %%zmm\\n\n .endr\n"
        ".irp n," MASKS "\n vpaddq %%zmm31, %%zmm\\n, %%zmm\\n%{%%k\\n%}\n knotq %%k\\n, %%k\\n\n .endr\n"
        "mov $100000, %%ecx\n"
        "2: dec %%ecx\n jnz 2b\n"
        ".irp n," MASKS "\n knotq %%k\\n, %%k\\n\n vpsubq %%zmm31, %%zmm\\n, %%zmm\\n%{%%k\\n%}\n .endr\n"
        ".irp n," ALL "\n vprorq $13, %%zmm\\n, %%zmm\\n\n .endr\n"
        // access("release", F_OK)
        "mov $21, %%eax\n mov %[path], %%rdi\n xor %%esi, %%esi\n syscall\n test %%eax, %%eax\n jnz 1b\n"
        ".irp n," ALL "\n vmovdqu64 %%zmm\\n, 64*\\n(%[v])\n .endr\n"
        ".irp n," MASKS "\n kmovq %%k\\n, 8*\\n(%[k])\n .endr\n"
        "vzeroupper\n"
        :
        : [v] "r"(vectors), [k] "r"(masks), [path] "r"("release")
        : "rax", "rcx", "rdi", "rsi", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    printf("registers %016llx\n", (unsigned long long)mix(mix(1, vectors, sizeof vectors), masks, sizeof masks));
}

static uint8_t bytes[3 << 20];

static void moves(void) {
    size_t length = sizeof bytes - 1000;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = i * i >> 7;
    void *(*volatile move)(void *, const void *, size_t) = memmove;
    started(move);
    do {
        move(bytes + 777, bytes, length);
        move(bytes, bytes + 777, length);
    } while (!released());
    printf("moves %016llx\n", (unsigned long long)mix(1, bytes, sizeof bytes));
}

static void lengths(void) {
    memset(bytes, 'x', sizeof bytes - 1);
    size_t (*volatile length_of)(const char *) = strlen;
    started(length_of);
    size_t length;
    do {
        length = length_of((char *)bytes);
        if (length != sizeof bytes - 1) break;
    } while (!released());
    printf("lengths %zu\n", length);
}

int main(int argc, char **argv) {
    const char *which = argc == 2 ? argv[1] : "";
    if (!strcmp(which, "registers")) registers();
    else if (!strcmp(which, "moves")) moves();
    else if (!strcmp(which, "lengths")) lengths();
    else return 2;
    return 0;
}
