/* Gradients of which several tensor-parallel ranks have a part each: of what every rank has a copy
 * of (norms, biases behind row-parallel layers, positions), when each has seen only its own rows;
 * and of kv heads whose query heads are on several ranks. */
#include <stdlib.h>

#include "model/model_impl.h"

/* kv heads that several ranks hold; *shared[i] = its number here or -1.  NULL: only count. */
static int list_shared(const struct arch *a, int tp_rank, int tp_size, int64_t *shared)
{
    const struct shard_widths w = shard_widths(a, tp_rank, tp_size);
    int n = 0;
    for (int64_t j = 0; j < a->n_kv_heads; j++) {
        const int64_t here = j - w.first_kv_head;
        bool several;
        shard_kv_owner(a, tp_size, j, &several);
        if (!several) continue;
        if (shared) shared[n] = here >= 0 && here < w.kv_heads ? here : -1;
        n++;
    }
    return n;
}

status_t find_shared(struct model *m)
{
    m->n_shared = list_shared(&m->arch, m->shard.tp_rank, m->shard.tp_size, NULL);
    m->shared = calloc((size_t)m->n_shared + 1, sizeof *m->shared);
    if (!m->shared) return status_set(STATUS_NOMEM, "no memory for a model");
    list_shared(&m->arch, m->shard.tp_rank, m->shard.tp_size, m->shared);
    return STATUS_OK;
}

/* Of one block: weights, and biases and norms of keys where there are any. */
static int64_t shared_elements(const struct arch *a, int n_shared)
{
    const int64_t row = 2 * (a->hidden + (a->qkv_bias ? 1 : 0)) + (a->qk_norm ? 1 : 0);
    return n_shared * a->head_size * row;
}

int64_t model_replicated_elements(const struct arch *a, const struct param_table *t,
                                  int tp_size, bool sequence_parallel, int64_t max_rows)
{
    int64_t most = shared_elements(a, list_shared(a, 0, tp_size, NULL));
    if (a->qk_norm && most < 2 * max_rows) most = 2 * max_rows; /* qk_norm.c's sums */
    for (int u = 0; u < t->n_units && sequence_parallel; u++) {
        const int64_t n = t->replicated[u].high - t->replicated[u].low;
        if (n > most) most = n;
    }
    return tp_size > 1 ? most : 0;
}

/* Rows of the head's keys (values: v) in a gradient of qkv. */
static struct tensor head_rows(const struct model *m, const struct tensor *dqkv,
                               int64_t head, bool v)
{
    const struct shard_widths *w = &m->widths;
    const int64_t D = m->arch.head_size;
    const int64_t row = (w->heads + head + (v ? w->kv_heads : 0)) * D;
    struct tensor t = *dqkv;
    t.n_dims = 2; /* a bias is one column */
    t.shape[1] = dqkv->n_dims == 2 ? dqkv->shape[1] : 1;
    return tensor_rows(&t, row, D);
}

/* To (or from) one place behind the other in `sum`, heads that are not here being zero; keys, and
 * values if there are any. */
static float *move_heads(struct model *m, const struct tensor *dqkv, float *sum,
                         bool values, bool out)
{
    for (int i = 0; i < m->n_shared; i++)
        for (int v = 0; v < 1 + values; v++) {
            const int64_t cols = dqkv->n_dims == 2 ? dqkv->shape[1] : 1;
            struct tensor there = tensor_2d(sum, DTYPE_F32, m->arch.head_size, cols);
            sum += tensor_elements(&there);
            if (m->shared[i] < 0) continue;
            struct tensor here = head_rows(m, dqkv, m->shared[i], v);
            if (out)
                nn_copy_columns(m->nn, &there, 0, &here, 0, cols);
            else
                nn_copy_columns(m->nn, &here, 0, &there, 0, cols);
        }
    return sum;
}

static void move_shared(struct model *m, const struct block *b, float *sum, bool out)
{
    sum = move_heads(m, &b->qkv.dw, sum, true, out);
    if (b->qkv.b.n_dims) sum = move_heads(m, &b->qkv.db, sum, true, out);
    if (b->qk_norm.w.n_dims) move_heads(m, &b->qk_norm.dw, sum, false, out);
}

static void sum_shared_heads(struct model *m, struct block *b)
{
    const size_t mark = arena_mark(m->arena);
    const int64_t n = shared_elements(&m->arch, m->n_shared);
    float *sum = arena_floats(m->arena, n);
    if (sum) {
        device_zero(m->device, sum, (size_t)n * sizeof *sum);
        move_shared(m, b, sum, true);
        tp_sum(m->tp, sum, n);
        move_shared(m, b, sum, false);
    }
    arena_rewind(m->arena, mark);
}

void sum_replicated(struct model *m, int unit, struct block *b)
{
    const struct param_span *r = &m->params->replicated[unit];
    if (tp_size(m->tp) == 1) return;
    if (tp_is_sharded(m->tp) && m->unit_grads)
        tp_sum(m->tp, m->unit_grads[unit] + (r->low - m->params->unit[unit]),
               r->high - r->low);
    if (b && m->n_shared > 0) sum_shared_heads(m, b);
}
