/* Vectors as wide as the level that the compiler builds for has registers: 16, 32 or 64 bytes. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined __x86_64__
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#if defined __AVX512BW__
#define WIDTH 64
#elif defined __AVX2__
#define WIDTH 32
#else
#define WIDTH 16
#endif

typedef float floats __attribute__((vector_size(WIDTH)));
typedef float floats_anywhere __attribute__((vector_size(WIDTH), aligned(4)));
typedef uint8_t bytes __attribute__((vector_size(WIDTH)));
typedef uint8_t bytes_anywhere __attribute__((vector_size(WIDTH), aligned(1), may_alias));
enum { FLOATS = WIDTH / sizeof(float) };

/* The same numbers every time. */
static inline uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}
