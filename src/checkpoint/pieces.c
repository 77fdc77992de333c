#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>

#include "core/log.h"

const char *const checkpoint_kind_name[CHECKPOINT_KINDS] = {"master", "exp_avg",
                                                            "exp_avg_sq"};
const char *const ckpt_group[CKPT_KINDS] = {"/model", "/optimizer/exp_avg",
                                            "/optimizer/exp_avg_sq"};

struct cutter {
    struct ckpt_part *parts; /* NULL while counting */
    int64_t n, shard, offset;
};

/* Rows [row, row + rows) and columns from `col` on of the local tensor, which lie one behind the
 * other in the range from `skip` on; what other ranks answer for is left out. */
static void put_rectangle(struct cutter *c, const struct param *p,
                          const struct ckpt_piece *local,
                          const struct checkpoint_range *r, int64_t skip)
{
    for (int k = 0; k < p->n_slices; k++) {
        const struct param_slice *s = &p->slices[k];
        const int64_t end = local->row + local->rows, slice_end = s->local_row + s->rows;
        const int64_t low = local->row > s->local_row ? local->row : s->local_row;
        const int64_t high = end < slice_end ? end : slice_end;
        if (!s->owned || low >= high) continue;
        const int64_t at = skip + (low - local->row) * local->cols;
        const struct ckpt_piece q = {.param = p->index,
                                     .row = s->row + low - s->local_row,
                                     .col = s->col + local->col,
                                     .rows = high - low,
                                     .cols = local->cols,
                                     .shard = c->shard,
                                     .offset = c->offset};
        if (c->parts)
            c->parts[c->n] = (struct ckpt_part){
                .piece = q,
                .data = {r->master + at, r->exp_avg + at, r->exp_avg_sq + at}};
        c->n++;
        c->offset += ckpt_elements(&q);
    }
}

/* Local elements [from, to) of a parameter; `skip` is where `from` lies in the range. */
static void cut_param(struct cutter *c, const struct param *p, int64_t from, int64_t to,
                      const struct checkpoint_range *r, int64_t skip)
{
    const int64_t C = p->local[1];
    while (from < to) {
        struct ckpt_piece q = {.row = from / C, .col = from % C};
        const bool part_of_row = q.col != 0 || to - from < C;
        q.rows = part_of_row ? 1 : (to - from) / C;
        q.cols = part_of_row && to - from < C - q.col ? to - from : C - q.col;
        put_rectangle(c, p, &q, r, skip);
        from += ckpt_elements(&q);
        skip += ckpt_elements(&q);
    }
}

static void cut_all(struct cutter *c, const struct param_table *params,
                    const struct checkpoint_range *ranges, int n_ranges)
{
    for (int k = 0; k < n_ranges; k++) {
        const struct checkpoint_range *r = &ranges[k];
        for (int i = 0; i < params->n_params; i++) {
            const struct param *p = &params->params[i];
            const int64_t end = r->start + r->count;
            const int64_t from = r->start > p->offset ? r->start : p->offset;
            const int64_t to = end < p->offset + p->n ? end : p->offset + p->n;
            if (from < to)
                cut_param(c, p, from - p->offset, to - p->offset, r, from - r->start);
        }
    }
}

status_t ckpt_cut(const struct param_table *params, const struct checkpoint_range *ranges,
                  int n_ranges, int64_t shard, struct ckpt_part **parts, int64_t *n_parts)
{
    *parts = NULL;
    *n_parts = 0;
    for (int k = 0; k < n_ranges; k++) {
        const struct checkpoint_range *r = &ranges[k];
        if (r->start < 0 || r->count < 0 || r->count > params->n_elements - r->start)
            return status_set(
                STATUS_INTERNAL,
                "checkpoint range %d: [%lld, +%lld) leaves the buffer of %lld "
                "elements",
                k, (long long)r->start, (long long)r->count,
                (long long)params->n_elements);
        CHECK(r->count == 0 || (r->master && r->exp_avg && r->exp_avg_sq));
    }
    struct cutter c = {.shard = shard};
    cut_all(&c, params, ranges, n_ranges);
    struct ckpt_part *out = malloc((size_t)(c.n + 1) * sizeof *out);
    if (!out)
        return status_set(STATUS_NOMEM, "no memory for %lld pieces", (long long)c.n);
    c = (struct cutter){.shard = shard, .parts = out};
    cut_all(&c, params, ranges, n_ranges);
    *parts = out;
    *n_parts = c.n;
    return STATUS_OK;
}
