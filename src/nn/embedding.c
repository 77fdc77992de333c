#include "nn/nn_impl.h"

/* An index past the table would read or write foreign memory, so it is looked for always. */
static void check_rows(const int32_t *rows, int64_t N, int64_t limit, const char *what)
{
    for (int64_t n = 0; n < N; n++)
        if (rows[n] < 0 || rows[n] >= limit)
            die("%s %d in row %lld, valid: 0 to %lld", what, rows[n], (long long)n,
                (long long)limit - 1);
}

void nn_embedding_fwd(struct nn *nn, struct tensor *y, const struct tensor *wte,
                      const struct tensor *wpe, const int32_t *tokens,
                      const int32_t *positions)
{
    const int64_t N = y->shape[0], C = y->shape[1];
    CHECK(nn_is_2d(y, N, C) && nn_is_2d(wte, wte->shape[0], C));
    CHECK(!wpe || nn_is_2d(wpe, wpe->shape[0], C));
    if (nn->measuring) return;
    check_rows(tokens, N, wte->shape[0], "token");
    if (wpe) check_rows(positions, N, wpe->shape[0], "position");
    nn->ops->embedding_fwd(nn->n_threads, y->data, wte->data, wpe ? wpe->data : NULL,
                           tokens, positions, N, C);
}

void nn_embedding_bwd(struct nn *nn, struct tensor *dwte, struct tensor *dwpe,
                      const struct tensor *dy, const int32_t *tokens,
                      const int32_t *positions)
{
    const int64_t N = dy->shape[0], C = dy->shape[1];
    CHECK(nn_is_2d(dy, N, C) && nn_is_2d(dwte, dwte->shape[0], C));
    CHECK(!dwpe || nn_is_2d(dwpe, dwpe->shape[0], C));
    if (nn->measuring) return;
    check_rows(tokens, N, dwte->shape[0], "token");
    if (dwpe) check_rows(positions, N, dwpe->shape[0], "position");
    nn->ops->embedding_bwd(nn->n_threads, dwte->data, dwpe ? dwpe->data : NULL, dy->data,
                           tokens, positions, N, C);
}
