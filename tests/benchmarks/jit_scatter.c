/* The yardstick of random matrices: the rows of ops/_jit_matrix.py as tightly as C has them, with
   one weight, added to their targets, and gathered from them; long rows in bands of columns.

   cc -O3 -march=native -mprefer-vector-width=512 -o jit_scatter jit_scatter.c
   ./jit_scatter N SYNAPSES_OF_A_ROW ROWS

   Prints ns a synapse: of the hash, of the addition alone to targets made before, of both, and of
   hash and gather. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 8, WORD_ROUNDS = 5, SLICE = 1024 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7FEB352D;
    x = (x ^ x >> 15) * 0x846CA68B;
    return x ^ x >> 16;
}

/* The halves go through arrays of 16 bits: a loop has as many lanes as its widest word allows. */
static void columns(uint32_t seed, uint32_t row, int first, int n, int bits, uint16_t blocks,
                    uint32_t *out)
{
    static uint16_t low[SLICE], high[SLICE];
    uint32_t s0 = mix(seed ^ 0x9E3779B9), s1 = mix(s0 + 0x85EBCA6B);
    uint32_t k0 = mix(s0 ^ mix(row * 0x9E3779B1 + 1));
    uint32_t k1 = mix((k0 + s1) ^ (row * 0x85EBCA77 + 0xC2B2AE3D));
    uint16_t multiplier[ROUNDS], shift[ROUNDS];
    for (int q = 0; q < ROUNDS; q++) {
        uint32_t key = mix(k0 + q * 0x9E3779B9) ^ k1;
        multiplier[q] = key | 1, shift[q] = key >> 16;
    }
    uint32_t size = (uint32_t)blocks << bits;
    if (size == 1 << 14 || size == 1 << 15 || size == 1 << 16) {
        int half = size == 1 << 16 ? 8 : 7;
        for (int j = 0; j < n; j++) {
            uint16_t x = first + j, word = size - 1;
            for (int q = 0; q < WORD_ROUNDS; q++) {
                x = (x * multiplier[q] + shift[q]) & word;
                x ^= x >> (q % 2 ? half - 1 : half + 1);
            }
            out[j] = x;
        }
        return;
    }
    uint16_t mask = (1 << bits) - 1;
    int rest = 16 - bits;
    for (int j = 0; j < n; j++) {
        uint16_t x = (first + j) & mask, y = (first + j) >> bits;
        for (int q = 0; q < ROUNDS; q += 2) {
            uint16_t hashed = y * multiplier[q] + shift[q];
            x ^= hashed >> rest;
            hashed = x * multiplier[q + 1] + shift[q + 1];
            uint16_t step = hashed * (uint32_t)blocks >> 16;
            y += step;
            uint16_t less = y - blocks;
            y = less < y ? less : y;
        }
        low[j] = x, high[j] = y;
    }
    for (int j = 0; j < n; j++)
        out[j] = (uint32_t)high[j] << bits | low[j];
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return fprintf(stderr, "usage: %s N SYNAPSES_OF_A_ROW ROWS\n", argv[0]), 2;
    uint32_t n = atoi(argv[1]), degree = atoi(argv[2]), rows = atoi(argv[3]);
    uint32_t band = n; /* columns */
    for (uint32_t size = 1 << 16; size >= 1 << 14; size /= 2)
        if (size < n && (uint64_t)degree * size >= 256 * (uint64_t)n)
            band = size;
    float *y = calloc(n, sizeof *y), sum = 0;
    uint32_t *ids = malloc((size_t)rows * degree * sizeof *ids), *id = ids, slice[SLICE];

/* m columns of a row, made at once, and what is done with them; `y` from the band's first on */
#define EACH_SLICE(made, use)                                                          \
    for (uint32_t lo = 0; lo < n; lo += band) {                                        \
        uint32_t width = n - lo > band ? band : n - lo, m;                             \
        int bits = (32 - __builtin_clz(width)) / 2;                                    \
        uint16_t blocks = (width + (1u << bits) - 1) >> bits;                          \
        uint32_t synapses = (uint64_t)degree * width / n;                              \
        float *own = y + lo;                                                           \
        (void)own;                                                                     \
        for (uint32_t i = 0; i < rows; i++)                                            \
            for (uint32_t k = 0; k < synapses; k += SLICE) {                           \
                m = synapses - k < SLICE ? synapses - k : SLICE;                       \
                columns(mix(1) + lo / band * 0x9E3779B9, i, k, m, bits, blocks, made);      \
                use                                                                    \
            }                                                                          \
    }
    EACH_SLICE(id, for (uint32_t j = 0; j < m; j++) id[j] += lo; id += m;)
    double t[5] = {now()};
    EACH_SLICE(slice, sum += slice[0];)
    t[1] = now();
    for (uint32_t *j = ids; j < id; j++)
        if (*j < n)
            y[*j] += 0.5f;
    t[2] = now();
    EACH_SLICE(slice, for (uint32_t j = 0; j < m; j++) if (slice[j] < width) own[slice[j]] += 0.5f;)
    t[3] = now();
    EACH_SLICE(slice, for (uint32_t j = 0; j < m; j++) if (slice[j] < width) sum += own[slice[j]];)
    t[4] = now();
    double each = 1.0 / ((double)rows * degree);
    printf("hash %.2f  addition %.2f  both %.2f  hash and gather %.2f  (%g)\n",
           (t[1] - t[0]) * each, (t[2] - t[1]) * each, (t[3] - t[2]) * each,
           (t[4] - t[3]) * each, sum);
}
