/* @devices cpu cuda    @amx
 * Embedding against plain loops in double; tokens repeat, so that sums over rows meet. */
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

static void forward(const struct setting *s, void *arg)
{
    const bool learned = *(const bool *)arg;
    EACH_SHAPE(N, C)
    {
        const struct tensor wte = rounded(randn_2d(1, V, C), s->t);
        const struct tensor wpe = rounded(randn_2d(2, P, C), s->t);
        const struct tensor dev_wte = sent(s, &wte), dev_wpe = sent(s, &wpe);
        const int32_t *tokens = indices(N, 3, V), *positions = indices(N, 1, P);
        struct tensor y = dirty(s, N, C);
        nn_embedding_fwd(s->nn, &y, &dev_wte, learned ? &dev_wpe : NULL,
                         ints_on_device(s->dev, tokens, N),
                         learned ? ints_on_device(s->dev, positions, N) : NULL,
                         NN_ALL_TOKENS);
        if (nn_is_measuring(s->nn)) continue;
        struct tensor want = randn_2d(4, N, C);
        for (int64_t i = 0; i < N * C; i++) {
            const int64_t n = i / C, c = i % C;
            const float position = tensor_f32(&wpe)[positions[n] * C + c];
            tensor_f32(&want)[i] =
                tensor_f32(&wte)[tokens[n] * C + c] + (learned ? position : 0);
        }
        check_exact(s, "embedding", &y, &want);
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

static double *with_rows_added(const struct tensor *dw, const struct tensor *dy,
                               const int32_t *index)
{
    const int64_t C = dw->shape[1];
    double *sum = in_double(dw);
    for (int64_t i = 0; i < tensor_elements(dy); i++)
        sum[index[i / C] * C + i % C] += (double)tensor_f32(dy)[i];
    return sum;
}

static void backward_case(const struct setting *s, bool learned, int64_t N, int64_t C)
{
    const struct tensor dy = rounded(randn_2d(1, N, C), s->t), dev_dy = sent(s, &dy);
    const struct tensor te = randn_2d(2, V, C), pe = randn_2d(3, P, C);
    const int32_t *tokens = indices(N, 3, V), *positions = indices(N, 1, P);
    struct tensor dwte[2], dwpe[2];
    for (int i = 0; i < 2; i++) {
        dwte[i] = sent_f32(s, &te), dwpe[i] = sent_f32(s, &pe);
        nn_embedding_bwd(s->nn, &dwte[i], learned ? &dwpe[i] : NULL, &dev_dy,
                         ints_on_device(s->dev, tokens, N),
                         learned ? ints_on_device(s->dev, positions, N) : NULL,
                         NN_ALL_TOKENS);
    }
    if (nn_is_measuring(s->nn)) return;
    check_near(s, "dwte", &dwte[0], with_rows_added(&te, &dy, tokens), 1e-12);
    if (learned)
        check_near(s, "dwpe", &dwpe[0], with_rows_added(&pe, &dy, positions), 1e-12);
    else
        check_exact(s, "dwpe", &dwpe[0], &pe);
    check_same_bits(s, "dwte", &dwte[0], &dwte[1]);
    check_same_bits(s, "dwpe", &dwpe[0], &dwpe[1]);
}

static void backward(const struct setting *s, void *arg)
{
    EACH_SHAPE(N, C) backward_case(s, *(const bool *)arg, N, C);
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

static void same_as_first(const struct setting *s, void *arg)
{
    struct tensor *first = arg;
    const struct tensor dy = randn_2d(1, 200, 129);
    struct tensor dwte = randn_2d(2, V, 129);
    nn_embedding_bwd(s->nn, &dwte, NULL, &dy, indices(200, 3, V), NULL, NN_ALL_TOKENS);
    if (nn_is_measuring(s->nn)) return;
    if (!first->data) *first = copied(&dwte);
    check_same_bits(s, "dwte", &dwte, first);
}

TEST(embedding_bwd_on_the_cpu_does_not_depend_on_threads_or_instruction_set)
{
    struct tensor first = {0};
    each_cpu_nn(DTYPE_F32, same_as_first, &first);
}

/* ---- a table in parts ------------------------------------------------------------------------ */

static const int64_t part_at[] = {0, 5, 9, V};

static void parts(const struct setting *s, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, C)
    {
        const struct tensor wte = rounded(randn_2d(1, V, C), s->t),
                            te = randn_2d(2, V, C);
        const struct tensor dy = rounded(randn_2d(3, N, C), s->t), dev_dy = sent(s, &dy);
        const int32_t *tokens = indices(N, 3, V);
        const int32_t *on_device = ints_on_device(s->dev, tokens, N);
        const double *want = with_rows_added(&te, &dy, tokens);
        for (int i = 0; i < 3; i++) {
            const int64_t first = part_at[i], n = part_at[i + 1] - first;
            const struct tensor w = tensor_rows(&wte, first, n);
            const struct tensor before = tensor_rows(&te, first, n);
            const struct tensor dev_w = sent(s, &w);
            struct tensor y = dirty(s, N, C), dw = sent_f32(s, &before);
            nn_embedding_fwd(s->nn, &y, &dev_w, NULL, on_device, NULL, first);
            nn_embedding_bwd(s->nn, &dw, NULL, &dev_dy, on_device, NULL, first);
            if (nn_is_measuring(s->nn)) continue;
            check_near(s, "dwte", &dw, want + first * C, 1e-12);
            const struct tensor got = to_host(s->dev, &y);
            for (int64_t k = 0; k < N * C; k++) {
                const int64_t row = tokens[k / C] - first;
                const bool here = row >= 0 && row < n;
                const float x = here ? tensor_f32(&w)[row * C + k % C] : 0;
                assert_true(tensor_f32(&got)[k] == x);
            }
        }
    }
}

TEST(parts_of_a_table_know_their_own_tokens_alone)
{
    each_nn(parts, NULL);
}
