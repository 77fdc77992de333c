/* What makes an index valid.  The pieces of a parameter cover it exactly once if and only if
 * their areas add up to its size and, of all their corners, those that occur an odd number of
 * times are the four corners of the parameter: the corners determine, modulo 2, how often each
 * element is covered, so each is covered an odd number of times, and with the right sum that
 * is once.  This takes one sort, whatever the shape of the pieces. */
#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5.h"

void ckpt_index_release(struct ckpt_index *x)
{
    free(x->params);
    free(x->pieces);
    free(x->shards);
    *x = (struct ckpt_index){0};
}

static status_t check_shards(const struct ckpt_index *x, const char *path, status_t bad)
{
    for (int64_t s = 0; s < x->n_shards; s++) {
        const struct ckpt_shard *h = &x->shards[s];
        uint64_t at = h->elements ? H5_BLOCK_BYTES : 0;
        bool ok = h->bytes >= at && h->bytes <= INT64_MAX && h->elements <= h->bytes / 4;
        for (int k = 0; ok && k < CKPT_KINDS; k++) {
            ok = h->elements ? h->offset[k] >= at && h->offset[k] <= h->bytes &&
                                   4 * h->elements <= h->bytes - h->offset[k]
                             : h->offset[k] == 0;
            at = h->offset[k] + 4 * h->elements;
        }
        if (!ok)
            return status_set(
                bad, "%s: the description of shard %" PRId64 " is impossible", path, s);
    }
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct ckpt_piece *p = a, *q = b;
    if (p->shard != q->shard) return p->shard < q->shard ? -1 : 1;
    return (p->offset > q->offset) - (p->offset < q->offset);
}

static status_t check_pieces(struct ckpt_index *x, const char *path, status_t bad)
{
    for (int64_t i = 0; i < x->n_pieces; i++) {
        const struct ckpt_piece *p = &x->pieces[i];
        bool ok = p->param >= 0 && p->param < x->n_params && p->shard >= 0 &&
                  p->shard < x->n_shards;
        if (ok) {
            const int64_t *shape = x->params[p->param].shape;
            ok = p->rows >= 1 && p->cols >= 1 && p->row >= 0 && p->col >= 0 &&
                 p->rows <= shape[0] && p->row <= shape[0] - p->rows &&
                 p->cols <= shape[1] && p->col <= shape[1] - p->cols;
        }
        if (!ok)
            return status_set(bad, "%s: piece %" PRId64 " of the index is impossible",
                              path, i);
    }
    qsort(x->pieces, (size_t)x->n_pieces, sizeof *x->pieces, by_place);
    int64_t next = 0;
    for (int64_t s = 0; s < x->n_shards; s++) {
        uint64_t filled = 0;
        for (; next < x->n_pieces && x->pieces[next].shard == s; next++) {
            const uint64_t n = (uint64_t)ckpt_elements(&x->pieces[next]);
            if (x->pieces[next].offset < 0 ||
                (uint64_t)x->pieces[next].offset != filled ||
                n > x->shards[s].elements - filled)
                break;
            filled += n;
        }
        if (filled != x->shards[s].elements ||
            (next < x->n_pieces && x->pieces[next].shard <= s))
            return status_set(
                bad, "%s: the pieces do not cover shard %" PRId64 " exactly once", path,
                s);
    }
    return STATUS_OK;
}

struct corner {
    int64_t param, place;
};

static int by_param(const void *a, const void *b)
{
    const struct corner *p = a, *q = b;
    if (p->param != q->param) return p->param < q->param ? -1 : 1;
    return (p->place > q->place) - (p->place < q->place);
}

/* Are the corners that occur an odd number of times those of the parameter?  `corners` are the
 * n of this parameter, sorted. */
static bool corners_fit(const struct corner *corners, int64_t n, const int64_t shape[2])
{
    const int64_t width = shape[1] + 1, last = shape[0] * width;
    const int64_t want[4] = {0, shape[1], last, last + shape[1]};
    int found = 0;
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && corners[j].place == corners[i].place; j++) {
        }
        if ((j - i) % 2 == 0) continue;
        if (found == 4 || corners[i].place != want[found]) return false;
        found++;
    }
    return found == 4;
}

static status_t check_cover(const struct ckpt_index *x, const char *path, status_t bad)
{
    struct corner *corners = malloc((size_t)x->n_pieces * 4 * sizeof *corners + 1);
    int64_t *left = malloc((size_t)x->n_params * sizeof *left + 1);
    status_t st = STATUS_OK;
    if (!corners || !left) {
        st = status_set(STATUS_NOMEM, "%s: no memory for the index", path);
        goto out;
    }
    for (int64_t i = 0; i < x->n_params; i++)
        left[i] = x->params[i].shape[0] * x->params[i].shape[1];
    for (int64_t i = 0; i < x->n_pieces; i++) {
        const struct ckpt_piece *p = &x->pieces[i];
        const int64_t width = x->params[p->param].shape[1] + 1;
        /* stops at the first excess, so that it cannot wrap round */
        if (left[p->param] >= 0) left[p->param] -= ckpt_elements(p);
        const int64_t top = p->row * width, bottom = (p->row + p->rows) * width;
        const int64_t places[4] = {top + p->col, top + p->col + p->cols, bottom + p->col,
                                   bottom + p->col + p->cols};
        for (int k = 0; k < 4; k++)
            corners[4 * i + k] = (struct corner){p->param, places[k]};
    }
    qsort(corners, (size_t)x->n_pieces * 4, sizeof *corners, by_param);
    int64_t next = 0;
    for (int64_t i = 0; i < x->n_params && st == STATUS_OK; i++) {
        const int64_t first = next;
        while (next < 4 * x->n_pieces && corners[next].param == i) next++;
        if (left[i] != 0 ||
            !corners_fit(corners + first, next - first, x->params[i].shape))
            st = status_set(bad, "%s: the pieces do not cover parameter %s exactly once",
                            path, x->params[i].name);
    }
out:
    free(left);
    free(corners);
    return st;
}

status_t ckpt_index_check(struct ckpt_index *x, const char *path, status_t bad)
{
    if (x->n_params > INT_MAX || x->n_shards > INT_MAX)
        return status_set(bad, "%s: has more than %d parameters or shards", path,
                          INT_MAX);
    TRY(ckpt_params_check(x->params, x->n_params, path, bad));
    TRY(check_shards(x, path, bad));
    TRY(check_pieces(x, path, bad));
    return check_cover(x, path, bad);
}
