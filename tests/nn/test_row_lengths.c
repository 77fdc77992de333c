/* @devices cpu cuda    @timeout 120    @amx
 * Kernels take another way through rows that are long, many, or begin at odd addresses, and through
 * vocabularies of more than one digit; each way against plain loops in double. */
#include "each_nn.h"

static const double EPS = 1e-5;

/* A copy on the device that begins one number behind an aligned address. */
static struct tensor sent_odd(const struct setting *s, const struct tensor *host,
                              enum dtype t)
{
    const int64_t n = tensor_elements(host);
    struct tensor wide = randn_1d(90, n + 1), odd = *host;
    memcpy(tensor_f32(&wide) + 1, host->data, tensor_bytes(host));
    wide = on_device(s->dev, &wide, t);
    odd.data = (char *)wide.data + dtype_bytes(t);
    odd.dtype = t;
    return odd;
}

static struct tensor put(const struct setting *s, bool odd, const struct tensor *host,
                         enum dtype t)
{
    return odd ? sent_odd(s, host, t) : on_device(s->dev, host, t);
}

/* ---- norms ---------------------------------------------------------------------------------- */

struct norm_shape {
    bool center, odd;
    int64_t N, C;
};

/* What one layer gives: numbers of the host, then in double what must come out. */
struct norm_numbers {
    struct tensor x, w, b, dy, dx, dw, db;
    double *want_y, *want_dx, *want_dw, *want_db;
};

static void expect_row(const struct norm_shape *k, struct norm_numbers *v, int64_t n)
{
    const int64_t C = k->C;
    const float *x = tensor_f32(&v->x) + n * C, *dy = tensor_f32(&v->dy) + n * C;
    const float *w = tensor_f32(&v->w), *b = tensor_f32(&v->b);
    double mean = 0, squares = 0, mean_g = 0, mean_gx = 0;
    for (int64_t c = 0; k->center && c < C; c++) mean += (double)x[c] / (double)C;
    for (int64_t c = 0; c < C; c++) squares += pow((double)x[c] - mean, 2);
    const double rstd = 1 / sqrt(squares / (double)C + EPS);
    for (int64_t c = 0; c < C; c++) {
        const double g = (double)dy[c] * (double)w[c],
                     xhat = ((double)x[c] - mean) * rstd;
        if (k->center) mean_g += g / (double)C;
        mean_gx += g * xhat / (double)C;
        v->want_y[n * C + c] = xhat * (double)w[c] + (k->center ? (double)b[c] : 0);
        v->want_dw[c] += (double)dy[c] * xhat;
        if (k->center) v->want_db[c] += (double)dy[c];
    }
    for (int64_t c = 0; c < C; c++) {
        const double g = (double)dy[c] * (double)w[c],
                     xhat = ((double)x[c] - mean) * rstd;
        v->want_dx[n * C + c] += rstd * (g - mean_g - xhat * mean_gx);
    }
}

static struct norm_numbers make(const struct norm_shape *k, enum dtype t)
{
    struct norm_numbers v = {.x = rounded(randn_2d(1, k->N, k->C), t),
                             .dy = rounded(randn_2d(2, k->N, k->C), t),
                             .dx = rounded(randn_2d(3, k->N, k->C), t),
                             .w = rounded(randn_1d(4, k->C), t),
                             .b = rounded(randn_1d(5, k->C), t),
                             .dw = randn_1d(6, k->C),
                             .db = randn_1d(7, k->C)};
    v.want_y = in_double(&v.x), v.want_dx = in_double(&v.dx);
    v.want_dw = in_double(&v.dw), v.want_db = in_double(&v.db);
    for (int64_t n = 0; n < k->N; n++) expect_row(k, &v, n);
    return v;
}

static void norm(const struct setting *s, void *arg)
{
    const struct norm_shape *k = arg;
    struct norm_numbers v = make(k, s->t);
    struct tensor x = put(s, k->odd, &v.x, s->t), dy = put(s, k->odd, &v.dy, s->t);
    struct tensor w = put(s, k->odd, &v.w, s->t), b = put(s, k->odd, &v.b, s->t);
    struct tensor y = put(s, k->odd, &v.dy, s->t), dx = put(s, k->odd, &v.dx, s->t);
    struct tensor dw = sent_f32(s, &v.dw), db = sent_f32(s, &v.db);
    struct tensor stats = dirty_f32(s, k->N, 2), rstd = stats;
    rstd.n_dims = 1;
    struct nn_norm p = {.eps = (float)EPS, .w = &w, .dw = &dw};
    if (k->center) {
        p.b = &b, p.db = &db;
        nn_layernorm_fwd(s->nn, &y, &stats, &x, NULL, &p);
        nn_layernorm_bwd(s->nn, &dx, &dy, &x, &stats, &p, NN_ACCUM);
    } else {
        nn_rmsnorm_fwd(s->nn, &y, &rstd, &x, NULL, &p);
        nn_rmsnorm_bwd(s->nn, &dx, &dy, &x, &rstd, &p, NN_ACCUM);
    }
    if (nn_is_measuring(s->nn)) return;
    check_near(s, "y", &y, v.want_y, 1e-12);
    check_near(s, "dx", &dx, v.want_dx, 1e-12);
    check_near(s, "dw", &dw, v.want_dw, 1e-11); /* the CPU adds 500 rows one by one */
    check_near(s, "db", &db, v.want_db, 1e-11);
}

static void both_norms(int64_t N, int64_t C, bool odd)
{
    for (int center = 0; center < 2; center++) {
        struct norm_shape k = {.center = center, .odd = odd, .N = N, .C = C};
        each_nn(norm, &k);
    }
}

TEST(norms_take_rows_of_any_length)
{
    static const int64_t lengths[] = {24, 776, 1032, 2056, 8200, 16400};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        both_norms(3, lengths[i], false);
}

TEST(norms_sum_the_gradients_of_many_rows)
{
    both_norms(1701, 16, false); /* more than there are warps */
    both_norms(601, 776, false);
}

TEST(norms_take_rows_at_odd_addresses)
{
    both_norms(5, 768, true);
}

/* ---- bias ----------------------------------------------------------------------------------- */

static void bias(const struct setting *s, void *arg)
{
    const bool odd = *(const bool *)arg;
    const int64_t N = 1501, O = 264;
    const struct tensor x = rounded(randn_2d(1, N, O), s->t), db0 = randn_1d(2, O);
    const struct tensor b0 = rounded(randn_1d(3, O), s->t);
    const struct tensor dy = put(s, odd, &x, s->t), b = put(s, odd, &b0, s->t);
    struct tensor db = sent_f32(s, &db0), y = put(s, odd, &x, s->t);
    nn_bias_bwd(s->nn, &db, &dy);
    nn_bias_add(s->nn, &y, &y, &b);
    if (nn_is_measuring(s->nn)) return;
    double *want_db = in_double(&db0), *want_y = in_double(&x);
    for (int64_t i = 0; i < N * O; i++) {
        want_db[i % O] += (double)tensor_f32(&x)[i];
        want_y[i] += (double)tensor_f32(&b0)[i % O];
    }
    check_near(s, "db", &db, want_db, 1e-12);
    check_near(s, "y", &y, want_y, 1e-12);
}

TEST(bias_of_many_rows)
{
    bool odd = false;
    each_nn(bias, &odd);
    odd = true;
    each_nn(bias, &odd);
}

/* ---- activations and rotary positions at odd addresses ---------------------------------------- */

static void same_at_odd_addresses(const struct setting *s, void *arg)
{
    (void)arg;
    const int64_t N = 3, F = 64;
    const struct tensor gu = rounded(randn_2d(1, N, 2 * F), s->t);
    const struct tensor dy0 = rounded(randn_2d(2, N, F), s->t);
    float *table = test_alloc((size_t)(N * 16 * 2) * sizeof *table);
    double frequencies[16];
    nn_rope_frequencies(frequencies, 16, 10000);
    nn_rope_table(table, N, 16, frequencies, 1);
    const int32_t positions[] = {2, 0, 1};
    const struct nn_rope r = {
        .n_heads = 3,
        .head_size = 40,
        .half = 16,
        .n_positions = N,
        .table = bytes_on_device(s->dev, table, (size_t)(N * 16 * 2) * sizeof *table),
        .positions = ints_on_device(s->dev, positions, N)};
    enum { N_OUT = 8 };
    struct tensor out[2][N_OUT];
    for (int odd = 0; odd < 2; odd++) {
        const struct tensor x = put(s, odd, &gu, s->t), dy = put(s, odd, &dy0, s->t);
        for (int i = 0; i < N_OUT; i++)
            out[odd][i] = put(s, odd, i % 2 ? &gu : &dy0, s->t);
        nn_gelu_fwd(s->nn, &out[odd][0], &dy);
        nn_gelu_fwd(s->nn, &out[odd][1], &x);
        nn_gelu_bwd(s->nn, &out[odd][3], &out[odd][7], NULL, &x, &x);
        nn_swiglu_fwd(s->nn, &out[odd][2], &x);
        nn_swiglu_bwd(s->nn, &out[odd][5], &out[odd][6], NULL, &dy, &x);
        nn_rope_fwd(s->nn, &out[odd][1], &r);
        nn_cast(s->nn, &out[odd][4], &dy);
    }
    if (nn_is_measuring(s->nn)) return;
    for (int i = 0; i < N_OUT; i++) {
        const struct tensor even = to_host(s->dev, &out[0][i]);
        check_near(s, "an output", &out[1][i], in_double(&even), 1e-14);
    }
}

TEST(activations_rope_and_casts_are_the_same_at_odd_addresses)
{
    each_nn(same_at_odd_addresses, NULL);
}

/* ---- embedding -------------------------------------------------------------------------------- */

struct text {
    int64_t N, C, V;
    bool odd;
};

/* Every other token is the same one, the others go through the vocabulary. */
static int32_t *tokens_of(const struct text *k)
{
    int32_t *tokens = test_alloc((size_t)k->N * sizeof *tokens);
    for (int64_t n = 0; n < k->N; n++)
        tokens[n] = (int32_t)(n % 2 ? k->V / 2 : n * n * 37 % k->V);
    return tokens;
}

static void embedding(const struct setting *s, void *arg)
{
    const struct text *k = arg;
    const int32_t *tokens = tokens_of(k);
    const struct tensor dy = rounded(randn_2d(1, k->N, k->C), s->t);
    const struct tensor dw = randn_2d(2, k->V, k->C), sent_dy = put(s, k->odd, &dy, s->t);
    struct tensor got[2];
    for (int i = 0; i < 2; i++) {
        got[i] = sent_f32(s, &dw);
        nn_embedding_bwd(s->nn, &got[i], NULL, &sent_dy,
                         ints_on_device(s->dev, tokens, k->N), NULL, NN_ALL_TOKENS);
    }
    if (nn_is_measuring(s->nn)) return;
    double *want = in_double(&dw);
    for (int64_t i = 0; i < k->N * k->C; i++)
        want[tokens[i / k->C] * k->C + i % k->C] += (double)tensor_f32(&dy)[i];
    check_near(s, "dw", &got[0], want, 1e-12);
    check_same_bits(s, "dw", &got[0], &got[1]);
}

TEST(embedding_bwd_finds_the_rows_of_a_token_in_large_vocabularies)
{
    /* vocabularies of one, two and three digits; rows of one tile and of several */
    struct text texts[] = {{.N = 300, .C = 8, .V = 1000},
                           {.N = 1200, .C = 8, .V = 3000},
                           {.N = 1200, .C = 24, .V = 66000},
                           {.N = 40, .C = 1, .V = 1100000},
                           {.N = 300, .C = 8, .V = 3000, .odd = true}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        each_nn(embedding, &texts[i]);
}
