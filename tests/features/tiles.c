/* A process that may use AMX's tiles. "configured": they are in use when it is captured; "released": not any more. It ends
   by itself when the file that it names exists. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18, REFUSED = 77 };

int main(int argc, char **argv) {
    if (argc < 3 || syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) != 0)
        return REFUSED;
    uint8_t config[64] __attribute__((aligned(64))) = {1};
    config[16] = 64;
    config[48] = 16;
    uint8_t row[64 * 16];
    memset(row, 7, sizeof row);
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"(row), "r"(64l) : "memory");
    if (strcmp(argv[1], "released") == 0)
        __asm__ volatile("tilerelease");
    printf("ready\n");
    fflush(stdout);
    while (access(argv[2], F_OK) != 0) {
    }
    printf("done\n");
    return 0;
}
