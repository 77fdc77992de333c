#include "nn/nn_impl.h"

static int64_t clamp(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* Rows of logits at a time: at most 96 MiB of them unless that is below 16 rows, at most 1024
 * rows, and all chunks about equal, because a small last one is a slow matrix product.  A
 * function of N and V, not of threads, so that the loss is not either. */
static int64_t chunk_rows(int64_t N, int64_t V)
{
    const int64_t most =
        clamp(((int64_t)96 << 20) / (V * (int64_t)sizeof(float)), 16, 1024);
    const int64_t chunks = (N + most - 1) / most;
    return (N + chunks - 1) / chunks;
}

struct chunk {
    struct tensor logits; /* [rows, V], then their gradient */
    float *row_loss;      /* [rows] */
};

static void chunk_forward(struct nn *nn, struct nn_loss *loss, const struct chunk *c,
                          const int32_t *targets, bool gradient)
{
    const int64_t rows = c->logits.shape[0];
    nn->ops->softmax_loss(nn->n_threads, tensor_f32(&c->logits), c->row_loss, targets,
                          rows, c->logits.shape[1], gradient);
    for (int64_t n = 0; n < rows; n++) {
        loss->sum += (double)c->row_loss[n];
        loss->n_targets += targets[n] >= 0;
    }
}

void nn_cross_entropy(struct nn *nn, struct nn_loss *loss, float *row_loss,
                      struct tensor *dx, struct tensor *dw, const struct tensor *x,
                      const struct tensor *w, const int32_t *targets)
{
    CHECK(x->n_dims == 2 && w->n_dims == 2 && x->shape[1] == w->shape[1]);
    CHECK(!dx == !dw);
    const int64_t N = x->shape[0], V = w->shape[0];
    CHECK(N > 0 && V > 0 && V <= INT32_MAX);
    if (dx) {
        CHECK(dx->n_dims == 2 && dx->shape[0] == N && dx->shape[1] == x->shape[1]);
        CHECK(dw->n_dims == 2 && dw->shape[0] == V && dw->shape[1] == x->shape[1]);
    }

    const int64_t most = chunk_rows(N, V);
    const size_t mark = arena_mark(&nn->scratch);
    float *logits = arena_floats(&nn->scratch, most * V);
    float *losses = arena_floats(&nn->scratch, most);
    for (int64_t n = 0; n < N && !nn->measuring; n += most) {
        const int64_t rows = clamp(N - n, 0, most);
        struct chunk c = {.logits = tensor_2d(logits, DTYPE_F32, rows, V),
                          .row_loss = row_loss ? row_loss + n : losses};
        const struct tensor xc = tensor_rows(x, n, rows);
        nn_matmul_nt(nn, &c.logits, &xc, w, NN_ASSIGN);
        chunk_forward(nn, loss, &c, targets + n, dx != NULL);
        if (!dx) continue;
        struct tensor dxc = tensor_rows(dx, n, rows);
        nn_matmul_nn(nn, &dxc, &c.logits, w, NN_ASSIGN);
        nn_matmul_tn(nn, dw, &c.logits, &xc, NN_ACCUM);
    }
    arena_rewind(&nn->scratch, mark);
}
