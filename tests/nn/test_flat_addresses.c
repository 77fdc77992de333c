/* @devices cpu cuda
 * Ranges of flat buffers, and rows of logits, begin wherever a shard or a vocabulary ends: not only
 * at multiples of 16 bytes. */
#include "each_nn.h"

enum { SIZE = 1030, SHIFTS = 4 };

/* A copy in the device's memory that begins `shift` numbers behind a multiple of 16 bytes. */
static struct tensor shifted(const struct setting *s, const struct tensor *host,
                             int shift)
{
    const int64_t n = tensor_elements(host);
    struct tensor wide = randn_1d(99, n + shift), x = *host;
    memcpy(tensor_f32(&wide) + shift, host->data, tensor_bytes(host));
    wide = sent_f32(s, &wide);
    x.data = tensor_f32(&wide) + shift;
    return x;
}

/* w, m, v and the copy of w behind one update of arrays that begin at these places. */
struct updated {
    struct tensor w, m, v;
    uint16_t low[SIZE];
};

static struct updated update(const struct setting *s, const int shift[5])
{
    struct tensor v = randn_1d(3, SIZE), low = randn_1d(5, SIZE / 2 + 4);
    for (int i = 0; i < SIZE; i++) tensor_f32(&v)[i] *= tensor_f32(&v)[i];
    const struct tensor w = randn_1d(1, SIZE), m = randn_1d(2, SIZE),
                        g = randn_1d(4, SIZE);
    struct updated u = {.w = shifted(s, &w, shift[0]),
                        .m = shifted(s, &m, shift[1]),
                        .v = shifted(s, &v, shift[2])};
    const struct tensor grad = shifted(s, &g, shift[3]);
    low = sent_f32(s, &low);
    const struct nn_adamw_range r = {.w = tensor_f32(&u.w),
                                     .m = tensor_f32(&u.m),
                                     .v = tensor_f32(&u.v),
                                     .grad = tensor_f32(&grad),
                                     .low = (uint16_t *)low.data + shift[4],
                                     .low_type = DTYPE_BF16,
                                     .rounding = NN_ROUND_STOCHASTIC,
                                     .key = 77,
                                     .start = 6,
                                     .n = SIZE};
    const struct nn_adamw p = {.lr = 1e-2f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .eps = 1e-8f,
                               .weight_decay = 0.1f,
                               .c1 = 0.5f,
                               .c2 = 0.25f,
                               .grad_scale = 1};
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return u;
    device_copy_out(s->dev, u.low, r.low, sizeof u.low);
    return u;
}

static void updates(const struct setting *s, void *arg)
{
    (void)arg;
    const struct updated want = update(s, (const int[]){0, 0, 0, 0, 0});
    for (int i = 1; i < SHIFTS; i++) {
        for (int only = 0; only < 6; only++) { /* one array, or all of them */
            int shift[5] = {0};
            for (int k = 0; k < 5; k++) shift[k] = only == k || only == 5 ? i : 0;
            const struct updated got = update(s, shift);
            if (nn_is_measuring(s->nn)) continue;
            check_same_bits(s, "w", &got.w, &want.w);
            check_same_bits(s, "m", &got.m, &want.m);
            check_same_bits(s, "v", &got.v, &want.v);
            assert_memory_equal(got.low, want.low, sizeof want.low);
        }
    }
}

TEST(adamw_update_is_the_same_wherever_its_arrays_begin)
{
    each_nn_of_type(DTYPE_F32, updates, NULL);
}

static void squares(const struct setting *s, void *arg)
{
    (void)arg;
    const struct tensor host = randn_1d(1, SIZE);
    double sums[SHIFTS] = {0};
    double *dev = bytes_on_device(s->dev, sums, sizeof sums);
    for (int i = 0; i < SHIFTS; i++) {
        const struct tensor x = shifted(s, &host, i);
        nn_sum_squares(s->nn, dev + i, tensor_f32(&x), SIZE);
    }
    if (nn_is_measuring(s->nn)) return;
    device_copy_out(s->dev, sums, dev, sizeof sums);
    for (int i = 1; i < SHIFTS; i++)
        assert_memory_equal(&sums[i], &sums[0], sizeof *sums);
}

TEST(the_sum_of_squares_is_the_same_wherever_a_range_begins)
{
    each_nn_of_type(DTYPE_F32, squares, NULL);
}

/* ---- logits ------------------------------------------------------------------------------- */

enum {
    ROWS = 9
}; /* an odd V has a row at each place between two multiples of 16 bytes */

static void reference(const struct tensor *logits, int64_t V, const int32_t *targets,
                      double *row_loss, double *gradient)
{
    for (int64_t n = 0; n < ROWS; n++) {
        const float *x = tensor_f32(logits) + n * V;
        double sum = 0;
        for (int64_t v = 0; v < V; v++) sum += exp((double)x[v]);
        row_loss[n] = targets[n] < 0 ? 0 : log(sum) - (double)x[targets[n]];
        for (int64_t v = 0; v < V; v++)
            gradient[n * V + v] =
                targets[n] < 0 ? 0 : 3 * (exp((double)x[v]) / sum - (v == targets[n]));
    }
}

static void loss_of_rows(const struct setting *s, void *arg)
{
    const int64_t V = *(const int64_t *)arg;
    if (nn_is_measuring(s->nn)) return; /* the row takes no scratch */
    const struct tensor host = rounded(randn_2d(1, ROWS, V), s->t);
    int32_t targets[ROWS];
    for (int n = 0; n < ROWS; n++)
        targets[n] = n == 4 ? -1 : (int32_t)((n * 31 + V - 1) % V);
    struct tensor logits = sent(s, &host), row_loss = dirty_f32(s, 1, ROWS);
    const struct nn_loss zero = {0};
    const struct nn_loss_rows rows = {.targets = ints_on_device(s->dev, targets, ROWS),
                                      .loss = tensor_f32(&row_loss),
                                      .gradient_scale = 3};
    nn_ops_for(s->nn, &logits)
        ->softmax_loss(s->nn, bytes_on_device(s->dev, &zero, sizeof zero), &logits, V,
                       &rows);
    double want_loss[ROWS], *want = test_alloc((size_t)(ROWS * V) * sizeof *want);
    reference(&host, V, targets, want_loss, want);
    check_near(s, "row_loss", &row_loss, want_loss, 1e-12);
    check_near(s, "gradient", &logits, want, 1e-12);
}

TEST(rows_of_logits_may_begin_anywhere)
{
    static int64_t widths[] = {3, 9, 77, 1001, 9001};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        each_nn(loss_of_rows, &widths[i]);
}
