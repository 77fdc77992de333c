/* The whole model against values that PyTorch computed, and against itself. */
#include <math.h>

#include "fixture.h"

static const char *const names[] = {"gpt2", "llama"};

/* Largest difference over the largest value, tensor by tensor: fp32 against float64. */
static void check_gradients(const struct fixture *f, const float *got, const float *want)
{
    for (int i = 0; i < f->params.n_params; i++) {
        const struct param *p = &f->params.params[i];
        double worst = 0, size = 0;
        for (int64_t k = p->offset; k < p->offset + p->n; k++) {
            worst = fmax(worst, fabs((double)got[k] - (double)want[k]));
            size = fmax(size, fabs((double)want[k]));
        }
        if (!(worst <= 1e-4 * size))
            fail_msg("%s: gradient differs by %.3g of %.3g", p->name, worst, size);
    }
}

static void check_case(const struct fixture *f, const json_t *one,
                       enum model_recompute recompute)
{
    struct rig r;
    const struct model_input in = fixture_input(f, one);
    const double want = json_real_value(json_object_get(one, "loss_sum"));
    float *row_loss = test_alloc((size_t)(f->B * f->T) * sizeof *row_loss);
    float *grads = test_alloc((size_t)f->params.n_elements * sizeof *grads);
    struct nn_loss loss = {0}, only = {0};
    rig_open(&r, f, recompute);
    fixture_to_flat(f, fixture_int(one, "grads_offset"), grads);

    model_train(r.model, &in, &loss, NULL, NULL);
    model_loss(r.model, &in, &only, row_loss);
    assert_int_equal(loss.n_targets, fixture_int(one, "n_targets"));
    assert_true(fabs(loss.sum - want) <= 1e-5 * want);
    assert_true(fabs(only.sum - want) <= 1e-5 * want);
    for (int64_t n = 0; n < f->B * f->T; n++) {
        const double row =
            json_real_value(json_array_get(json_object_get(one, "row_loss"), (size_t)n));
        assert_true(fabs((double)row_loss[n] - row) <= 1e-4 * (row + 1e-3));
    }
    check_gradients(f, r.grads, grads);
    rig_close(&r);
}

TEST(loss_and_gradients_equal_pytorch_whole_packed_and_recomputed)
{
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        size_t k;
        const json_t *one;
        fixture_open(&f, names[i]);
        json_array_foreach(json_object_get(f.json, "cases"), k, one)
        {
            check_case(&f, one, MODEL_RECOMPUTE_NONE);
            check_case(&f, one, MODEL_RECOMPUTE_FULL);
        }
        fixture_close(&f);
    }
}

TEST(recomputation_changes_no_bit)
{
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct rig a, b;
        struct nn_loss loss_a = {0}, loss_b = {0};
        fixture_open(&f, names[i]);
        const struct model_input in =
            fixture_input(&f, json_array_get(json_object_get(f.json, "cases"), 1));
        rig_open(&a, &f, MODEL_RECOMPUTE_NONE);
        rig_open(&b, &f, MODEL_RECOMPUTE_FULL);
        model_train(a.model, &in, &loss_a, NULL, NULL);
        model_train(b.model, &in, &loss_b, NULL, NULL);
        assert_true(loss_a.sum == loss_b.sum);
        assert_memory_equal(a.grads, b.grads,
                            (size_t)f.params.n_elements * sizeof *a.grads);
        rig_close(&a);
        rig_close(&b);
        fixture_close(&f);
    }
}

/* Changing the first document of a sequence must leave the losses of the second alone. */
TEST(documents_of_a_packed_sequence_do_not_see_each_other)
{
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct rig r;
        fixture_open(&f, names[i]);
        const struct model_input in =
            fixture_input(&f, json_array_get(json_object_get(f.json, "cases"), 1));
        int64_t second = 0; /* first row of the first sequence's second document */
        while (in.doc_start[second] == 0) second++;
        const size_t N = (size_t)(f.B * f.T);
        float *before = test_alloc(N * sizeof *before),
              *after = test_alloc(N * sizeof *after);
        struct nn_loss loss = {0};
        rig_open(&r, &f, MODEL_RECOMPUTE_NONE);
        model_loss(r.model, &in, &loss, before);
        int32_t *tokens = test_alloc(N * sizeof *tokens);
        memcpy(tokens, in.tokens, N * sizeof *tokens);
        for (int64_t n = 0; n < second; n++) tokens[n] = (tokens[n] + 1) % 61;
        struct model_input changed = in;
        changed.tokens = tokens;
        model_loss(r.model, &changed, &loss, after);
        assert_true(before[0] != after[0]);
        assert_memory_equal(before + second, after + second,
                            (N - (size_t)second) * sizeof *before);
        rig_close(&r);
        fixture_close(&f);
    }
}

/* Along its own direction the gradient is the slope of the loss. */
TEST(gradient_is_the_slope_of_the_loss)
{
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct rig r;
        struct nn_loss loss = {0}, up = {0}, down = {0};
        fixture_open(&f, names[i]);
        const struct model_input in =
            fixture_input(&f, json_array_get(json_object_get(f.json, "cases"), 0));
        rig_open(&r, &f, MODEL_RECOMPUTE_NONE);
        model_train(r.model, &in, &loss, NULL, NULL);
        const int64_t n = f.params.n_elements;
        double norm = 0;
        for (int64_t k = 0; k < n; k++) norm += (double)r.grads[k] * (double)r.grads[k];
        norm = sqrt(norm);
        const double h = 2e-3;
        float *start = test_alloc((size_t)n * sizeof *start);
        memcpy(start, r.weights, (size_t)n * sizeof *start);
        for (int64_t k = 0; k < n; k++)
            r.weights[k] = (float)((double)start[k] + h * (double)r.grads[k] / norm);
        model_loss(r.model, &in, &up, NULL);
        for (int64_t k = 0; k < n; k++)
            r.weights[k] = (float)((double)start[k] - h * (double)r.grads[k] / norm);
        model_loss(r.model, &in, &down, NULL);
        const double slope = (up.sum - down.sum) / (2 * h);
        if (!(fabs(slope - norm) <= 2e-3 * norm))
            fail_msg("slope %g, gradient norm %g", slope, norm);
        rig_close(&r);
        fixture_close(&f);
    }
}

/* What backward says is final must not change after it said so. */
struct watch {
    const float *grads;
    float *seen;
    int64_t n, low;
    bool changed;
};

static void on_ready(void *context, int64_t low)
{
    struct watch *w = context;
    if (low > w->low) w->changed = true; /* it only ever goes down */
    if (memcmp(w->seen + w->low, w->grads + w->low,
               (size_t)(w->n - w->low) * sizeof *w->seen) != 0)
        w->changed = true;
    memcpy(w->seen + low, w->grads + low, (size_t)(w->n - low) * sizeof *w->seen);
    w->low = low;
}

TEST(gradients_reported_final_do_not_change_any_more)
{
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct rig r;
        struct nn_loss loss = {0};
        fixture_open(&f, names[i]);
        const struct model_input in =
            fixture_input(&f, json_array_get(json_object_get(f.json, "cases"), 0));
        rig_open(&r, &f, MODEL_RECOMPUTE_NONE);
        const int64_t n = f.params.n_elements;
        struct watch w = {.grads = r.grads, .n = n, .low = n};
        w.seen = test_alloc((size_t)n * sizeof *w.seen);
        model_train(r.model, &in, &loss, on_ready, &w);
        assert_false(w.changed);
        assert_int_equal(w.low, 0);
        assert_memory_equal(w.seen, r.grads, (size_t)n * sizeof *w.seen);
        rig_close(&r);
        fixture_close(&f);
    }
}
