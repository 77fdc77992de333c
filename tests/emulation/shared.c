#include "shared.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block.h"
#include "emulation.h"

enum {
    MAX_THREADS = 1024,
    PAGE = 4096,
    REGION_BYTES = 256 << 20,
    DYNAMIC_BYTES = 256 << 10,
    STATIC_LIMIT = 48 << 10,
    BLOCK_LIMIT = 227 << 10,
    ALIGN = 16,
    DYNAMIC_ALIGN = 128
};

struct emulation_shared_site {
    void *memory;
    size_t bytes;
    uint64_t block;
};

struct copy {
    unsigned char *to;
    const unsigned char *from; /* NULL: zeros */
    int group;
};

struct copies { /* of one thread, not made yet */
    struct copy *list;
    int n, capacity;
    int group; /* committed so far */
};

static unsigned char *region, *region_next, *dynamic_end;
static uint64_t block; /* serial number of the block that runs */
static size_t static_bytes, dynamic_bytes;
static bool dynamic_used, copies_used; /* by the block that runs */
static struct copies copies[MAX_THREADS];

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

/* Whole pages for `bytes`, with a closed page behind them. */
static unsigned char *take_pages(size_t bytes)
{
    if (!region) {
        region = mmap(NULL, REGION_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (region == MAP_FAILED) emulation_fail("no address space for shared memory");
        region_next = region + PAGE;
    }
    unsigned char *const p = region_next;
    const size_t pages = round_up(bytes, PAGE);
    region_next += pages + PAGE;
    if (region_next > region + REGION_BYTES ||
        mprotect(p, pages, PROT_READ | PROT_WRITE) != 0)
        emulation_fail("no memory for %zu bytes of shared memory", bytes);
    return p;
}

bool shared_contains(const void *p)
{
    const unsigned char *const c = p;
    return region && c >= region && c < region + REGION_BYTES;
}

void *emulation_shared(struct emulation_shared_site *site, size_t bytes);
void *emulation_shared(struct emulation_shared_site *site, size_t bytes)
{
    const size_t rounded = round_up(bytes, ALIGN);
    if (!site->memory) {
        site->memory = take_pages(bytes) + round_up(bytes, PAGE) - rounded;
        site->bytes = bytes;
    }
    if (site->block != block) {
        site->block = block;
        memset(site->memory, 0xFF, rounded);
        static_bytes += rounded;
        if (static_bytes > STATIC_LIMIT || static_bytes + dynamic_bytes > BLOCK_LIMIT)
            emulation_fail(
                "%zu bytes of static and %zu of dynamic shared memory; a block "
                "has %d, of which %d static",
                static_bytes, dynamic_bytes, BLOCK_LIMIT, STATIC_LIMIT);
    }
    return site->memory;
}

void *emulation_dynamic_shared(void);
void *emulation_dynamic_shared(void)
{
    if (!dynamic_end) dynamic_end = take_pages(DYNAMIC_BYTES) + DYNAMIC_BYTES;
    unsigned char *const p = dynamic_end - round_up(dynamic_bytes, DYNAMIC_ALIGN);
    if (!dynamic_used) {
        memset(p, 0xFF, (size_t)(dynamic_end - p));
        dynamic_used = true;
    }
    return p;
}

void shared_start_block(size_t bytes)
{
    block++;
    static_bytes = 0;
    dynamic_bytes = bytes;
    dynamic_used = false;
    for (int t = 0; copies_used && t < MAX_THREADS; t++)
        copies[t].n = copies[t].group = 0;
    copies_used = false;
}

void shared_end_block(void)
{
    if (!dynamic_used) return;
    for (size_t i = dynamic_bytes; i < round_up(dynamic_bytes, DYNAMIC_ALIGN); i++) {
        if (dynamic_end[(ptrdiff_t)i -
                        (ptrdiff_t)round_up(dynamic_bytes, DYNAMIC_ALIGN)] != 0xFF)
            emulation_fail("wrote behind its %zu bytes of dynamic shared memory",
                           dynamic_bytes);
    }
}

/* ---- asynchronous copies ----------------------------------------------------------------------- */

void emulation_check_row(const void *shared);
void emulation_check_row(const void *shared)
{
    if (!shared_contains(shared) || (uintptr_t)shared % ALIGN != 0)
        emulation_fail("%p is not an address in shared memory aligned to 16 bytes",
                       shared);
}

static void make_copy(const struct copy *c)
{
    if (c->from)
        memcpy(c->to, c->from, ALIGN);
    else
        memset(c->to, 0, ALIGN);
}

void emulation_copy_async(void *shared, const void *global, bool valid);
void emulation_copy_async(void *shared, const void *global, bool valid)
{
    struct copies *const q = &copies[block_thread()];
    const struct copy c = {shared, valid ? global : NULL, q->group};
    copies_used = true;
    emulation_check_row(shared);
    if (valid && (uintptr_t)global % ALIGN != 0)
        emulation_fail("asynchronous copy from %p, which is not aligned to 16 bytes",
                       global);
    if (emulation_random(2)) {
        make_copy(&c);
        return;
    }
    if (q->n == q->capacity) {
        q->capacity = q->capacity ? 2 * q->capacity : 16;
        q->list = realloc(q->list, (size_t)q->capacity * sizeof *q->list);
        if (!q->list) emulation_fail("no memory for asynchronous copies");
    }
    q->list[q->n++] = c;
}

void emulation_copy_commit(void);
void emulation_copy_commit(void)
{
    copies[block_thread()].group++;
    copies_used = true;
}

void emulation_copy_wait(int pending);
void emulation_copy_wait(int pending)
{
    struct copies *const q = &copies[block_thread()];
    int kept = 0;
    for (int i = 0; i < q->n; i++) {
        if (q->list[i].group < q->group - pending)
            make_copy(&q->list[i]);
        else
            q->list[kept++] = q->list[i];
    }
    q->n = kept;
}
