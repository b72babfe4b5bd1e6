/* Random programs that patch themselves: patching SEED COUNT. Each is a few functions of arithmetic that call one another in
   loops and overwrite immediates, opcodes and whole instructions: of the same block, of another one, of a function that
   is called next, on borders of pages, through the mapping that is executed or through another one. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 3, SIZE = PAGES * 4096, FUNCTIONS = 5, MOST = 400 };
enum kind { IMM8, IMM32, OPCODE, FLAGS, KINDS };
struct site { int at, function; enum kind kind; };
struct patch { int at, function; enum kind kind; int reg, alias; };

static uint64_t seed;
static unsigned any(unsigned n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (unsigned)(seed >> 20) % n;
}

static uint8_t code[SIZE];
static int at, start[FUNCTIONS];
static struct site sites[MOST];
static struct patch patches[MOST];
static int n_sites, n_patches;

static void bytes(const char *b, int n) { memcpy(code + at, b, n), at += n; }
static void word(uint32_t w) { memcpy(code + at, &w, 4), at += 4; }
#define PUT(b) bytes(b, sizeof b - 1)
/* push rax, rcx, rdx, rbx; mov eax, 0; cpuid; pop rbx, rdx, rcx, rax: a write through another address is sure to be seen
   only behind an instruction that serialises (Intel SDM vol. 3, 9.1.3). */
#define SERIALISE "\x50\x51\x52\x53\xb8\x00\x00\x00\x00\x0f\xa2\x5b\x5a\x59\x58"
static int length(enum kind kind, int alias) { return (kind == IMM32 || kind == FLAGS ? 10 : 7) + (alias ? (int)sizeof SERIALISE - 1 : 0); }

/* add, or, and, sub, xor eax, imm32 */
static const uint8_t opcodes[] = {0x05, 0x0d, 0x25, 0x2d, 0x35};
/* a nop, setc al, setz al, seto al, setp al: what flags live across a patch shows only then */
static const uint8_t readers[][4] = {{0x0f, 0x1f, 0x40, 0}, {0x0f, 0x92, 0xc0, 0x90}, {0x0f, 0x94, 0xc0, 0x90}, {0x0f, 0x90, 0xc0, 0x90}, {0x0f, 0x9a, 0xc0, 0x90}};

static void site(int where, int function, enum kind kind) {
    if (n_sites < MOST) sites[n_sites++] = (struct site){where, function, kind};
}

static void operation(int f, int aliased) {
    switch (any(9)) {
    case 0: case 1: site(at, f, OPCODE), site(at + 1, f, IMM32), code[at++] = opcodes[any(5)], word(seed); break;
    case 2: PUT("\xc1\xc0"), site(at, f, IMM8), code[at++] = any(32), PUT("\x85\xc0"); break; /* rol eax, imm8; test eax, eax */
    case 3: site(at, f, FLAGS), bytes((const char *)readers[any(5)], 4); break;
    case 4: PUT("\x01\xc1\x31\xca"); break;                                  /* add ecx, eax; xor edx, ecx */
    case 5: PUT("\x8d\x44\x08"), site(at, f, IMM8), code[at++] = any(256); break; /* lea eax, [rax+rcx+imm8] */
    case 6: PUT("\x83\xc1"), site(at, f, IMM8), code[at++] = any(256); break; /* add ecx, imm8 */
    default: if (n_patches < MOST) {
        struct patch p = {at, f, any(KINDS), any(2), aliased == 2 || (aliased && any(2))};
        patches[n_patches++] = p;
        at += length(p.kind, p.alias);
    }
    }
}

static void function(int f, int aliased) {
    start[f] = at;
    int leaf = f == FUNCTIONS - 1;
    PUT("\x41\x50\x41\xb8"), word(1 + any(leaf ? 60 : 5));                   /* push r8; mov r8d, times */
    PUT("\x85\xc0");                                                         /* test eax, eax */
    int loop = at;
    for (int n = 2 + any(10); n--;) {
        operation(f, aliased);
        if (!leaf && any(6) == 0) code[at++] = 0xe8, word(-1000 - (f + 1 + any(FUNCTIONS - 1 - f))), PUT("\x85\xd2");
        if (any(8) == 0) {                                                   /* jcc over the next one */
            int jump = at;
            code[at++] = 0x70 + any(16), at++;
            operation(f, aliased);
            code[jump + 1] = at - jump - 2;
        }
    }
    PUT("\x41\xff\xc8\x0f\x85"), word(loop - at - 4);                        /* dec r8d; jnz loop */
    PUT("\x41\x58\xc3");                                                     /* pop r8; ret */
}

/* The place that a patch overwrites: mostly near behind it. */
static struct site target(struct patch p) {
    for (int tries = 0; tries < 200; tries++) {
        struct site s = sites[any(n_sites)];
        int near = s.function == p.function && s.at > p.at && s.at < p.at + 60;
        if (s.kind == p.kind && (near || tries > 60 || any(4) == 0)) return s;
    }
    return (struct site){-1, 0, 0};
}

static uint32_t replacement(enum kind kind) {
    uint32_t value = (uint32_t)(seed >> 9);
    if (kind == OPCODE) value = opcodes[any(5)];
    if (kind == FLAGS) memcpy(&value, readers[any(5)], 4);
    return value;
}

static void fill(struct patch p) {
    struct site s = target(p);
    int wide = p.kind == IMM32 || p.kind == FLAGS, alias = p.alias;
    at = p.at;
    if (s.at < 0) { memset(code + at, 0x90, length(p.kind, alias)); return; }
    int reg = p.reg && p.kind == IMM8;
    if (reg) PUT("\x44\x88"); else code[at++] = wide ? 0xc7 : 0xc6;          /* mov [..], r8b or imm */
    code[at++] = (alias ? 0x83 : 0x05);                                      /* [rbx+place] or [rip+distance] */
    int end = p.at + (wide ? 10 : 7);
    word(alias ? s.at : s.at - end);
    uint32_t value = replacement(p.kind);
    if (wide) word(value);
    else if (!reg) code[at++] = value;
    if (alias) PUT(SERIALISE);
}

static void generate(int aliased) {
    memset(code, 0xcc, sizeof code);
    at = n_sites = n_patches = 0;
    at = any(64);
    for (int f = 0; f < FUNCTIONS; f++) {
        function(f, aliased);
        switch (any(4)) {
        case 0: at += any(200); break;
        case 1: if (at < 4096) at = 4096 - any(40); break;                   /* over the border of a page */
        case 2: if (at < 8192) at = 8192 - any(40); break;
        }
    }
    for (int i = 0; i < n_patches; i++) fill(patches[i]);
    for (int i = 0; i + 5 < SIZE; i++) {
        int32_t callee;
        memcpy(&callee, code + i + 1, 4);
        if (code[i] == 0xe8 && callee <= -1000 && callee > -1000 - FUNCTIONS) {
            callee = start[-1000 - callee] - (i + 5);
            memcpy(code + i + 1, &callee, 4);
        }
    }
}

static uint64_t run(uint8_t *entry, uint8_t *alias, uint32_t a) {
    uint32_t c = 7, d = 9;
    __asm__ volatile("sub $128, %%rsp; call *%3; add $128, %%rsp" : "+a"(a), "+c"(c), "+d"(d) : "r"(entry), "b"(alias) : "r8", "memory", "cc");
    return ((uint64_t)a << 32) ^ ((uint64_t)c << 16) ^ d;
}

int main(int argc, char **argv) {
    seed = argc > 1 ? strtoull(argv[1], 0, 0) * 0x9e3779b97f4a7c15u + 1 : 1;
    int count = argc > 2 ? atoi(argv[2]) : 20;
    for (int n = 0; n < count; n++) {
        int kind = any(4);
        uint8_t *place = (uint8_t *)0x500000000 + (uint64_t)n * 65536, *alias = place;
        /* 0 and 1: one writable mapping of its own; 2: executed through one mapping, written through another; 3: both. */
        generate(kind < 2 ? 0 : kind == 2 ? 2 : 1);
        if (kind < 2) {
            place = mmap(place, SIZE, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        } else {
            int fd = memfd_create("code", 0);
            if (ftruncate(fd, SIZE)) return 1;
            place = mmap(place, SIZE, kind == 2 ? 5 : 7, MAP_SHARED | MAP_FIXED, fd, 0);
            alias = mmap(place + 32768, SIZE, 3, MAP_SHARED | MAP_FIXED, fd, 0);
            close(fd);
        }
        if (place == MAP_FAILED || alias == MAP_FAILED) return 2;
        memcpy(alias, code, SIZE);
        uint64_t sum = 0;
        for (int times = 1 + any(kind == 1 ? 40 : 12); times--;) {
            sum = sum * 31 + run(place + start[0], alias, (uint32_t)sum);
            if (any(3) == 0 && n_sites) {
                struct site s = sites[any(n_sites)];
                uint32_t value = replacement(s.kind);
                memcpy(alias + s.at, &value, s.kind == IMM32 || s.kind == FLAGS ? 4 : 1);
            }
        }
        printf("%d %d: %016llx\n", n, kind, (unsigned long long)sum);
        munmap(place, SIZE), munmap(alias, SIZE);
    }
}
