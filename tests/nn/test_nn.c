/* @amx
 * The choice of a table, and what the wrappers refuse. */
#include "each_nn.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct nn *open_nn(struct device **dev, int threads)
{
    struct nn *nn = NULL;
    ASSERT_OK(device_open(dev, "cpu", 0));
    ASSERT_OK(nn_create(&nn, *dev, threads, 1 << 20));
    return nn;
}

static void close_nn(struct nn **nn, struct device **dev)
{
    nn_destroy(nn);
    assert_null(*nn);
    assert_int_equal(device_allocated_bytes(*dev), 0);
    device_close(dev);
}

TEST(base_can_always_be_forced_and_nonsense_never)
{
    struct device *dev = NULL;
    struct nn *nn = open_nn(&dev, 2);
    char chosen[16];
    snprintf(chosen, sizeof chosen, "%s", nn_isa(nn, DTYPE_F32));
    assert_false(nn_force_isa(nn, "abacus"));
    assert_string_equal(nn_isa(nn, DTYPE_F32), chosen);
    assert_true(nn_force_isa(nn, "base"));
    assert_string_equal(nn_isa(nn, DTYPE_F32), "base");
    assert_true(nn_force_isa(nn, chosen));
    assert_string_equal(nn_isa(nn, DTYPE_F32), chosen);
    assert_int_equal(nn_threads(nn), 2);
    close_nn(&nn, &dev);
}

TEST(bf16_has_the_table_of_what_multiplies_it)
{
    struct device *dev = NULL;
    struct nn *nn = open_nn(&dev, 1);
    const char *unit = nn_cpu_bf16(), *isa = nn_isa(nn, DTYPE_BF16);
    if (unit)
        assert_string_equal(isa, strcmp(unit, "AMX") ? "avx512bf16" : "amx");
    else
        assert_string_equal(isa, nn_isa(nn, DTYPE_F32));
    close_nn(&nn, &dev);
}

static bool creates_amx(void)
{
    struct device *dev = NULL;
    struct nn *nn = open_nn(&dev, 1);
    const bool amx = strcmp(nn_isa(nn, DTYPE_F32), "amx") == 0;
    close_nn(&nn, &dev);
    return amx;
}

TEST(fp32_is_made_of_bf16_where_that_is_asked_for_and_the_cpu_can)
{
    const char *unit = nn_cpu_bf16();
    const bool can = unit && strcmp(unit, "AMX") == 0;
    assert_false(creates_amx());
    assert_int_equal(nn_use_bf16x6(true), can);
    assert_int_equal(creates_amx(), can);
    if (nn_bf16x6_pays()) assert_true(can); /* it also must not fail */
    assert_true(nn_use_bf16x6(false));
    assert_false(creates_amx());
}

TEST(scratch_is_counted_on_the_device)
{
    struct device *dev = NULL;
    struct nn *nn = open_nn(&dev, 1);
    assert_int_equal(device_allocated_bytes(dev), 1 << 20);
    assert_int_equal(nn_scratch_peak_bytes(nn), 0);
    close_nn(&nn, &dev);
}

static struct tensor dirty_2d(int64_t rows, int64_t cols)
{
    struct tensor x = randn_2d(1, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) tensor_f32(&x)[i] = NAN;
    return x;
}

static void short_weights(struct nn *nn)
{
    struct tensor y = dirty_2d(4, 3), x = randn_2d(1, 4, 5), w = randn_2d(2, 3, 6);
    nn_matmul_nt(nn, &y, &x, &w, NN_ASSIGN);
}

static void short_lse(struct nn *nn)
{
    const struct nn_attention a = {.B = 1, .T = 4, .H = 2, .K = 1, .D = 3, .scale = 1};
    struct tensor y = dirty_2d(4, 6), lse = dirty_2d(1, 4), qkv = randn_2d(1, 4, 12);
    nn_attention_fwd(nn, &y, &lse, &qkv, &a);
}

static void document_from_the_future(struct nn *nn)
{
    const int32_t start[] = {0, 2, 2, 2};
    const struct nn_attention a = {
        .B = 1, .T = 4, .H = 1, .K = 1, .D = 3, .scale = 1, .doc_start = start};
    struct tensor y = dirty_2d(4, 3), lse = dirty_2d(1, 4), qkv = randn_2d(1, 4, 9);
    nn_attention_fwd(nn, &y, &lse, &qkv, &a);
}

static void full_cache(struct nn *nn)
{
    const struct nn_attention a = {.B = 1, .T = 4, .H = 1, .K = 1, .D = 3, .scale = 1};
    struct tensor y = dirty_2d(1, 3), k = dirty_2d(4, 3), v = dirty_2d(4, 3);
    struct tensor qkv = randn_2d(1, 1, 9);
    nn_attention_decode(nn, &y, &k, &v, &qkv, 4, &a);
}

static void target_beyond_vocabulary(struct nn *nn)
{
    struct tensor x = randn_2d(1, 2, 3), w = randn_2d(2, 5, 3);
    struct nn_loss loss = {0};
    nn_cross_entropy(nn, &loss, NULL, NULL, NULL, &x, &w, (const int32_t[]){1, 5}, 1, 0,
                     NULL);
}

static void half_a_gradient(struct nn *nn)
{
    struct tensor x = randn_2d(1, 2, 3), w = randn_2d(2, 5, 3), dx = dirty_2d(2, 3);
    struct nn_loss loss = {0};
    nn_cross_entropy(nn, &loss, NULL, &dx, NULL, &x, &w, (const int32_t[]){1, 4}, 1, 0,
                     NULL);
}

static void gradient_of_nothing(struct nn *nn)
{
    struct tensor x = randn_2d(1, 2, 3), w = randn_2d(2, 5, 3), dx = dirty_2d(2, 3);
    struct tensor dw = dirty_2d(5, 3);
    struct nn_loss loss = {0};
    nn_cross_entropy(nn, &loss, NULL, &dx, &dw, &x, &w, (const int32_t[]){1, 4}, 0, 0,
                     NULL);
}

static void narrow_residual(struct nn *nn)
{
    struct tensor x = randn_2d(1, 2, 3), w = randn_2d(2, 5, 3), y = dirty_2d(2, 5);
    struct tensor residual = randn_2d(3, 2, 4);
    nn_linear_fwd(nn, &y, &x, &w, NULL, &residual);
}

static void cast_to_another_shape(struct nn *nn)
{
    struct tensor x = randn_2d(1, 2, 3), y = dirty_2d(2, 4);
    nn_cast(nn, &y, &x);
}

/* Stochastic rounding is that of bf16. */
static void stochastic_fp16(struct nn *nn)
{
    struct tensor x = randn_1d(1, 8);
    const struct nn_adamw p = {.c1 = 1, .c2 = 1};
    const struct nn_adamw_range r = {.w = tensor_f32(&x),
                                     .m = tensor_f32(&x),
                                     .v = tensor_f32(&x),
                                     .grad = tensor_f32(&x),
                                     .low = tensor_f32(&x),
                                     .low_type = DTYPE_F16,
                                     .rounding = NN_ROUND_STOCHASTIC,
                                     .n = 8};
    nn_adamw_update(nn, &r, &p);
}

/* In a process of its own, which has one thread: the parent's team does not survive fork. */
static bool dies(void (*misuse)(struct nn *nn))
{
    const pid_t child = fork();
    if (child == 0) {
        const int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, STDERR_FILENO);
        struct device *dev = NULL;
        misuse(open_nn(&dev, 1));
        _exit(0);
    }
    int state = 0;
    assert_int_equal(waitpid(child, &state, 0), child);
    return !(WIFEXITED(state) && WEXITSTATUS(state) == 0);
}

TEST(misuse_dies)
{
    assert_true(dies(short_weights));
    assert_true(dies(short_lse));
    assert_true(dies(document_from_the_future));
    assert_true(dies(full_cache));
    assert_true(dies(target_beyond_vocabulary));
    assert_true(dies(half_a_gradient));
    assert_true(dies(gradient_of_nothing));
    assert_true(dies(narrow_residual));
    assert_true(dies(cast_to_another_shape));
    assert_true(dies(stochastic_fp16));
}
