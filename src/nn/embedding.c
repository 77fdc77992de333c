#include "nn/nn_impl.h"

/* An index past the table would read or write foreign memory, so it is looked for wherever the
 * host can look; the loader has looked at the rest. */
static void check_rows(const struct nn *nn, const int32_t *rows, int64_t N, int64_t limit,
                       const char *what)
{
    if (!device_is_host(nn->device)) return;
    for (int64_t n = 0; n < N; n++)
        if (rows[n] < 0 || rows[n] >= limit)
            die("%s %d in row %lld, valid: 0 to %lld", what, rows[n], (long long)n,
                (long long)limit - 1);
}

void nn_embedding_fwd(struct nn *nn, struct tensor *y, const struct tensor *wte,
                      const struct tensor *wpe, const int32_t *tokens,
                      const int32_t *positions, int64_t first_token)
{
    const int64_t N = y->shape[0], C = y->shape[1];
    const enum dtype t = y->dtype;
    CHECK(nn_is_2d(y, t, N, C) && nn_is_2d(wte, t, wte->shape[0], C));
    CHECK(!wpe || nn_is_2d(wpe, t, wpe->shape[0], C));
    if (nn->measuring) return;
    if (first_token < 0) check_rows(nn, tokens, N, wte->shape[0], "token");
    if (wpe) check_rows(nn, positions, N, wpe->shape[0], "position");
    nn_ops_for(nn, y)->embedding_fwd(nn, y, wte, wpe, tokens, positions, first_token);
}

void nn_embedding_bwd(struct nn *nn, struct tensor *dwte, struct tensor *dwpe,
                      const struct tensor *dy, const int32_t *tokens,
                      const int32_t *positions, int64_t first_token)
{
    const int64_t N = dy->shape[0], C = dy->shape[1];
    CHECK(dy->dtype <= DTYPE_F16);
    CHECK(nn_is_2d(dy, dy->dtype, N, C) && nn_is_2d(dwte, DTYPE_F32, dwte->shape[0], C));
    CHECK(!dwpe || nn_is_2d(dwpe, DTYPE_F32, dwpe->shape[0], C));
    if (!nn->measuring) {
        if (first_token < 0) check_rows(nn, tokens, N, dwte->shape[0], "token");
        if (dwpe) check_rows(nn, positions, N, dwpe->shape[0], "position");
    }
    nn_ops_for(nn, dy)->embedding_bwd(nn, dwte, dwpe, dy, tokens, positions, first_token);
}
