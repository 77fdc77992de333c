#include "core/arena.h"

#include "core/log.h"

struct arena arena_measure(void)
{
    return (struct arena){0};
}

struct arena arena_over(void *base, size_t bytes)
{
    CHECK(base && (uintptr_t)base % ARENA_ALIGN_BYTES == 0);
    return (struct arena){.base = base, .capacity_bytes = bytes};
}

size_t arena_align(size_t bytes)
{
    return (bytes + ARENA_ALIGN_BYTES - 1) / ARENA_ALIGN_BYTES * ARENA_ALIGN_BYTES;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    const size_t start = a->used_bytes;
    a->used_bytes += arena_align(bytes);
    if (a->used_bytes > a->peak_bytes) a->peak_bytes = a->used_bytes;
    if (!a->base) return NULL;
    if (a->used_bytes > a->capacity_bytes)
        die("arena of %zu bytes is asked for %zu", a->capacity_bytes, a->used_bytes);
    return a->base + start;
}

float *arena_floats(struct arena *a, int64_t n)
{
    return arena_alloc(a, (size_t)n * sizeof(float));
}

size_t arena_mark(const struct arena *a)
{
    return a->used_bytes;
}

void arena_rewind(struct arena *a, size_t mark)
{
    DCHECK(mark <= a->used_bytes);
    a->used_bytes = mark;
}
