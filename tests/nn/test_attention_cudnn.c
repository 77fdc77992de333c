/* @devices cuda
 * Whose work attention is: cuDNN's where it agrees with the kernels, theirs everywhere else.  That
 * either gives the right numbers is test_attention's business. */
#include "each_nn.h"

enum { N_OUTPUTS = 5, FIRST_OUTPUT = 4 }; /* CUDNN_OPERAND_Y and what follows it */

struct attention_of {
    struct nn_attention a;
    int64_t spoiled; /* the output of cuDNN that is wrong; -1: none */
    bool packed;
    int64_t expected; /* graphs of cuDNN for one forward and backward */
};

/* A function of the emulated device; on a real one there is nothing to count. */
static void *emulated(const struct setting *s, const char *name)
{
    const void *symbol = device_symbol(s->dev, name);
    if (!symbol) skip();
    return (void *)(uintptr_t)symbol;
}

static void forward_backward(const struct setting *s, void *arg)
{
    const struct attention_of *c = arg;
    struct nn_attention a = c->a;
    int64_t (*graphs)(void) = NULL;
    void (*spoil)(int64_t) = NULL;
    *(void **)&graphs = emulated(s, "emulation_cudnn_graphs");
    *(void **)&spoil = emulated(s, "emulation_cudnn_spoil");
    const int64_t N = a.B * a.T, HD = a.H * a.D, W = (a.H + 2 * a.K) * a.D;
    if (c->packed)
        a.doc_start = ints_on_device(s->dev, test_alloc((size_t)N * sizeof(int32_t)), N);
    const struct tensor x = randn_2d(1, N, W), g = randn_2d(2, N, HD);
    const struct tensor qkv = sent(s, &x), dy = sent(s, &g);
    struct tensor y = dirty(s, N, HD), lse = dirty_f32(s, a.B * a.H, a.T);
    struct tensor dqkv = dirty(s, N, W);
    spoil(c->spoiled);
    const int64_t before = graphs();
    nn_attention_fwd(s->nn, &y, &lse, &qkv, &a);
    nn_attention_bwd(s->nn, &dqkv, &dy, &y, &lse, &qkv, &a);
    device_wait(s->dev);
    spoil(-1);
    if (!nn_is_measuring(s->nn)) assert_int_equal(graphs() - before, c->expected);
}

static struct attention_of of(int64_t T, int64_t D, int64_t expected)
{
    return (struct attention_of){
        .a = {.B = 2, .T = T, .H = 4, .K = 2, .D = D, .scale = 0.25f},
        .spoiled = -1,
        .expected = expected};
}

TEST(whole_sequences_are_cudnns_in_16_bits)
{
    struct attention_of c = of(40, 16, 2);
    each_nn_of_type(DTYPE_BF16, forward_backward, &c);
    each_nn_of_type(DTYPE_F16, forward_backward, &c);
    c.expected = 0;
    each_nn_of_type(DTYPE_F32, forward_backward, &c);
}

TEST(documents_and_odd_heads_are_the_kernels)
{
    struct attention_of c = of(41, 16, 0), odd = of(41, 12, 0), wide = of(41, 136, 0);
    c.packed = true;
    each_nn_of_type(DTYPE_BF16, forward_backward, &c);
    each_nn_of_type(DTYPE_BF16, forward_backward, &odd);
    each_nn_of_type(DTYPE_BF16, forward_backward, &wide);
}

TEST(a_cudnn_that_computes_something_else_is_not_used)
{
    for (int i = 0; i < N_OUTPUTS; i++) {
        struct attention_of c = of(50 + i, 16, 0);
        c.spoiled = FIRST_OUTPUT + i;
        each_nn_of_type(DTYPE_BF16, forward_backward, &c);
    }
}
