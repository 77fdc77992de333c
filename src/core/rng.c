#include "core/rng.h"

#include <math.h>
#include <string.h>

#include "core/hash.h"
#include "core/log.h"

struct rng_block rng_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter_lo, c1 = (uint32_t)(counter_lo >> 32);
    uint32_t c2 = (uint32_t)counter_hi, c3 = (uint32_t)(counter_hi >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (struct rng_block){{c0, c1, c2, c3}};
}

uint64_t rng_key(uint64_t seed, const char *purpose, const char *name)
{
    struct hash_stream *h = hash_stream_create();
    hash_stream_update(h, &seed, sizeof seed);
    hash_stream_update(h, purpose, strlen(purpose) + 1);
    hash_stream_update(h, name, strlen(name) + 1);
    return hash_stream_finish(&h);
}

uint64_t rng_u64(uint64_t key, uint64_t index)
{
    const struct rng_block b = rng_philox(key, 0, index);
    return (uint64_t)b.word[1] << 32 | b.word[0];
}

double rng_uniform(uint64_t key, uint64_t index)
{
    return (double)(rng_u64(key, index) >> 11) * 0x1p-53;
}

/* Two normals from two words; the half-open interval is shifted so that log never sees 0. */
static void box_muller(uint32_t a, uint32_t b, float *x, float *y)
{
    const double u = ((double)a + 0.5) * 0x1p-32, v = ((double)b + 0.5) * 0x1p-32;
    const double r = sqrt(-2.0 * log(u)), angle = 6.283185307179586476925 * v;
    *x = (float)(r * cos(angle));
    *y = (float)(r * sin(angle));
}

void rng_normal(uint64_t key, uint64_t first, float *x, int64_t n)
{
    int64_t done = 0;
    while (done < n) {
        const uint64_t index = first + (uint64_t)done;
        const struct rng_block b = rng_philox(key, 1, index / 4);
        float four[4];
        box_muller(b.word[0], b.word[1], &four[0], &four[1]);
        box_muller(b.word[2], b.word[3], &four[2], &four[3]);
        for (uint64_t j = index % 4; j < 4 && done < n; j++) x[done++] = four[j];
    }
}

uint64_t rng_permute(uint64_t key, uint64_t n, uint64_t i)
{
    CHECK(n >= 1 && n <= (uint64_t)1 << 62 && i < n);
    int half_bits = 1;
    while (half_bits < 31 && ((uint64_t)1 << (2 * half_bits)) < n) half_bits++;
    const uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    do { /* the domain is at most four times n: fewer than four rounds are expected */
        uint64_t left = i >> half_bits, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            const uint64_t f = rng_philox(key, 2 + round, right).word[0];
            const uint64_t next = left ^ (f & mask);
            left = right;
            right = next;
        }
        i = left << half_bits | right;
    } while (i >= n);
    return i;
}
