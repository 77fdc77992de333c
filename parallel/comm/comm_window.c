/* Memory that ranks of one host have together: a block of the first of them, which the others map.  In an
 * all-gather of it a rank only says that its slice is there (comm_shared.c, comm_exchange.c). */
#include <stdlib.h>
#include <sys/mman.h>

#include "core/log.h"
#include "parallel/comm/comm_host.h"

struct comm_window {
    char *p;
    size_t bytes;
    int32_t number; /* from 1, the same on all ranks */
    bool own;       /* the block is this rank's */
    struct comm_window *next;
};

int comm_near(const struct comm *c, int *index)
{
    *index = c->host ? c->host->index : 0;
    return c->host ? c->host->n_near : 1;
}

bool comm_is_near(const struct comm *c, int rank)
{
    return rank == c->rank || (c->host && c->host->boards[rank]);
}

int32_t comm_window_find(const struct comm *c, const void *x, size_t bytes,
                         size_t *offset)
{
    const uintptr_t at = (uintptr_t)x;
    if (!c->host || bytes == 0) return 0;
    for (const struct comm_window *w = c->windows; w; w = w->next) {
        const uintptr_t start = (uintptr_t)w->p;
        if (at < start || at + bytes > start + w->bytes) continue;
        *offset = at - start;
        return w->number;
    }
    return 0;
}

/* As far as this rank can tell; *block: of its own, for the others. */
static status_t make_window(struct comm_window *w, struct device *d, const char *purpose,
                            bool for_others, struct device_block *block)
{
    void *p = NULL;
    size_t offset;
    TRY(for_others ? device_alloc_shared(d, w->bytes, purpose, &p)
                   : device_alloc(d, w->bytes, purpose, &p));
    w->p = p;
    if (!for_others || device_find_shared(d, p, w->bytes, block, &offset))
        return STATUS_OK;
    return status_set(
        STATUS_NOMEM,
        "no memory that others may map for %zu bytes of %s; parallel.comm: mpi "
        "works without that",
        w->bytes, purpose);
}

static status_t map_window(struct comm_window *w, const struct comm *c,
                           const struct device_block *block)
{
    const int first = c->host->first;
    w->p = comm_map_block(c, first, block);
    if (!w->p)
        return status_set(STATUS_COMM,
                          "cannot map %zu bytes of the memory of rank %d of %d; "
                          "parallel.comm: mpi works without that",
                          w->bytes, first, c->size);
    madvise(w->p, w->bytes,
            MADV_HUGEPAGE); /* of pages that this rank is the first to touch */
    return STATUS_OK;
}

static void give_back(struct comm_window *w, struct device *d)
{
    void *p = w->p;
    if (w->own)
        device_leave(d, &p, w->bytes);
    else if (p)
        munmap(p, w->bytes);
    free(w);
}

status_t comm_window_alloc(struct comm *c, struct device *d, size_t bytes,
                           const char *purpose, void **p)
{
    int index;
    const int n_near = comm_near(c, &index);
    struct device_block block = {.fd = -1}, *blocks;
    struct comm_window *w = malloc(sizeof *w);
    blocks = malloc((size_t)c->size * sizeof *blocks);
    if (!w || !blocks) die("no memory for a window of %d ranks", c->size);
    *w =
        (struct comm_window){.bytes = bytes, .number = ++c->n_windows, .own = index == 0};
    status_t st = STATUS_OK;
    if (w->own) st = make_window(w, d, purpose, n_near > 1, &block);
    comm_gather_all(c, &block, sizeof block, blocks);
    if (!w->own && blocks[c->host->first].fd >= 0)
        st = map_window(w, c, &blocks[c->host->first]);
    st = comm_agree(c, st);
    free(blocks);
    *p = st == STATUS_OK ? w->p : NULL;
    if (st == STATUS_OK) {
        w->next = c->windows;
        c->windows = w;
    } else {
        give_back(w, d);
    }
    return st;
}

void comm_window_free(struct comm *c, struct device *d, void **p)
{
    if (!*p) return;
    struct comm_window **at = &c->windows;
    while (*at && (*at)->p != *p) at = &(*at)->next;
    CHECK(*at);
    struct comm_window *w = *at;
    *at = w->next;
    give_back(w, d);
    *p = NULL;
}
