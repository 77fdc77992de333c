#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>

status_t ckpt_order_init(struct ckpt_order *o, const struct ckpt_index *x)
{
    int64_t *first = calloc((size_t)x->n_params + 2, sizeof *first);
    int64_t *piece = calloc((size_t)x->n_pieces + 1, sizeof *piece);
    *o = (struct ckpt_order){first, piece};
    if (!first || !piece) {
        ckpt_order_release(o);
        return status_set(STATUS_NOMEM, "no memory for the index of a checkpoint");
    }
    /* a counting sort: first[i + 1] is where the next piece of parameter i goes, in the end where
     * those of the next parameter begin */
    for (int64_t j = 0; j < x->n_pieces; j++) first[x->pieces[j].param + 2]++;
    for (int64_t i = 0; i < x->n_params; i++) first[i + 2] += first[i + 1];
    for (int64_t j = 0; j < x->n_pieces; j++) piece[first[x->pieces[j].param + 1]++] = j;
    return STATUS_OK;
}

void ckpt_order_release(struct ckpt_order *o)
{
    free(o->first);
    free(o->piece);
    *o = (struct ckpt_order){0};
}
