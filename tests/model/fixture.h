/* fixture - the stored tiny models of tests/fixtures (scripts/fixtures/make_model_fixtures.py)
 * and a model over them. */
#pragma once

#include <jansson.h>
#include <limits.h>
#include <stdio.h>

#include "core/file.h"
#include "harness/harness.h"
#include "model/model.h"

/* One for each family. */
static const char *const fixture_names[] = {"gpt2",  "llama",   "qwen2",
                                            "olmo2", "smollm3", "gpt_neox"};
enum { N_FIXTURES = sizeof fixture_names / sizeof *fixture_names };

struct fixture {
    const char *family;
    json_t *json;
    float *floats;        /* values, then gradients of each case */
    const float *weights; /* in table order; NULL: out of `floats` */
    struct arch arch;
    struct param_table params;
    int64_t B, T;
};

static inline int64_t fixture_int(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    assert_non_null(v);
    return json_integer_value(v);
}

static inline void fixture_open(struct fixture *f, const char *name)
{
    char path[PATH_MAX], *bytes;
    size_t n;
    const char *source = getenv("YOKE_SOURCE");
    assert_non_null(source);
    *f = (struct fixture){.family = name};
    snprintf(path, sizeof path, "%s/tests/fixtures/model_%s.json", source, name);
    f->json = json_load_file(path, 0, NULL);
    assert_non_null(f->json);
    snprintf(path, sizeof path, "%s/tests/fixtures/model_%s.bin", source, name);
    ASSERT_OK(file_read(path, 1 << 20, &bytes, &n));
    f->floats = (float *)(void *)bytes;

    const json_t *a = json_object_get(f->json, "arch");
    f->arch = (struct arch){.n_layers = fixture_int(a, "n_layers"),
                            .hidden = fixture_int(a, "hidden"),
                            .n_heads = fixture_int(a, "n_heads"),
                            .n_kv_heads = fixture_int(a, "n_kv_heads"),
                            .head_size = fixture_int(a, "head_size"),
                            .ffn = fixture_int(a, "ffn"),
                            .vocab_size = fixture_int(a, "vocab_size"),
                            .max_positions = fixture_int(a, "max_positions")};
    ASSERT_OK(arch_family(&f->arch, name));
    ASSERT_OK(param_table_init(&f->params, &f->arch, NULL, 0));
    f->B = fixture_int(f->json, "B");
    f->T = fixture_int(f->json, "T");
}

static inline void fixture_close(struct fixture *f)
{
    json_decref(f->json);
    free(f->floats);
    param_table_release(&f->params);
}

/* Copy the fixture's tensors that start at `first` into a flat buffer in table order; every
 * parameter of the table must be there with its shape. */
static inline void fixture_to_flat(const struct fixture *f, int64_t first, float *flat)
{
    const json_t *list = json_object_get(f->json, "params");
    assert_int_equal(json_array_size(list), f->params.n_params);
    size_t i;
    const json_t *p;
    json_array_foreach(list, i, p)
    {
        const int k =
            param_find(&f->params, json_string_value(json_object_get(p, "name")));
        assert_true(k >= 0);
        const struct param *param = &f->params.params[k];
        const json_t *shape = json_object_get(p, "shape");
        assert_int_equal(json_array_size(shape), param->n_dims);
        for (int d = 0; d < param->n_dims; d++)
            assert_int_equal(json_integer_value(json_array_get(shape, (size_t)d)),
                             param->shape[d]);
        memcpy(flat + param->offset, f->floats + first + fixture_int(p, "offset"),
               (size_t)param->n * sizeof *flat);
    }
}

static inline int32_t *fixture_list(const json_t *o, const char *key)
{
    const json_t *list = json_object_get(o, key);
    assert_non_null(list);
    int32_t *x = test_alloc(json_array_size(list) * sizeof *x);
    for (size_t i = 0; i < json_array_size(list); i++)
        x[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return x;
}

static inline struct model_input fixture_input(const struct fixture *f, const json_t *one)
{
    return (struct model_input){.B = f->B,
                                .T = f->T,
                                .tokens = fixture_list(one, "tokens"),
                                .targets = fixture_list(one, "targets"),
                                .positions = fixture_list(one, "positions"),
                                .doc_start = fixture_list(one, "doc_start")};
}

/* A model over weights and gradients of its own, on the device under test; all pointers but
 * `fixture` are to its memory. */
struct rig {
    const struct fixture *fixture;
    struct device *device;
    struct nn *nn;
    struct model *model;
    struct arena arena;
    enum dtype dtype;
    void *weights; /* [n_elements] of dtype */
    float *grads;  /* [n_elements], zero before the first rig_train */
    float **unit_grads;
};

/* Training and decoding take the larger of what they need. */
static inline struct model_needs rig_measure(const struct model_options *o,
                                             struct device *dev)
{
    struct model_needs needs;
    struct nn *nn = NULL;
    struct model *m = NULL;
    struct model_decoder *d = NULL;
    struct arena arena = arena_measure();
    ASSERT_OK(model_measure(o, dev, 2, true, &needs));
    ASSERT_OK(nn_create_measuring(&nn, dev, 2));
    ASSERT_OK(model_create(&m, o, nn, NULL, NULL, &arena));
    ASSERT_OK(model_decoder_create(&d, m, o->max_B, o->T));
    model_decode(d, NULL, NULL);
    if (needs.activation_bytes < arena.peak_bytes)
        needs.activation_bytes = arena.peak_bytes;
    if (needs.scratch_bytes < nn_scratch_peak_bytes(nn))
        needs.scratch_bytes = nn_scratch_peak_bytes(nn);
    model_decoder_destroy(&d);
    model_destroy(&m);
    nn_destroy(&nn);
    return needs;
}

/* `flat`, in host memory, becomes the weights. */
static inline void rig_set_weights(struct rig *r, const float *flat)
{
    const int64_t n = r->fixture->params.n_elements;
    void *bits = test_alloc((size_t)n * dtype_bytes(r->dtype));
    dtype_convert(bits, r->dtype, flat, DTYPE_F32, n);
    device_copy_in(r->device, r->weights, bits, (size_t)n * dtype_bytes(r->dtype));
}

static inline float *fixture_weights(const struct fixture *f)
{
    const size_t bytes = (size_t)f->params.n_elements * sizeof(float);
    float *flat = test_alloc(bytes);
    if (f->weights)
        memcpy(flat, f->weights, bytes);
    else
        fixture_to_flat(f, 0, flat);
    return flat;
}

/* `name`: of the device. */
static inline void rig_open_on(struct rig *r, const char *name, const struct fixture *f,
                               enum model_recompute recompute, enum dtype t)
{
    const struct model_options o = {.arch = &f->arch,
                                    .params = &f->params,
                                    .max_B = f->B,
                                    .T = f->T,
                                    .recompute = recompute,
                                    .dtype = t};
    *r = (struct rig){.fixture = f, .dtype = t};
    ASSERT_OK(test_named_device_open(&r->device, name));
    const struct model_needs needs = rig_measure(&o, r->device);
    const size_t n = (size_t)f->params.n_elements;
    char *dirt = test_alloc(needs.activation_bytes);
    memset(dirt, 0xff, needs.activation_bytes); /* NaNs: nothing is read unwritten */
    r->arena = arena_over(bytes_on_device(r->device, dirt, needs.activation_bytes),
                          needs.activation_bytes);
    r->weights =
        bytes_on_device(r->device, test_alloc(n * dtype_bytes(t)), n * dtype_bytes(t));
    r->grads =
        bytes_on_device(r->device, test_alloc(n * sizeof(float)), n * sizeof(float));
    rig_set_weights(r, fixture_weights(f));
    ASSERT_OK(nn_create(&r->nn, r->device, 2, needs.scratch_bytes));
    r->unit_grads = test_alloc((size_t)f->params.n_units * sizeof *r->unit_grads);
    param_units(&f->params, r->grads, r->unit_grads);
    ASSERT_OK(model_create(&r->model, &o, r->nn, r->weights, r->unit_grads, &r->arena));
}

static inline void rig_open(struct rig *r, const struct fixture *f,
                            enum model_recompute recompute)
{
    rig_open_on(r, test_device_name(), f, recompute, DTYPE_F32);
}

static inline void rig_close(struct rig *r)
{
    model_destroy(&r->model);
    nn_destroy(&r->nn);
    test_device_close(&r->device);
}

static inline struct model_input rig_input(struct rig *r, const struct model_input *host)
{
    const int64_t N = host->B * host->T;
    struct model_input in = *host;
    in.tokens = ints_on_device(r->device, host->tokens, N);
    in.targets = ints_on_device(r->device, host->targets, N);
    in.positions = ints_on_device(r->device, host->positions, N);
    in.doc_start = ints_on_device(r->device, host->doc_start, N);
    return in;
}

/* The model's functions from and to host memory: the loss of this call alone. */
static inline struct nn_loss rig_train(struct rig *r, const struct model_input *host,
                                       float gradient_scale,
                                       const struct model_hooks *hooks)
{
    struct nn_loss loss = {0};
    const struct model_input in = rig_input(r, host);
    struct nn_loss *on = bytes_on_device(r->device, &loss, sizeof loss);
    model_train(r->model, &in, on, gradient_scale, hooks);
    device_copy_out(r->device, &loss, on, sizeof loss);
    return loss;
}

static inline struct nn_loss rig_loss(struct rig *r, const struct model_input *host,
                                      float *row_loss)
{
    struct nn_loss loss = {0};
    const struct model_input in = rig_input(r, host);
    struct nn_loss *on = bytes_on_device(r->device, &loss, sizeof loss);
    struct tensor rows = dirty_on_device(r->device, DTYPE_F32, 1, host->B * host->T);
    model_loss(r->model, &in, on, row_loss ? tensor_f32(&rows) : NULL);
    device_copy_out(r->device, &loss, on, sizeof loss);
    if (row_loss) device_copy_out(r->device, row_loss, rows.data, tensor_bytes(&rows));
    return loss;
}

static inline float *rig_grads(struct rig *r)
{
    const size_t bytes = (size_t)r->fixture->params.n_elements * sizeof(float);
    float *flat = test_alloc(bytes);
    device_copy_out(r->device, flat, r->grads, bytes);
    return flat;
}
