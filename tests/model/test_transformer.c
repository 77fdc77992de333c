/* @devices cpu cuda
 * @capability 75
 * The whole model against values that PyTorch computed, and against itself. */
#include <math.h>

#include "fixture.h"

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
    rig_open(&r, f, recompute);
    fixture_to_flat(f, fixture_int(one, "grads_offset"), grads);

    const struct nn_loss loss = rig_train(&r, &in, 1, NULL);
    const struct nn_loss only = rig_loss(&r, &in, row_loss);
    assert_int_equal(loss.n_targets, fixture_int(one, "n_targets"));
    assert_true(fabs(loss.sum - want) <= 1e-5 * want);
    assert_true(fabs(only.sum - want) <= 1e-5 * want);
    for (int64_t n = 0; n < f->B * f->T; n++) {
        const double row =
            json_real_value(json_array_get(json_object_get(one, "row_loss"), (size_t)n));
        assert_true(fabs((double)row_loss[n] - row) <= 1e-4 * (row + 1e-3));
    }
    check_gradients(f, rig_grads(&r), grads);
    rig_close(&r);
}

TEST(loss_and_gradients_equal_pytorch_whole_packed_and_recomputed)
{
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        size_t k;
        const json_t *one;
        fixture_open(&f, fixture_names[i]);
        json_array_foreach(json_object_get(f.json, "cases"), k, one)
        {
            check_case(&f, one, MODEL_RECOMPUTE_NONE);
            check_case(&f, one, MODEL_RECOMPUTE_FULL);
        }
        fixture_close(&f);
    }
}

static struct model_input input_of_case(const struct fixture *f, size_t i)
{
    return fixture_input(f, json_array_get(json_object_get(f->json, "cases"), i));
}

TEST(recomputation_changes_no_bit)
{
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        struct rig a, b;
        fixture_open(&f, fixture_names[i]);
        const struct model_input in = input_of_case(&f, 1);
        rig_open(&a, &f, MODEL_RECOMPUTE_NONE);
        rig_open(&b, &f, MODEL_RECOMPUTE_FULL);
        const struct nn_loss loss_a = rig_train(&a, &in, 1, NULL);
        const struct nn_loss loss_b = rig_train(&b, &in, 1, NULL);
        assert_true(loss_a.sum == loss_b.sum);
        assert_memory_equal(rig_grads(&a), rig_grads(&b),
                            (size_t)f.params.n_elements * sizeof(float));
        rig_close(&a);
        rig_close(&b);
        fixture_close(&f);
    }
}

/* Changing the first document of a sequence must leave the losses of the second alone. */
TEST(documents_of_a_packed_sequence_do_not_see_each_other)
{
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        struct rig r;
        fixture_open(&f, fixture_names[i]);
        const struct model_input in = input_of_case(&f, 1);
        int64_t second = 0; /* first row of the first sequence's second document */
        while (in.doc_start[second] == 0) second++;
        const size_t N = (size_t)(f.B * f.T);
        float *before = test_alloc(N * sizeof *before),
              *after = test_alloc(N * sizeof *after);
        rig_open(&r, &f, MODEL_RECOMPUTE_NONE);
        rig_loss(&r, &in, before);
        int32_t *tokens = test_alloc(N * sizeof *tokens);
        memcpy(tokens, in.tokens, N * sizeof *tokens);
        for (int64_t n = 0; n < second; n++) tokens[n] = (tokens[n] + 1) % 61;
        struct model_input changed = in;
        changed.tokens = tokens;
        rig_loss(&r, &changed, after);
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
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        struct rig r;
        fixture_open(&f, fixture_names[i]);
        const struct model_input in = input_of_case(&f, 0);
        rig_open(&r, &f, MODEL_RECOMPUTE_NONE);
        rig_train(&r, &in, 1, NULL);
        const int64_t n = f.params.n_elements;
        const float *grads = rig_grads(&r), *start = fixture_weights(&f);
        double norm = 0, loss[2];
        for (int64_t k = 0; k < n; k++) norm += (double)grads[k] * (double)grads[k];
        norm = sqrt(norm);
        const double h = 2e-3;
        float *moved = test_alloc((size_t)n * sizeof *moved);
        for (int side = 0; side < 2; side++) {
            const double step = (side ? h : -h) / norm;
            for (int64_t k = 0; k < n; k++)
                moved[k] = (float)((double)start[k] + step * (double)grads[k]);
            rig_set_weights(&r, moved);
            loss[side] = rig_loss(&r, &in, NULL).sum;
        }
        const double slope = (loss[1] - loss[0]) / (2 * h);
        if (!(fabs(slope - norm) <= 2e-3 * norm))
            fail_msg("slope %g, gradient norm %g", slope, norm);
        rig_close(&r);
        fixture_close(&f);
    }
}

/* A scale that is a power of two scales every gradient without rounding anything else. */
TEST(gradients_are_those_of_the_scaled_loss)
{
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        struct rig plain, scaled;
        fixture_open(&f, fixture_names[i]);
        const struct model_input in = input_of_case(&f, 0);
        rig_open(&plain, &f, MODEL_RECOMPUTE_NONE);
        rig_open(&scaled, &f, MODEL_RECOMPUTE_NONE);
        const struct nn_loss a = rig_train(&plain, &in, 1, NULL);
        const struct nn_loss b = rig_train(&scaled, &in, 64, NULL);
        const float *one = rig_grads(&plain), *many = rig_grads(&scaled);
        assert_true(a.sum == b.sum && a.n_targets == b.n_targets);
        for (int64_t k = 0; k < f.params.n_elements; k++)
            assert_true(many[k] == 64 * one[k]);
        rig_close(&plain);
        rig_close(&scaled);
        fixture_close(&f);
    }
}

/* ---- hooks -------------------------------------------------------------------------------- */

/* What backward says is final must not change after it said so. */
struct watch {
    struct rig *rig;
    float *seen;
    int64_t n, low;
    bool changed;
};

static void on_end(void *context, int unit)
{
    struct watch *w = context;
    const int64_t low = w->rig->fixture->params.unit[unit];
    const float *grads = rig_grads(w->rig);
    if (low > w->low) w->changed = true; /* it only ever goes down */
    if (memcmp(w->seen + w->low, grads + w->low,
               (size_t)(w->n - w->low) * sizeof *w->seen) != 0)
        w->changed = true;
    memcpy(w->seen + low, grads + low, (size_t)(w->n - low) * sizeof *w->seen);
    w->low = low;
}

TEST(gradients_reported_final_do_not_change_any_more)
{
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        struct rig r;
        fixture_open(&f, fixture_names[i]);
        const struct model_input in = input_of_case(&f, 0);
        rig_open(&r, &f, MODEL_RECOMPUTE_NONE);
        const int64_t n = f.params.n_elements;
        struct watch w = {.rig = &r, .n = n, .low = n};
        w.seen = test_alloc((size_t)n * sizeof *w.seen);
        const struct model_hooks hooks = {.end = on_end, .context = &w};
        rig_train(&r, &in, 1, &hooks);
        assert_false(w.changed);
        assert_int_equal(w.low, 0);
        assert_memory_equal(w.seen, rig_grads(&r), (size_t)n * sizeof *w.seen);
        rig_close(&r);
        fixture_close(&f);
    }
}

/* Weights that come only when they are asked for: until then they are NaN. */
struct supply {
    struct rig *rig;
    const float *weights; /* host */
    bool *came;           /* [n_elements] */
};

static void on_need(void *context, int unit)
{
    struct supply *s = context;
    const int64_t *at = s->rig->fixture->params.unit, low = at[unit], high = at[unit + 1];
    assert_true(0 <= low && low <= high && high <= s->rig->fixture->params.n_elements);
    device_copy_in(s->rig->device, (float *)s->rig->weights + low, s->weights + low,
                   (size_t)(high - low) * sizeof(float));
    for (int64_t k = low; k < high; k++) s->came[k] = true;
}

static void weights_come_late(const struct fixture *f, enum model_recompute recompute)
{
    struct rig whole, late;
    const struct model_input in = input_of_case(f, 0);
    const size_t n = (size_t)f->params.n_elements;
    float *nans = test_alloc(n * sizeof *nans);
    for (size_t k = 0; k < n; k++) nans[k] = NAN;
    rig_open(&whole, f, recompute);
    rig_open(&late, f, recompute);
    rig_set_weights(&late, nans);
    struct supply supply = {.rig = &late,
                            .weights = fixture_weights(f),
                            .came = test_alloc(n * sizeof(bool))};
    const struct model_hooks hooks = {.need = on_need, .context = &supply};
    const struct nn_loss want = rig_train(&whole, &in, 1, NULL);
    const struct nn_loss got = rig_train(&late, &in, 1, &hooks);
    assert_true(got.sum == want.sum);
    assert_memory_equal(rig_grads(&late), rig_grads(&whole), n * sizeof(float));
    for (int i = 0; i < f->params.n_params; i++) {
        const struct param *p = &f->params.params[i];
        for (int64_t k = p->offset; k < p->offset + p->n; k++)
            if (!supply.came[k]) fail_msg("%s was never asked for", p->name);
    }
    rig_close(&whole);
    rig_close(&late);
}

TEST(weights_are_asked_for_before_they_are_read)
{
    for (int i = 0; i < N_FIXTURES; i++) {
        struct fixture f;
        fixture_open(&f, fixture_names[i]);
        weights_come_late(&f, MODEL_RECOMPUTE_NONE);
        weights_come_late(&f, MODEL_RECOMPUTE_FULL);
        fixture_close(&f);
    }
}

/* ---- types -------------------------------------------------------------------------------- */

static double worst_parameter(const struct fixture *f, const float *got,
                              const float *want, float scale, double *whole)
{
    double worst = 0, error = 0, size = 0;
    for (int i = 0; i < f->params.n_params; i++) {
        const struct param *p = &f->params.params[i];
        double e = 0, s = 0;
        for (int64_t k = p->offset; k < p->offset + p->n; k++) {
            const double d = (double)got[k] / (double)scale - (double)want[k];
            e += d * d;
            s += (double)want[k] * (double)want[k];
        }
        worst = fmax(worst, s > 0 ? e / s : e);
        error += e;
        size += s;
    }
    *whole = error / size;
    return worst;
}

/* Of the gradient: what rounding every activation costs.  PyTorch 2.15 in that type on a CPU, with
 * the same rounded weights against float64, reaches the NMSE given behind each limit. */
static double gradient_limit(const char *family, enum dtype t)
{
    static const struct {
        const char *family;
        double bf16, f16;
    } limits[] = {
        {"gpt2", 3e-4, 1e-5},      /* 1.3e-4, 1.9e-6 */
        {"llama", 3e-4, 1e-5},     /* 3.4e-4, 6.5e-6 */
        {"qwen2", 7e-4, 1e-5},     /* 7.2e-4, 5.8e-6 */
        {"olmo2", 2.4e-3, 1.5e-5}, /* 2.4e-3, 1.2e-5 */
        {"smollm3", 2.6e-3, 6e-5}, /* 5.7e-4 to 2.6e-3 for four seeds, 6.3e-5 */
        {"gpt_neox", 3e-4, 1e-5},  /* 8.3e-5, 1.3e-6 */
    };
    if (t == DTYPE_F32) return 1e-10;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (strcmp(family, limits[i].family) == 0)
            return t == DTYPE_BF16 ? limits[i].bf16 : limits[i].f16;
    fail_msg("no limit for %s", family);
    return 0;
}

/* Of the losses of rows. */
static const double row_limits[] = {
    [DTYPE_F32] = 1e-10, [DTYPE_BF16] = 1e-4, [DTYPE_F16] = 1e-5};

/* A model of type t on the device under test against one of fp32 on the CPU with the same,
 * rounded weights. */
static void compare_with_cpu(const struct fixture *f, size_t i, enum dtype t)
{
    const float scale = t == DTYPE_F16 ? 128 : 1; /* as a loss scale keeps small ones */
    const struct model_input in = input_of_case(f, i);
    const size_t N = (size_t)(f->B * f->T);
    float *want_rows = test_alloc(N * sizeof(float)),
          *rows = test_alloc(N * sizeof(float));
    struct rig cpu, r;
    rig_open_on(&cpu, "cpu", f, MODEL_RECOMPUTE_NONE, DTYPE_F32);
    rig_open_on(&r, test_device_name(), f, MODEL_RECOMPUTE_NONE, t);
    const struct tensor flat =
        tensor_1d(fixture_weights(f), DTYPE_F32, f->params.n_elements);
    rounded(flat, t);
    rig_set_weights(&cpu, tensor_f32(&flat));
    const struct nn_loss want = rig_train(&cpu, &in, 1, NULL);
    const struct nn_loss got = rig_train(&r, &in, scale, NULL);
    rig_loss(&cpu, &in, want_rows);
    rig_loss(&r, &in, rows);
    double whole;
    const double worst =
        worst_parameter(f, rig_grads(&r), rig_grads(&cpu), scale, &whole);
    const double of_rows = nmse(rows, want_rows, (int64_t)N);
    print_message(
        "%s, case %zu, %s: NMSE of row losses %.2g, of the gradient %.2g, of its "
        "worst parameter %.2g\n",
        f->family, i, dtype_name(t), of_rows, whole, worst);
    assert_int_equal(got.n_targets, want.n_targets);
    assert_true(fabs(got.sum - want.sum) <= sqrt(row_limits[t]) * want.sum);
    assert_true(of_rows <= row_limits[t]);
    assert_true(whole <= gradient_limit(f->family, t));
    rig_close(&r);
    rig_close(&cpu);
}

TEST(each_type_gives_the_gradient_of_the_cpu)
{
    struct device *d = NULL;
    ASSERT_OK(test_device_open(&d));
    for (enum dtype t = DTYPE_F32; t <= DTYPE_F16; t++) {
        if (!device_supports(d, t)) continue;
        for (int i = 0; i < N_FIXTURES; i++) {
            struct fixture f;
            fixture_open(&f, fixture_names[i]);
            compare_with_cpu(&f, 0, t);
            compare_with_cpu(&f, 1, t);
            fixture_close(&f);
        }
    }
    test_device_close(&d);
}
