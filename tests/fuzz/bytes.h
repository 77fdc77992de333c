/* Hostile bytes as a stream of decisions; zeros when they are used up. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *data;
    size_t n;
};

static inline uint8_t take(struct bytes *b)
{
    if (b->n == 0) return 0;
    b->n--;
    return *b->data++;
}

/* Mostly small numbers, sometimes the ends of the ranges. */
static inline uint64_t take_number(struct bytes *b)
{
    static const uint64_t ends[] = {INT32_MAX,  UINT32_MAX, INT64_MAX,
                                    UINT64_MAX, 65536,      (uint64_t)INT32_MAX + 1,
                                    1ull << 63, 0};
    const uint8_t first = take(b);
    return first < 240 ? first : ends[first % 8];
}

static inline bool rarely(struct bytes *b)
{
    return take(b) > 230;
}
