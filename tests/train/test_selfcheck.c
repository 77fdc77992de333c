/* The comparison of two traces finds whatever differs, and names the first. */
#include "run.h"

#include "train/selfcheck.h"

static void trace(struct selfcheck_trace *t, const struct config *c)
{
    ASSERT_OK(selfcheck_alone(t, c, 2));
    assert_int_equal(t->n_steps, 2);
}

static status_t compare(const struct selfcheck_trace *got,
                        const struct selfcheck_trace *want)
{
    return selfcheck_compare(got, want, &selfcheck_fp32, NULL);
}

TEST(what_differs_is_named)
{
    struct config c;
    struct selfcheck_trace one, other;
    char path[PATH_MAX];
    const char *folder = test_folder();
    run_prepare(folder);
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    ASSERT_OK(config_load(&c, path, NULL, 0));
    test_world(); /* MPI runs */
    trace(&one, &c);
    trace(&other, &c);
    ASSERT_OK(compare(&other, &one)); /* bitwise, even */
    const size_t bytes = (size_t)one.whole.n_elements * sizeof(float);
    assert_memory_equal(one.gradients, other.gradients, bytes);
    assert_memory_equal(one.weights, other.weights, bytes);

    const struct param *p =
        &one.whole
             .params[param_find(&one.whole, "model.layers.1.self_attn.k_proj.weight")];
    float *x = &other.gradients[p->offset + 5], keep = *x;
    *x += 1;
    ASSERT_REFUSED(compare(&other, &one), STATUS_MISMATCH,
                   "model.layers.1.self_attn.k_proj.weight: NMSE of gradient");
    *x = NAN;
    ASSERT_REFUSED(compare(&other, &one), STATUS_MISMATCH, "k_proj.weight");
    *x = keep;
    int64_t largest = p->offset;
    for (int64_t i = p->offset; i < p->offset + p->n; i++)
        if (fabsf(one.gradients[i]) > fabsf(one.gradients[largest])) largest = i;
    x = &other.weights[largest];
    keep = *x;
    *x *= 1.5f;
    ASSERT_REFUSED(compare(&other, &one), STATUS_MISMATCH, "k_proj.weight");
    *x = keep;
    other.loss[1] *= 1.00001;
    ASSERT_REFUSED(compare(&other, &one), STATUS_MISMATCH, "loss of step 2");
    other.loss[1] = one.loss[1];
    other.norm[0] *= 1.00001;
    ASSERT_REFUSED(compare(&other, &one), STATUS_MISMATCH, "gradient norm");
    other.norm[0] = one.norm[0];
    ASSERT_OK(compare(&other, &one));
    selfcheck_release(&one);
    selfcheck_release(&other);
    config_release(&c);
}
