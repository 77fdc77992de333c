#include "nn/yardstick.h"

#include <dlfcn.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

struct yardstick {
    struct yardstick_product p;
    /* oneDNN's */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[3];
    /* OpenBLAS's; NULL: oneDNN's */
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta, float *c,
                  int ldc);
};

/* ---- oneDNN -------------------------------------------------------------------------------- */

static bool describe(dnnl_memory_desc_t *d, const struct tensor *x, bool trans)
{
    const int64_t ld = x->shape[1];
    const dnnl_dims_t shape = {x->shape[trans ? 1 : 0], x->shape[trans ? 0 : 1]};
    const dnnl_dims_t strides = {trans ? 1 : ld, trans ? ld : 1};
    return dnnl_memory_desc_init_by_strides(d, 2, shape,
                                            x->dtype == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32,
                                            strides) == dnnl_success;
}

static bool make_primitive(struct yardstick *y, const dnnl_memory_desc_t d[3])
{
    dnnl_matmul_desc_t product;
    dnnl_post_ops_t sum = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t chosen = NULL;
    const bool ok =
        dnnl_post_ops_create(&sum) == dnnl_success &&
        dnnl_primitive_attr_create(&attributes) == dnnl_success &&
        (y->p.mode == NN_ASSIGN || dnnl_post_ops_append_sum(sum, 1) == dnnl_success) &&
        dnnl_primitive_attr_set_post_ops(attributes, sum) == dnnl_success &&
        dnnl_matmul_desc_init(&product, &d[0], &d[1], NULL, &d[2]) == dnnl_success &&
        dnnl_primitive_desc_create(&chosen, &product, attributes, y->engine, NULL) ==
            dnnl_success &&
        dnnl_primitive_create(&y->primitive, chosen) == dnnl_success;
    if (chosen) dnnl_primitive_desc_destroy(chosen);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (sum) dnnl_post_ops_destroy(sum);
    return ok;
}

static bool prepare_onednn(struct yardstick *y)
{
    static const int names[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    const struct tensor *x[3] = {&y->p.a, &y->p.b, &y->p.c};
    const bool trans[3] = {y->p.trans_a, y->p.trans_b, false};
    dnnl_memory_desc_t d[3];
    bool ok = dnnl_engine_create(&y->engine, dnnl_cpu, 0) == dnnl_success &&
              dnnl_stream_create(&y->stream, y->engine, dnnl_stream_default_flags) ==
                  dnnl_success;
    for (int i = 0; ok && i < 3; i++) {
        y->arguments[i].arg = names[i];
        ok = describe(&d[i], x[i], trans[i]) &&
             dnnl_memory_create(&y->arguments[i].memory, &d[i], y->engine, x[i]->data) ==
                 dnnl_success;
    }
    return ok && make_primitive(y, d);
}

/* ---- OpenBLAS ------------------------------------------------------------------------------ */

/* A function of the library, which stays open; NULL: it is not here. */
static void *openblas(const char *function)
{
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    return library ? dlsym(library, function) : NULL;
}

static bool prepare_openblas(struct yardstick *y)
{
    void *sgemm = openblas("cblas_sgemm");
    if (!sgemm || y->p.a.dtype != DTYPE_F32) return false;
    memcpy(&y->sgemm, &sgemm, sizeof sgemm); /* C knows no cast to a function */
    return true;
}

static void run_openblas(const struct yardstick *y)
{
    enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };
    const struct yardstick_product *p = &y->p;
    const int lda = (int)p->a.shape[1], ldb = (int)p->b.shape[1];
    y->sgemm(ROW_MAJOR, p->trans_a ? TRANSPOSED : PLAIN, p->trans_b ? TRANSPOSED : PLAIN,
             (int)p->c.shape[0], (int)p->c.shape[1],
             p->trans_a ? (int)p->a.shape[0] : lda, 1, p->a.data, lda, p->b.data, ldb,
             p->mode == NN_ACCUM ? 1 : 0, p->c.data, (int)p->c.shape[1]);
}

/* ---- both ---------------------------------------------------------------------------------- */

const char *yardstick_name(enum yardstick_library l)
{
    static char name[64];
    void *function = openblas("openblas_get_corename");
    const char *(*kernels)(void) = NULL;
    memcpy(&kernels, &function, sizeof function);
    if (l == YARDSTICK_ONEDNN) return "oneDNN";
    snprintf(name, sizeof name, "OpenBLAS (%s)", kernels ? kernels() : "not here");
    return name;
}

struct yardstick *yardstick_create(enum yardstick_library l,
                                   const struct yardstick_product *p)
{
    struct yardstick *y = calloc(1, sizeof *y);
    if (!y) return NULL;
    y->p = *p;
    if (!(l == YARDSTICK_ONEDNN ? prepare_onednn(y) : prepare_openblas(y)))
        yardstick_destroy(&y);
    return y;
}

void yardstick_run(struct yardstick *y)
{
    if (y->sgemm) {
        run_openblas(y);
        return;
    }
    if (dnnl_primitive_execute(y->primitive, y->stream, 3, y->arguments) !=
            dnnl_success ||
        dnnl_stream_wait(y->stream) != dnnl_success)
        die("oneDNN: a matrix product failed");
}

void yardstick_destroy(struct yardstick **y)
{
    if (!*y) return;
    for (int i = 0; i < 3; i++)
        if ((*y)->arguments[i].memory) dnnl_memory_destroy((*y)->arguments[i].memory);
    if ((*y)->primitive) dnnl_primitive_destroy((*y)->primitive);
    if ((*y)->stream) dnnl_stream_destroy((*y)->stream);
    if ((*y)->engine) dnnl_engine_destroy((*y)->engine);
    free(*y);
    *y = NULL;
}
