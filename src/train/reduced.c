#include "train/reduced.h"

void reduced_add_squares(struct trainer *t, int64_t low, int64_t high)
{
    int k = 0; /* span of what this rank answers for */
    for (int64_t i = 0; i < zero_n_owned(t->zero); i++) {
        const struct zero_range r = zero_owned(t->zero, i);
        const int64_t start = r.start > low ? r.start : low;
        const int64_t end = r.start + r.count < high ? r.start + r.count : high;
        if (start >= end) continue;
        while (k < t->params.n_owned && t->params.owned[k].high <= start) k++;
        for (int j = k; j < t->params.n_owned && t->params.owned[j].low < end; j++) {
            const struct param_span *s = &t->params.owned[j];
            const int64_t first = s->low > start ? s->low : start;
            const int64_t last = s->high < end ? s->high : end;
            nn_sum_squares(t->nn, &t->inputs.sums->squares, trainer_gradient(t, first),
                           last - first);
        }
    }
}

/* Gradients of flat elements [low, high) that this rank does not update are zero again: the sums
 * are with those who do.  The update zeroes the others. */
static void clear_others(struct trainer *t, int64_t low, int64_t high)
{
    for (int64_t i = 0; i <= zero_n_ranges(t->zero) && low < high; i++) {
        const bool behind = i == zero_n_ranges(t->zero);
        const struct zero_range r =
            behind ? (struct zero_range){.start = high} : zero_range(t->zero, i);
        const int64_t end = r.start < high ? r.start : high;
        if (end > low)
            device_zero(t->device, t->grads + low,
                        (size_t)(end - low) * sizeof *t->grads);
        if (r.start + r.count > low) low = r.start + r.count;
    }
}

void reduced_take(void *context, int64_t low, int64_t high)
{
    reduced_add_squares(context, low, high);
    clear_others(context, low, high);
}
