#include "parallel/zero/zero.h"

#include <stdlib.h>

#include "core/log.h"

struct zero {
    bool sharded;
    struct zero_range all;    /* the whole buffer; its moments only if not sharded */
    struct zero_range *owned; /* [n_owned], in heap: bookkeeping, no tensors */
    int64_t n_owned;
};

enum comm_op zero_reduction(int stage)
{
    CHECK(stage >= 0 && stage <= 2);
    return stage == 0 ? COMM_ALL_REDUCE : COMM_REDUCE_SCATTER;
}

static float *zeroed(struct device *dev, struct arena *arena, int64_t n)
{
    float *x = arena_floats(arena, n);
    if (x) device_zero(dev, x, (size_t)n * sizeof *x);
    return x;
}

static float *at(float *x, int64_t i)
{
    return x ? x + i : NULL;
}

/* What this rank owns of bucket slice i, without the padding behind n_used. */
static struct zero_range owned_range(const struct dp *dp, int64_t i, int64_t n_used)
{
    struct zero_range r = {0};
    dp_owned(dp, i, &r.start, &r.count);
    const int64_t left = n_used > r.start ? n_used - r.start : 0;
    if (r.count > left) r.count = left;
    return r;
}

/* List the owned ranges; returns how many elements are in them. */
static int64_t find_owned(struct zero *z, const struct dp *dp, int64_t n_used)
{
    int64_t n_elements = 0;
    for (int64_t i = 0; i < dp_n_owned(dp); i++) {
        const struct zero_range r = owned_range(dp, i, n_used);
        if (r.count > 0) z->owned[z->n_owned++] = r;
        n_elements += r.count;
    }
    return n_elements;
}

status_t zero_create(struct zero **z, const struct dp *dp, struct device *dev,
                     void *params, enum dtype t, int64_t n_used, struct arena *arena)
{
    CHECK((params || !arena->base) && n_used >= 0 && n_used <= dp_n_elements(dp));
    *z = NULL;
    struct zero *made = calloc(1, sizeof *made);
    if (made) made->owned = calloc((size_t)dp_n_owned(dp) + 1, sizeof *made->owned);
    if (!made || !made->owned) {
        zero_destroy(&made);
        return status_set(STATUS_NOMEM, "no memory for the optimizer's list of ranges");
    }
    made->sharded = dp_op(dp) == COMM_REDUCE_SCATTER;
    const int64_t n_owned = find_owned(made, dp, n_used);
    const int64_t n = made->sharded ? n_owned : n_used;
    /* weights in fp32 are their own masters, at their own places */
    const bool own_masters = t != DTYPE_F32;
    float *master = own_masters ? zeroed(dev, arena, n) : params;
    float *exp_avg = zeroed(dev, arena, n), *exp_avg_sq = zeroed(dev, arena, n);
    made->all = (struct zero_range){.count = n_used, .master = master};
    if (!made->sharded) {
        made->all.exp_avg = exp_avg;
        made->all.exp_avg_sq = exp_avg_sq;
    }
    int64_t before = 0; /* owned elements of the ranges so far */
    for (int64_t i = 0; i < made->n_owned; i++) {
        struct zero_range *r = &made->owned[i];
        const int64_t offset = made->sharded ? before : r->start;
        r->master = at(master, own_masters ? offset : r->start);
        r->exp_avg = at(exp_avg, offset);
        r->exp_avg_sq = at(exp_avg_sq, offset);
        before += r->count;
    }
    *z = made;
    return STATUS_OK;
}

void zero_destroy(struct zero **z)
{
    if (!*z) return;
    free((*z)->owned);
    free(*z);
    *z = NULL;
}

int64_t zero_n_ranges(const struct zero *z)
{
    return z->sharded ? z->n_owned : 1;
}

struct zero_range zero_range(const struct zero *z, int64_t i)
{
    CHECK(i >= 0 && i < zero_n_ranges(z));
    return z->sharded ? z->owned[i] : z->all;
}

int64_t zero_n_owned(const struct zero *z)
{
    return z->n_owned;
}

struct zero_range zero_owned(const struct zero *z, int64_t i)
{
    CHECK(i >= 0 && i < z->n_owned);
    return z->owned[i];
}
