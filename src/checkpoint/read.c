#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the caller wants: ranges by start, disjoint, none empty. */
struct wanted {
    const struct checkpoint_range *ranges;
    int n_ranges;
    const struct param *
        *params; /* this rank's, of each of the checkpoint; NULL: not here */
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

/* Elements of a global tensor: `rows` rows from `row` on, of columns [col, col + cols). */
struct rectangle {
    int64_t row, rows, col, cols;
};

/* What of it is in the slice: false if nothing. */
static bool meet(struct rectangle *r, const struct param *p, const struct param_slice *s)
{
    const int64_t row_end = r->row + r->rows, slice_rows = s->row + s->rows;
    const int64_t col_end = r->col + r->cols, slice_cols = s->col + p->local[1];
    const int64_t row = r->row > s->row ? r->row : s->row;
    const int64_t col = r->col > s->col ? r->col : s->col;
    *r = (struct rectangle){.row = row,
                            .rows = (row_end < slice_rows ? row_end : slice_rows) - row,
                            .col = col,
                            .cols = (col_end < slice_cols ? col_end : slice_cols) - col};
    return r->rows > 0 && r->cols > 0;
}

/* Where element (row, col) of the global tensor is in this rank's flat buffer. */
static int64_t flat(const struct param *p, const struct param_slice *s, int64_t row,
                    int64_t col)
{
    return p->offset + (s->local_row + row - s->row) * p->local[1] + col - s->col;
}

/* x: the rectangle `r`, row by row, to where this rank has it. */
static void place(const struct wanted *w, const struct param *p, int kind,
                  const struct rectangle *r, const float *x)
{
    for (int k = 0; k < p->n_slices; k++) {
        const struct param_slice *s = &p->slices[k];
        struct rectangle here = *r;
        if (!meet(&here, p, s)) continue;
        const float *from = x + (here.row - r->row) * r->cols + here.col - r->col;
        if (here.cols == r->cols && here.cols == p->local[1]) { /* full rows: one run */
            scatter(w, kind, flat(p, s, here.row, here.col), from, here.rows * here.cols);
            continue;
        }
        for (int64_t i = 0; i < here.rows; i++)
            scatter(w, kind, flat(p, s, here.row + i, here.col), from + i * r->cols,
                    here.cols);
    }
}

static void take(void *context, const struct ckpt_piece *p, int kind, int64_t first,
                 const float *x, int64_t n)
{
    const struct wanted *w = context;
    const struct param *param = w->params[p->param];
    while (n > 0) {
        const int64_t row = first / p->cols, col = first % p->cols;
        const bool whole_rows = col == 0 && n >= p->cols;
        const int64_t left = p->cols - col;
        const struct rectangle r = {.row = p->row + row,
                                    .rows = whole_rows ? n / p->cols : 1,
                                    .col = p->col + col,
                                    .cols = whole_rows ? p->cols
                                            : left < n ? left
                                                       : n};
        place(w, param, kind, &r, x);
        first += r.rows * r.cols;
        x += r.rows * r.cols;
        n -= r.rows * r.cols;
    }
}

/* Is something of flat elements [from, end) wanted of dataset `kind`? */
static bool span_is_wanted(const struct wanted *w, int64_t from, int64_t end, int kind)
{
    for (int k = first_behind(w, from); k < w->n_ranges && w->ranges[k].start < end; k++)
        if (target(&w->ranges[k], kind)) return true;
    return false;
}

static bool is_wanted(const struct wanted *w, const struct ckpt_piece *p, int kind)
{
    const struct param *param = w->params[p->param];
    for (int k = 0; param && k < param->n_slices; k++) {
        const struct param_slice *s = &param->slices[k];
        struct rectangle r = {p->row, p->rows, p->col, p->cols};
        if (!meet(&r, param, s)) continue;
        const int64_t last = flat(param, s, r.row + r.rows - 1, r.col + r.cols - 1);
        if (span_is_wanted(w, flat(param, s, r.row, r.col), last + 1, kind)) return true;
    }
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

status_t checkpoint_read(const struct checkpoint *c, const struct param_table *whole,
                         const struct param_table *local,
                         const struct checkpoint_range *ranges, int n_ranges)
{
    TRY(checkpoint_match(c, whole));
    struct checkpoint_range *sorted = malloc((size_t)n_ranges * sizeof *sorted + 1);
    const struct param **params = calloc((size_t)c->index.n_params + 1, sizeof *params);
    struct ckpt_name *names = calloc((size_t)local->n_params + 1, sizeof *names);
    float *buffer = malloc(CKPT_BUFFER * sizeof *buffer);
    status_t st = STATUS_OK;
    if (!sorted || !params || !names || !buffer) {
        st = status_set(STATUS_NOMEM, "%s: no memory for reading", c->path);
        goto out;
    }
    int n = 0;
    for (int k = 0; k < n_ranges; k++)
        if (ranges[k].count != 0) sorted[n++] = ranges[k];
    qsort(sorted, (size_t)n, sizeof *sorted, by_start);
    st = check_ranges(sorted, n, local);
    if (st != STATUS_OK) goto out;
    for (int i = 0; i < local->n_params; i++)
        names[i] = (struct ckpt_name){local->params[i].name, i};
    ckpt_names_sort(names, local->n_params);
    for (int64_t i = 0; i < c->index.n_params; i++) {
        const int here = ckpt_names_find(names, local->n_params, c->index.params[i].name);
        if (here >= 0) params[i] = &local->params[here];
    }
    struct wanted w = {.ranges = sorted, .n_ranges = n, .params = params};
    st = read_pieces(c, &w, buffer);
    if (st == STATUS_OK) zero_gaps(&w, local);
out:
    free(buffer);
    free(names);
    free(params);
    free(sorted);
    return st;
}
