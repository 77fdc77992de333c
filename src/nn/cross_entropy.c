#include "nn/nn_impl.h"

static int64_t clamp(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* Rows of logits at a time, at most: `most_bytes` of them unless that is below 16 rows.  A function
 * of N, V and the kind of device, not of threads, so that the loss is not either.  Measured on a CPU,
 * 96 MiB and 1024 rows; an accelerator needs larger products to be busy. */
static int64_t most_rows(const struct nn *nn, int64_t N, int64_t V, enum dtype t)
{
    const bool host = device_is_host(nn->device);
    const int64_t most_bytes = (int64_t)(host ? 96 : 1024) << 20;
    const int64_t most =
        clamp(most_bytes / (V * (int64_t)dtype_bytes(t)), 16, host ? 1024 : 16384);
    return N < most ? N : most;
}

/* All chunks about equal, because a small last one is a slow matrix product. */
static int64_t chunk_rows(int64_t N, int64_t most)
{
    const int64_t chunks = (N + most - 1) / most;
    return (N + chunks - 1) / chunks;
}

/* Numbers from one row of logits to the next.  An accelerator reads 16 bytes at a time, and its
 * matrix products are several times slower where rows begin in between: 50257 is odd. */
static int64_t row_width(const struct nn *nn, int64_t V)
{
    return device_is_host(nn->device) ? V : (V + 63) / 64 * 64;
}

/* Logits of V tokens become losses and gradients. */
static void softmax(struct nn *nn, struct nn_loss *loss, struct tensor *logits, int64_t V,
                    const struct nn_loss_rows *rows, float *stats,
                    const struct nn_vocab_slice *slice)
{
    if (!slice) {
        nn_ops_for(nn, logits)->softmax_loss(nn, loss, logits, V, rows);
        return;
    }
    const int64_t n = logits->shape[0];
    nn_ops_for(nn, logits)
        ->softmax_stats(nn, stats + slice->index * n * 3, logits, V, rows->targets,
                        slice);
    slice->gather(slice->context, stats, n);
    nn_ops_for(nn, logits)->softmax_part(nn, loss, logits, V, rows, stats, slice);
}

int64_t nn_cross_entropy_rows(const struct nn *nn, int64_t N, int64_t V, enum dtype t)
{
    return chunk_rows(N, most_rows(nn, N, V, t));
}

void nn_cross_entropy(struct nn *nn, struct nn_loss *loss, float *row_loss,
                      struct tensor *dx, struct tensor *dw, const struct tensor *x,
                      const struct tensor *w, const int32_t *targets,
                      float gradient_scale, float z_loss,
                      const struct nn_vocab_slice *slice)
{
    const enum dtype t = x->dtype;
    CHECK(x->n_dims == 2 && w->n_dims == 2 && x->shape[1] == w->shape[1]);
    CHECK(w->dtype == t && !dx == !dw);
    const int64_t N = x->shape[0], C = x->shape[1], V = w->shape[0];
    CHECK(N > 0 && V > 0 && V <= INT32_MAX);
    CHECK(!dx || (nn_is_2d(dx, t, N, C) && nn_is_2d(dw, DTYPE_F32, V, C)));
    CHECK(!dx || gradient_scale > 0);
    CHECK(z_loss >= 0);

    /* all parts are cut into the same chunks, because they meet in each */
    const int64_t part =
        slice ? (slice->vocab_size + slice->count - 1) / slice->count : V;
    const int64_t room = most_rows(nn, N, part, t), most = chunk_rows(N, room);
    const int64_t width = row_width(nn, V);
    const size_t mark = arena_mark(&nn->scratch);
    void *logits = arena_alloc(&nn->scratch, (size_t)(room * width) * dtype_bytes(t));
    float *losses = arena_floats(&nn->scratch, room);
    float *squares = z_loss > 0 ? arena_floats(&nn->scratch, room) : NULL;
    float *stats = slice ? arena_floats(&nn->scratch, slice->count * room * 3) : NULL;
    for (int64_t n = 0; n < N; n += most) {
        const int64_t rows = clamp(N - n, 0, most);
        struct tensor lc = tensor_2d(logits, t, rows, width);
        const struct tensor xc = tensor_rows(x, n, rows);
        nn_ops_for(nn, x)->matmul(nn, &lc, &xc, false, w, true, NN_ASSIGN);
        const struct nn_loss_rows lr = {.targets = targets + n,
                                        .loss = row_loss ? row_loss + n : losses,
                                        .square = squares,
                                        .gradient_scale = dx ? gradient_scale : 0,
                                        .z_loss = z_loss};
        if (!nn->measuring) softmax(nn, loss, &lc, V, &lr, stats, slice);
        if (dx) {
            struct tensor dxc = tensor_rows(dx, n, rows);
            nn_ops_for(nn, x)->matmul(nn, &dxc, &lc, false, w, false, NN_ASSIGN);
            nn_ops_for(nn, x)->matmul(nn, dw, &lc, true, &xc, false, NN_ACCUM);
        }
        if (nn->measuring) break; /* the first chunk is the largest */
    }
    arena_rewind(&nn->scratch, mark);
}
