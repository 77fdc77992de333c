/* arena - memory that is sized first and handed out in order.
 *
 * The same code runs twice: once over an arena without memory, which only adds up what it
 * would take, and once over the real thing.  So the sum that is printed before step 0 is the
 * sum that is allocated.  Not thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { ARENA_ALIGN_BYTES = 64 }; /* a cache line, and a 512-bit vector */

struct arena {
    char *base;            /* NULL while measuring */
    size_t capacity_bytes; /* of base */
    size_t used_bytes;
    size_t peak_bytes; /* largest used_bytes so far */
};

/* An arena that measures: arena_alloc returns NULL and peak_bytes grows. */
struct arena arena_measure(void);

/* An arena over `bytes` at `base` (aligned to ARENA_ALIGN_BYTES), which the caller owns. */
struct arena arena_over(void *base, size_t bytes);

/* Next `bytes`, aligned; contents undefined.  Dies when the arena is full: its size came from
 * measuring the same code, so that is a defect. */
void *arena_alloc(struct arena *a, size_t bytes);
float *arena_floats(struct arena *a, int64_t n);

/* Give back all that was handed out after the mark was taken. */
size_t arena_mark(const struct arena *a);
void arena_rewind(struct arena *a, size_t mark);

size_t arena_align(size_t bytes); /* round up to ARENA_ALIGN_BYTES */
