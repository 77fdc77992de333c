/* @devices cpu cuda
 * Models that transformers saved give the logits, the loss and the gradients that transformers computed
 * from them in fp32: tests/fixtures/reference (scripts/fixtures/make_reference_fixtures.py). */
#include <math.h>

#include "checkpoint/hf.h"
#include "model/fixture.h"

static const char *const models[] = {"gpt2",  "llama",   "llama_tied_biases", "qwen2",
                                     "olmo2", "smollm3", "gpt_neox"};
enum { N_MODELS = sizeof models / sizeof *models };

/* The tensors of a folder as a flat buffer in the order of the table. */
static float *read_flat(const char *folder, const struct arch *a,
                        const struct param_table *t)
{
    struct hf *h;
    float *flat = test_alloc((size_t)t->n_elements * sizeof *flat);
    ASSERT_OK(hf_open(&h, folder, a));
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        const struct hf_rectangle all = {0, 0, p->shape[0], p->shape[1]};
        ASSERT_OK(hf_read(h, i, &all, flat + p->offset));
    }
    hf_close(&h);
    return flat;
}

struct reference {
    struct fixture fixture; /* json: reference.json */
    float *gradients;       /* of the mean loss, in table order */
    struct model_input in;
};

/* Each sequence is one document. */
static void make_input(struct reference *r)
{
    const json_t *windows = json_object_get(r->fixture.json, "tokens");
    const int64_t B = (int64_t)json_array_size(windows),
                  T = (int64_t)json_array_size(json_array_get(windows, 0)) - 1;
    const size_t bytes = (size_t)(B * T) * sizeof(int32_t);
    int32_t *tokens = test_alloc(bytes), *targets = test_alloc(bytes),
            *positions = test_alloc(bytes), *doc_start = test_alloc(bytes);
    for (int64_t n = 0; n < B * T; n++) {
        const json_t *window = json_array_get(windows, (size_t)(n / T));
        const size_t at = (size_t)(n % T);
        tokens[n] = (int32_t)json_integer_value(json_array_get(window, at));
        targets[n] = (int32_t)json_integer_value(json_array_get(window, at + 1));
        positions[n] = (int32_t)at;
    }
    r->fixture.B = B;
    r->fixture.T = T;
    r->in = (struct model_input){.B = B,
                                 .T = T,
                                 .tokens = tokens,
                                 .targets = targets,
                                 .positions = positions,
                                 .doc_start = doc_start};
}

static void reference_open(struct reference *r, const char *name)
{
    char folder[PATH_MAX], path[PATH_MAX];
    struct fixture *f = &r->fixture;
    *r = (struct reference){0};
    snprintf(folder, sizeof folder, "%s/tests/fixtures/reference/%s",
             getenv("YOKE_SOURCE"), name);
    file_join(path, sizeof path, folder, "reference.json");
    f->json = json_load_file(path, 0, NULL);
    assert_non_null(f->json);
    ASSERT_OK(hf_config_read(folder, &f->arch, &f->family));
    ASSERT_OK(param_table_init(&f->params, &f->arch, NULL, 0));
    f->weights = read_flat(folder, &f->arch, &f->params);
    file_join(path, sizeof path, folder, "gradients");
    r->gradients = read_flat(path, &f->arch, &f->params);
    make_input(r);
}

static void check_logits(const struct reference *r, const char *name)
{
    const struct fixture *f = &r->fixture;
    const json_t *list = json_object_get(f->json, "logits");
    const int64_t V = f->arch.vocab_size, n = f->B * f->T * V;
    assert_int_equal(json_array_size(list), n);
    struct rig rig;
    struct model_decoder *d = NULL;
    float *got = test_alloc((size_t)n * sizeof *got),
          *want = test_alloc((size_t)n * sizeof *want),
          *row = test_alloc((size_t)(f->B * V) * sizeof *row);
    int32_t *tokens = test_alloc((size_t)f->B * sizeof *tokens);
    for (int64_t i = 0; i < n; i++)
        want[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    rig_open(&rig, f, MODEL_RECOMPUTE_NONE);
    ASSERT_OK(model_decoder_create(&d, rig.model, f->B, f->T));
    for (int64_t t = 0; t < f->T; t++) {
        for (int64_t b = 0; b < f->B; b++) tokens[b] = r->in.tokens[b * f->T + t];
        model_decode(d, tokens, row);
        for (int64_t b = 0; b < f->B; b++)
            memcpy(got + (b * f->T + t) * V, row + b * V, (size_t)V * sizeof *row);
    }
    const double root = sqrt(nmse(got, want, n));
    print_message("%s: logits differ by %.2g (root of NMSE)\n", name, root);
    assert_true(root <= 2e-5);
    model_decoder_destroy(&d);
    rig_close(&rig);
}

/* Of every tensor, the largest difference over the largest value. */
static void check_gradients(const struct reference *r, const char *name)
{
    const struct fixture *f = &r->fixture;
    const double mean = json_real_value(json_object_get(f->json, "loss"));
    struct rig rig;
    rig_open(&rig, f, MODEL_RECOMPUTE_NONE);
    const struct nn_loss loss = rig_train(&rig, &r->in, 1, NULL);
    const float *grads = rig_grads(&rig);
    const double n = (double)(f->B * f->T);
    double all = 0;
    assert_int_equal(loss.n_targets, f->B * f->T);
    assert_true(fabs(loss.sum / n - mean) <= 1e-5 * mean);
    for (int i = 0; i < f->params.n_params; i++) {
        const struct param *p = &f->params.params[i];
        double worst = 0, size = 0;
        for (int64_t k = p->offset; k < p->offset + p->n; k++) {
            worst = fmax(worst, fabs((double)grads[k] / n - (double)r->gradients[k]));
            size = fmax(size, fabs((double)r->gradients[k]));
        }
        if (!(size > 0 && worst <= 1e-4 * size))
            fail_msg("%s, %s: gradient differs by %.3g of %.3g", name, p->name, worst,
                     size);
        all = fmax(all, worst / size);
    }
    print_message("%s: loss %.6f of %.6f, gradients differ by %.2g\n", name, loss.sum / n,
                  mean, all);
    rig_close(&rig);
}

TEST(imported_models_have_the_logits_loss_and_gradients_of_transformers)
{
    for (int i = 0; i < N_MODELS; i++) {
        struct reference r;
        reference_open(&r, models[i]);
        check_logits(&r, models[i]);
        check_gradients(&r, models[i]);
        fixture_close(&r.fixture);
    }
}
