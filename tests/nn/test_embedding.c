/* Embedding against plain loops in double; tokens repeat, so that sums over rows meet. */
#include "each_nn.h"

static const int64_t rows[] = {1, 5, 33, 200}, cols[] = {1, 7, 129, 768};
enum { V = 13, P = 50 };

#define EACH_SHAPE(N, C)                                                                 \
    for (int i_ = 0; i_ < 16; i_++)                                                      \
        for (int64_t N = rows[i_ / 4], C = cols[i_ % 4], once_ = 1; once_; once_ = 0)

static int32_t *indices(int64_t N, int64_t step, int64_t limit)
{
    int32_t *x = test_alloc((size_t)N * sizeof *x);
    for (int64_t n = 0; n < N; n++)
        x[n] = (int32_t)((n * n + step * n + limit - 1) % limit);
    return x;
}

static void forward(struct nn *nn, void *arg)
{
    const bool learned = *(const bool *)arg;
    EACH_SHAPE(N, C)
    {
        const struct tensor wte = randn_2d(1, V, C), wpe = randn_2d(2, P, C);
        struct tensor y = randn_2d(3, N, C), want = randn_2d(4, N, C);
        const int32_t *tokens = indices(N, 3, V), *positions = indices(N, 1, P);
        for (int64_t i = 0; i < N * C; i++) {
            const int64_t n = i / C, c = i % C;
            const float position = tensor_f32(&wpe)[positions[n] * C + c];
            tensor_f32(&want)[i] =
                tensor_f32(&wte)[tokens[n] * C + c] + (learned ? position : 0);
        }
        nn_embedding_fwd(nn, &y, &wte, learned ? &wpe : NULL, tokens,
                         learned ? positions : NULL);
        assert_true(same_bits(&y, &want));
    }
}

TEST(embedding_fwd_adds_token_and_position)
{
    bool learned = true;
    each_nn(forward, &learned);
}

TEST(embedding_fwd_without_positions_copies_the_token)
{
    bool learned = false;
    each_nn(forward, &learned);
}

static void add_rows(struct tensor *dw, const struct tensor *dy, const int32_t *index)
{
    const int64_t C = dw->shape[1], count = tensor_elements(dw);
    double *sum = test_alloc((size_t)count * sizeof *sum);
    for (int64_t i = 0; i < count; i++) sum[i] = (double)tensor_f32(dw)[i];
    for (int64_t i = 0; i < tensor_elements(dy); i++)
        sum[index[i / C] * C + i % C] += (double)tensor_f32(dy)[i];
    for (int64_t i = 0; i < count; i++) tensor_f32(dw)[i] = (float)sum[i];
}

static void backward(struct nn *nn, void *arg)
{
    const bool learned = *(const bool *)arg;
    EACH_SHAPE(N, C)
    {
        const struct tensor dy = randn_2d(1, N, C);
        struct tensor dwte = randn_2d(2, V, C), dwpe = randn_2d(3, P, C);
        struct tensor want_te = copy_of(&dwte), want_pe = copy_of(&dwpe);
        const int32_t *tokens = indices(N, 3, V), *positions = indices(N, 1, P);
        add_rows(&want_te, &dy, tokens);
        if (learned) add_rows(&want_pe, &dy, positions);
        nn_embedding_bwd(nn, &dwte, learned ? &dwpe : NULL, &dy, tokens,
                         learned ? positions : NULL);
        CHECK_CLOSE(&dwte, &want_te, 1e-12);
        CHECK_CLOSE(&dwpe, &want_pe, 1e-12);
    }
}

TEST(embedding_bwd_adds_each_row_to_its_token_and_position)
{
    bool learned = true;
    each_nn(backward, &learned);
}

TEST(embedding_bwd_without_positions_adds_to_tokens_alone)
{
    bool learned = false;
    each_nn(backward, &learned);
}

static void same_as_first(struct nn *nn, void *arg)
{
    struct tensor *first = arg;
    const struct tensor dy = randn_2d(1, 200, 129);
    struct tensor dwte = randn_2d(2, V, 129);
    nn_embedding_bwd(nn, &dwte, NULL, &dy, indices(200, 3, V), NULL);
    if (!first->data) *first = copy_of(&dwte);
    assert_true(same_bits(&dwte, first));
}

TEST(embedding_bwd_does_not_depend_on_threads_or_instruction_set)
{
    struct tensor first = {0};
    each_nn(same_as_first, &first);
}
