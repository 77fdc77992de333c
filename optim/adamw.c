#include "optim/optim.h"

#include <math.h>

#include "core/log.h"

bool optim_decays(const struct optim_options *o, enum param_kind kind)
{
    switch (kind) {
    case PARAM_MATRIX:
        return true;
    case PARAM_EMBEDDING:
        return o->decay_embeddings;
    case PARAM_NORM:
        return o->decay_norms;
    case PARAM_BIAS:
        return o->decay_biases;
    }
    return true;
}

/* The last parameter that begins at or before flat element `at`. */
static int param_at(const struct param_table *p, int64_t at)
{
    int low = 0, high = p->n_params; /* params[low].offset <= at < params[high].offset */
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (p->params[middle].offset <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* First flat element behind the run of neighbours that `first` begins and that all decay or
 * all do not.  A gap goes with the parameter before it: gradient, moments and weight are zero
 * there, so any update leaves zero. */
static int64_t run_end(const struct optim_options *o, const struct param_table *p,
                       int first)
{
    const bool decays = optim_decays(o, p->params[first].kind);
    int i = first + 1;
    while (i < p->n_params && optim_decays(o, p->params[i].kind) == decays) i++;
    return i < p->n_params ? p->params[i].offset : p->n_elements;
}

/* Elements [first, first + n) of r. */
static struct nn_adamw_range part(const struct nn_adamw_range *r, int64_t first,
                                  int64_t n)
{
    struct nn_adamw_range q = *r;
    q.w += first;
    q.m += first;
    q.v += first;
    q.grad += first;
    if (r->low) q.low = (char *)r->low + (size_t)first * dtype_bytes(r->low_type);
    q.start += first;
    q.n = n;
    return q;
}

/* Random bits of an element are numbered by its place in the whole model, so that all ranks that
 * hold it round it alike.  Cut q where the numbers stop being consecutive. */
static void number_bits(struct nn_adamw_range *q, const struct param_table *t)
{
    const int i = param_at(t, q->start);
    const struct param *p = &t->params[i];
    const int64_t local = q->start - p->offset;
    const int64_t next = i + 1 < t->n_params ? t->params[i + 1].offset : t->n_elements;
    int64_t end = next; /* of a gap, where any number serves */
    if (local < p->n) {
        const struct param_slice *s = p->slices;
        const int64_t C = p->local[1];
        while (local >= (s->local_row + s->rows) * C) s++;
        end = p->offset + (s->local_row + s->rows) * C;
        /* the columns of this rank come behind those of the ranks before it */
        const int64_t shift = (s->row - s->local_row) * C + s->col * p->shape[0];
        q->start = p->global_offset + shift + local;
        end += q->start - local - p->offset;
    }
    if (q->n > end - q->start) q->n = end - q->start;
}

void optim_adamw(struct nn *nn, const struct optim_options *o,
                 const struct param_table *p, const struct nn_adamw_range *r, int64_t t,
                 double lr, double grad_scale)
{
    CHECK(t >= 1 && r->start >= 0 && r->n >= 0 && r->n <= p->n_elements - r->start);
    struct nn_adamw step = {.lr = (float)lr,
                            .beta1 = (float)o->beta1,
                            .beta2 = (float)o->beta2,
                            .eps = (float)o->eps,
                            .c1 = (float)(1 - pow(o->beta1, (double)t)),
                            .c2 = (float)(1 - pow(o->beta2, (double)t)),
                            .grad_scale = (float)grad_scale};
    for (int64_t done = 0; done < r->n;) {
        const int i = param_at(p, r->start + done);
        const bool decays = optim_decays(o, p->params[i].kind);
        const int64_t end = run_end(o, p, i) - r->start;
        struct nn_adamw_range q = part(r, done, (end < r->n ? end : r->n) - done);
        if (r->rounding == NN_ROUND_STOCHASTIC) number_bits(&q, p);
        step.weight_decay = decays ? (float)o->weight_decay : 0;
        nn_adamw_update(nn, &q, &step);
        done += q.n;
    }
}
