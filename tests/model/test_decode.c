/* @devices cpu cuda
 * Generation against training's forward, and choosing tokens. */
#include <math.h>

#include "fixture.h"
#include "model/sample.h"

/* log softmax of the logits at the target, as the loss of a row is. */
static double loss_of(const float *logits, int64_t V, int32_t target)
{
    double top = logits[0], sum = 0;
    for (int64_t i = 1; i < V; i++) top = fmax(top, logits[i]);
    for (int64_t i = 0; i < V; i++) sum += exp(logits[i] - top);
    return log(sum) + top - logits[target];
}

static void decode_fixture(const struct fixture *f, enum dtype t, double tolerance)
{
    const json_t *one = json_array_get(json_object_get(f->json, "cases"), 0);
    const struct model_input in = fixture_input(f, one);
    const int64_t V = f->arch.vocab_size;
    struct rig r;
    struct model_decoder *d = NULL;
    rig_open_on(&r, test_device_name(), f, MODEL_RECOMPUTE_NONE, t);
    ASSERT_OK(model_decoder_create(&d, r.model, f->B, f->T));
    float *logits = test_alloc((size_t)(f->B * V) * sizeof *logits);
    for (int64_t i = 0; i < f->T; i++) {
        int32_t tokens[2] = {in.tokens[i], in.tokens[f->T + i]};
        for (int64_t k = 0; k < f->B * V; k++) logits[k] = NAN;
        model_decode(d, tokens, logits);
        for (int64_t b = 0; b < f->B; b++) {
            const size_t n = (size_t)(b * f->T + i);
            const double want =
                json_real_value(json_array_get(json_object_get(one, "row_loss"), n));
            const double got = loss_of(logits + b * V, V, in.targets[n]);
            if (!(fabs(got - want) <= tolerance * want))
                fail_msg("%s, token %d: loss %.6g, not %.6g", dtype_name(t), (int)n, got,
                         want);
        }
    }
    model_decoder_destroy(&d);
    rig_close(&r);
}

TEST(decoding_with_a_cache_equals_the_whole_forward)
{
    static const double tolerances[] = {
        [DTYPE_F32] = 1e-4, [DTYPE_BF16] = 2e-2, [DTYPE_F16] = 3e-3};
    struct device *dev = NULL;
    ASSERT_OK(test_device_open(&dev));
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        fixture_open(&f, fixture_names[i]);
        for (enum dtype t = DTYPE_F32; t <= DTYPE_F16; t++)
            if (device_supports(dev, t)) decode_fixture(&f, t, tolerances[t]);
        fixture_close(&f);
    }
    test_device_close(&dev);
}

static const float logits[5] = {1, 3, 2, 3, -1};

static int32_t draw(double temperature, int64_t k, double p, uint64_t n)
{
    int32_t order[5];
    const struct sample_options o = {
        .temperature = temperature, .top_k = k, .top_p = p, .key = 7};
    ASSERT_OK(sample_check(&o));
    return sample_token(logits, 5, &o, n, order);
}

TEST(greedy_takes_the_most_likely_and_the_lower_id_of_two)
{
    assert_int_equal(draw(0, 0, 1, 0), 1);
}

TEST(top_k_and_top_p_leave_the_rest_out)
{
    for (uint64_t n = 0; n < 200; n++) {
        assert_int_equal(draw(1, 1, 1, n), 1);
        const int32_t two = draw(5, 2, 1, n), nucleus = draw(1, 0, 0.5, n);
        assert_true(two == 1 || two == 3);
        assert_true(nucleus == 1 || nucleus == 3);
    }
}

TEST(draws_follow_the_softmax)
{
    double sum = 0;
    int count[5] = {0};
    enum { DRAWS = 20000 };
    for (int i = 0; i < 5; i++) sum += exp(logits[i] / 2);
    for (uint64_t n = 0; n < DRAWS; n++) count[draw(2, 0, 1, n)]++;
    for (int i = 0; i < 5; i++) {
        const double p = exp(logits[i] / 2) / sum;
        assert_true(fabs(count[i] - p * DRAWS) < 5 * sqrt(p * (1 - p) * DRAWS));
    }
}

TEST(options_out_of_bounds_are_refused)
{
    const struct sample_options cold = {.temperature = -1, .top_p = 1};
    const struct sample_options none = {.temperature = 1, .top_p = 0};
    const struct sample_options few = {.temperature = 1, .top_p = 1, .top_k = -1};
    ASSERT_REFUSED(sample_check(&cold), STATUS_USAGE, "--temperature -1");
    ASSERT_REFUSED(sample_check(&none), STATUS_USAGE, "--top-p 0");
    ASSERT_REFUSED(sample_check(&few), STATUS_USAGE, "--top-k -1");
}
