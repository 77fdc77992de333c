#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the caller wants: ranges by start, disjoint, none empty. */
struct wanted {
    const struct checkpoint_range *ranges;
    int n_ranges;
    const int64_t *offset; /* in the flat buffer, of each parameter of the checkpoint */
    const struct ckpt_param *params;
};

static float *target(const struct checkpoint_range *r, int kind)
{
    return kind == 0 ? r->master : kind == 1 ? r->exp_avg : r->exp_avg_sq;
}

/* The first range that ends behind flat element `at`. */
static int first_behind(const struct wanted *w, int64_t at)
{
    int low = 0, high = w->n_ranges;
    while (low < high) {
        const int mid = low + (high - low) / 2;
        if (w->ranges[mid].start + w->ranges[mid].count > at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* Flat elements [at, at + n) are x. */
static void scatter(const struct wanted *w, int kind, int64_t at, const float *x,
                    int64_t n)
{
    for (int k = first_behind(w, at); k < w->n_ranges; k++) {
        const struct checkpoint_range *r = &w->ranges[k];
        if (r->start >= at + n) break;
        const int64_t from = at > r->start ? at : r->start;
        const int64_t end = r->start + r->count < at + n ? r->start + r->count : at + n;
        if (from < end && target(r, kind))
            memcpy(target(r, kind) + (from - r->start), x + (from - at),
                   (size_t)(end - from) * sizeof *x);
    }
}

/* Where row `row` of the piece begins in the flat buffer. */
static int64_t flat(const struct wanted *w, const struct ckpt_piece *p, int64_t row)
{
    const int64_t C = w->params[p->param].shape[1];
    return w->offset[p->param] + (p->row + row) * C + p->col;
}

static void take(void *context, const struct ckpt_piece *p, int kind, int64_t first,
                 const float *x, int64_t n)
{
    const struct wanted *w = context;
    const int64_t C = w->params[p->param].shape[1];
    while (n > 0) {
        const int64_t col = first % p->cols;
        const int64_t left = p->cols == C ? n : p->cols - col; /* full rows are one run */
        const int64_t m = left < n ? left : n;
        scatter(w, kind, flat(w, p, first / p->cols) + col, x, m);
        first += m;
        x += m;
        n -= m;
    }
}

/* Is something of the span that the piece lies in wanted of dataset `kind`? */
static bool is_wanted(const struct wanted *w, const struct ckpt_piece *p, int kind)
{
    const int64_t from = flat(w, p, 0), end = flat(w, p, p->rows - 1) + p->cols;
    for (int k = first_behind(w, from); k < w->n_ranges && w->ranges[k].start < end; k++)
        if (target(&w->ranges[k], kind)) return true;
    return false;
}

static status_t read_pieces(const struct checkpoint *c, struct wanted *w, float *buffer)
{
    const struct ckpt_index *x = &c->index;
    status_t st = STATUS_OK;
    int64_t i = 0;
    for (int64_t s = 0; s < x->n_shards && st == STATUS_OK; s++) {
        int fd = -1; /* a shard is opened when the first piece of it is needed */
        const int64_t first = i;
        while (i < x->n_pieces && x->pieces[i].shard == s) i++;
        for (int k = 0; k < CKPT_KINDS; k++) {
            for (int64_t j = first; j < i && st == STATUS_OK; j++) {
                const struct ckpt_piece *p = &x->pieces[j];
                if (!is_wanted(w, p, k)) continue;
                if (fd < 0) st = ckpt_shard_open(c, s, &fd);
                if (st == STATUS_OK) st = ckpt_piece_read(c, fd, p, k, buffer, take, w);
            }
        }
        if (fd >= 0) close(fd);
    }
    return st;
}

static void zero(const struct wanted *w, int64_t from, int64_t end)
{
    static const float zeros[1024];
    while (from < end) {
        const int64_t n = end - from < 1024 ? end - from : 1024;
        for (int k = 0; k < CKPT_KINDS; k++) scatter(w, k, from, zeros, n);
        from += n;
    }
}

static void zero_gaps(const struct wanted *w, const struct param_table *params)
{
    int64_t at = 0;
    for (int i = 0; i < params->n_params; i++) {
        zero(w, at, params->params[i].offset);
        at = params->params[i].offset + params->params[i].n;
    }
    zero(w, at, params->n_elements);
}

static int by_start(const void *a, const void *b)
{
    const struct checkpoint_range *r = a, *s = b;
    return (r->start > s->start) - (r->start < s->start);
}

static status_t check_ranges(const struct checkpoint_range *ranges, int n_ranges,
                             const struct param_table *params)
{
    int64_t at = 0;
    for (int k = 0; k < n_ranges; k++) {
        const struct checkpoint_range *r = &ranges[k];
        if (r->start < at || r->count < 0 || r->count > params->n_elements - r->start)
            return status_set(STATUS_INTERNAL,
                              "checkpoint ranges overlap or leave the buffer at %lld",
                              (long long)r->start);
        at = r->start + r->count;
    }
    return STATUS_OK;
}

status_t checkpoint_read(const struct checkpoint *c, const struct param_table *params,
                         const struct checkpoint_range *ranges, int n_ranges)
{
    TRY(checkpoint_match(c, params));
    struct checkpoint_range *sorted = malloc((size_t)n_ranges * sizeof *sorted + 1);
    int64_t *offset = malloc((size_t)c->index.n_params * sizeof *offset + 1);
    float *buffer = malloc(CKPT_BUFFER * sizeof *buffer);
    status_t st = STATUS_OK;
    if (!sorted || !offset || !buffer) {
        st = status_set(STATUS_NOMEM, "%s: no memory for reading", c->path);
        goto out;
    }
    int n = 0;
    for (int k = 0; k < n_ranges; k++)
        if (ranges[k].count != 0) sorted[n++] = ranges[k];
    qsort(sorted, (size_t)n, sizeof *sorted, by_start);
    st = check_ranges(sorted, n, params);
    if (st != STATUS_OK) goto out;
    for (int64_t i = 0; i < c->index.n_params; i++)
        offset[i] = params->params[param_find(params, c->index.params[i].name)].offset;
    struct wanted w = {
        .ranges = sorted, .n_ranges = n, .offset = offset, .params = c->index.params};
    st = read_pieces(c, &w, buffer);
    if (st == STATUS_OK) zero_gaps(&w, params);
out:
    free(buffer);
    free(offset);
    free(sorted);
    return st;
}
