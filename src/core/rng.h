/* rng - counter-based random numbers: a pure function of key and counter, no state.
 *
 * Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
 * section 4.3).  Every result depends on (seed, what, index) alone, so no layout of ranks or
 * threads can change it. */
#pragma once

#include <stdint.h>

struct rng_block {
    uint32_t word[4];
};

/* The block of counter (hi, lo) under `key`. */
struct rng_block rng_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo);

/* A key for one purpose, e.g. rng_key(seed, "init", name): a hash, stable for ever. */
uint64_t rng_key(uint64_t seed, const char *purpose, const char *name);

/* Uniform in [0, 1) with 53 bits; uniform 64 bits. */
double rng_uniform(uint64_t key, uint64_t index);
uint64_t rng_u64(uint64_t key, uint64_t index);

/* x[i] = standard normal number `first + i` of `key` (Box and Muller 1958), n of them. */
void rng_normal(uint64_t key, uint64_t first, float *x, int64_t n);

/* A keyed permutation of [0, n): position -> element, O(1) memory (a Feistel network with
 * cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
 * 1 <= n <= 2^62, i < n. */
uint64_t rng_permute(uint64_t key, uint64_t n, uint64_t i);
