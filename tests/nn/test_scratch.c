/* @devices cpu cuda    @amx
 * A run measures its largest micro-batch: fewer sequences must never need more scratch.  (They did,
 * where work is cut into equal parts of at most so much.) */
#include "each_nn.h"

enum { T = 300, H = 6, K = 3, D = 16, V = 50257, C = 8, MOST = 12 };

/* What a call takes, without data. */
typedef void call(struct nn *nn, enum dtype t, int64_t B);

static void cross_entropy(struct nn *nn, enum dtype t, int64_t B)
{
    const struct tensor x = tensor_2d(NULL, t, B * T, C), w = tensor_2d(NULL, t, V, C);
    struct tensor dx = x, dw = tensor_2d(NULL, DTYPE_F32, V, C);
    const int32_t unread = 0;
    struct nn_loss loss = {0};
    nn_cross_entropy(nn, &loss, NULL, &dx, &dw, &x, &w, &unread, 1, 0, NULL);
}

/* With documents, which leaves out what would be tried on numbers. */
static struct nn_attention attention_of(int64_t B)
{
    static const int32_t unread;
    return (struct nn_attention){
        .B = B, .T = T, .H = H, .K = K, .D = D, .scale = 1, .doc_start = &unread};
}

static void attention_fwd(struct nn *nn, enum dtype t, int64_t B)
{
    const struct nn_attention a = attention_of(B);
    const struct tensor qkv = tensor_2d(NULL, t, B * T, (H + 2 * K) * D);
    struct tensor y = tensor_2d(NULL, t, B * T, H * D);
    struct tensor lse = tensor_2d(NULL, DTYPE_F32, B * H, T);
    nn_attention_fwd(nn, &y, &lse, &qkv, &a);
}

static void attention_bwd(struct nn *nn, enum dtype t, int64_t B)
{
    const struct nn_attention a = attention_of(B);
    const struct tensor qkv = tensor_2d(NULL, t, B * T, (H + 2 * K) * D);
    const struct tensor y = tensor_2d(NULL, t, B * T, H * D);
    const struct tensor lse = tensor_2d(NULL, DTYPE_F32, B * H, T);
    struct tensor dqkv = qkv;
    nn_attention_bwd(nn, &dqkv, &y, &y, &lse, &qkv, &a);
}

static void norm_bwd(struct nn *nn, enum dtype t, int64_t B)
{
    const struct tensor x = tensor_2d(NULL, t, B * T, C);
    const struct tensor rstd = tensor_1d(NULL, DTYPE_F32, B * T);
    struct tensor w = tensor_1d(NULL, t, C), dw = tensor_1d(NULL, DTYPE_F32, C), dx = x;
    const struct nn_norm p = {.eps = 1, .w = &w, .dw = &dw};
    nn_rmsnorm_bwd(nn, &dx, &x, &x, &rstd, &p, NN_ASSIGN);
}

static void bias_bwd(struct nn *nn, enum dtype t, int64_t B)
{
    const struct tensor dy = tensor_2d(NULL, t, B * T, C);
    struct tensor db = tensor_1d(NULL, DTYPE_F32, C);
    nn_bias_bwd(nn, &db, &dy);
}

static void activation_bwd(struct nn *nn, enum dtype t, int64_t B)
{
    const struct tensor x = tensor_2d(NULL, t, B * T, C);
    struct tensor db = tensor_1d(NULL, DTYPE_F32, C), dx = x;
    nn_gelu_bwd(nn, &dx, NULL, &db, &x, &x);
}

static void linear(struct nn *nn, enum dtype t, int64_t B)
{
    const struct tensor x = tensor_2d(NULL, t, B * T, C), w = tensor_2d(NULL, t, C, C);
    struct tensor y = x;
    nn_linear_fwd(nn, &y, &x, &w, NULL, NULL);
}

static size_t scratch(struct device *dev, int threads, enum dtype t, call *f, int64_t B)
{
    struct nn *nn = NULL;
    ASSERT_OK(nn_create_measuring(&nn, dev, threads));
    f(nn, t, B);
    const size_t bytes = nn_scratch_peak_bytes(nn);
    nn_destroy(&nn);
    return bytes;
}

static void fewer_take_no_more(call *f)
{
    static const int threads[] = {1, 2, 16, 64};
    struct device *dev = NULL;
    ASSERT_OK(test_device_open(&dev));
    EACH_TYPE(t)
    for (int i = 0; i < 4; i++)
        for (int64_t most = 1; most <= MOST; most++) {
            const size_t measured = scratch(dev, threads[i], t, f, most);
            for (int64_t B = 1; B < most; B++) {
                const size_t taken = scratch(dev, threads[i], t, f, B);
                if (taken > measured)
                    fail_msg("%s, %d threads: %lld sequences take %zu bytes, %lld %zu",
                             dtype_name(t), threads[i], (long long)B, taken,
                             (long long)most, measured);
            }
        }
    test_device_close(&dev);
}

TEST(fewer_rows_of_logits_take_no_more)
{
    fewer_take_no_more(cross_entropy);
}

TEST(fewer_sequences_take_no_more_in_attention)
{
    fewer_take_no_more(attention_fwd);
    fewer_take_no_more(attention_bwd);
}

TEST(fewer_rows_take_no_more_elsewhere)
{
    fewer_take_no_more(norm_bwd);
    fewer_take_no_more(bias_bwd);
    fewer_take_no_more(activation_bwd);
    fewer_take_no_more(linear);
}
