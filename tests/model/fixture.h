/* fixture - the stored tiny models of tests/fixtures (scripts/fixtures/make_model_fixtures.py)
 * and a model over them. */
#pragma once

#include <jansson.h>
#include <limits.h>
#include <stdio.h>

#include "core/file.h"
#include "harness/harness.h"
#include "model/model.h"

struct fixture {
    json_t *json;
    float *floats; /* values, then gradients of each case */
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
    ASSERT_OK(arch_family(&f->arch, json_string_value(json_object_get(a, "family"))));
    ASSERT_OK(param_table_init(&f->params, &f->arch));
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

/* A model over weights and gradients of its own. */
struct rig {
    struct device *device;
    struct nn *nn;
    struct model *model;
    struct arena arena;
    float *weights, *grads; /* [n_elements], gradients zero */
};

static inline void rig_open(struct rig *r, const struct fixture *f,
                            enum model_recompute recompute)
{
    const struct model_options o = {.arch = &f->arch,
                                    .params = &f->params,
                                    .max_B = f->B,
                                    .T = f->T,
                                    .recompute = recompute};
    struct model_needs needs;
    *r = (struct rig){0};
    ASSERT_OK(device_open(&r->device, "cpu"));
    ASSERT_OK(model_measure(&o, r->device, 2, true, &needs));
    r->arena = arena_over(test_alloc(needs.activation_bytes), needs.activation_bytes);
    memset(r->arena.base, 0xff,
           needs.activation_bytes); /* NaNs: nothing is read unwritten */
    r->weights = test_alloc((size_t)f->params.n_elements * sizeof(float));
    r->grads = test_alloc((size_t)f->params.n_elements * sizeof(float));
    fixture_to_flat(f, 0, r->weights);
    ASSERT_OK(nn_create(&r->nn, r->device, 2, needs.scratch_bytes));
    ASSERT_OK(model_create(&r->model, &o, r->nn, r->weights, r->grads, &r->arena));
}

static inline void rig_close(struct rig *r)
{
    model_destroy(&r->model);
    nn_destroy(&r->nn);
    device_close(&r->device);
}
