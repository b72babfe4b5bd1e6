/* A byte-code interpreter's loop: indirect jumps through a switch table. */
#include <stdio.h>
#include <stdlib.h>

enum { PUSH, ADD, MUL, XOR, DUP, SWAP, LOAD, STORE, DEC, JNZ, HALT };

int main(int argc, char **argv) {
    static const int code[] = {PUSH, 1, STORE, 1, LOAD, 1, PUSH, 3, MUL, LOAD, 0, ADD, DUP, PUSH, 0x55, XOR, SWAP, ADD,
                               STORE, 1, LOAD, 0, DEC, DUP, STORE, 0, JNZ, 4, HALT};
    unsigned vars[2] = {argc > 1 ? atoi(argv[1]) : 5000000, 0}, stack[16], *sp = stack;
    for (const int *pc = code;;) {
        switch (*pc++) {
        case PUSH: *sp++ = *pc++; break;
        case ADD: sp--, sp[-1] += sp[0]; break;
        case MUL: sp--, sp[-1] *= sp[0]; break;
        case XOR: sp--, sp[-1] ^= sp[0]; break;
        case DUP: *sp = sp[-1], sp++; break;
        case SWAP: { unsigned t = sp[-1]; sp[-1] = sp[-2], sp[-2] = t; break; }
        case LOAD: *sp++ = vars[*pc++]; break;
        case STORE: vars[*pc++] = *--sp; break;
        case DEC: sp[-1]--; break;
        case JNZ: pc = *--sp ? code + *pc : pc + 1; break;
        case HALT: printf("%08x\n", vars[1]); return 0;
        }
    }
}
