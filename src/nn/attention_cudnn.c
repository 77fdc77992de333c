/* When cuDNN is used.  On an H100 forward ran and agreed; backward was refused for its workspace, so
 * that has run on the emulated library of tests/emulation only, which computes the graphs.
 *
 * A shape is tried when it is first measured, in memory of its own and before any step: cuDNN's
 * plans for just this shape against the kernels of this folder, on random numbers.  They must agree
 * within 1e-3 (NMSE) in y, lse and each of dq, dk, dv, and backward must give the same bits twice.
 * If anything is refused or differs the kernels do the work, and one line says why.  Whatever cuDNN
 * thinks of the graphs, it costs time and not numbers.
 *
 * What is known of a shape belongs to the process: the run that measures and the run that computes
 * must choose the same plan, because its workspace is part of nn->scratch. */
#include "nn/attention_cudnn.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "device/device_cuda.h"
#include "device/plugin.h"
#include "nn/attention_trial_cudnn.h"
#include "nn/backend_cuda.h"

enum {
    OLDEST_VERSION = 91000, /* since then -inf may stand where a score is masked */
    MAX_DEVICES = 64
};
/* Backward keeps 2 T bytes a row and head: 1.6 GB for GPT-2 124M with 64 x 1024 tokens, 2.1 GB for
 * Llama 1.3B with 4 x 4096, where the kernels of this folder run at a quarter of a product's speed.
 * What is longer than this is for them. */
static const int64_t MAX_WORKSPACE_BYTES = (int64_t)4 << 30;

struct known_shape {
    struct known_shape *next;
    int device;
    struct cudnn_attention of;
};

static struct {
    bool searched, found;
    struct cudnn_library library;
    cudnnHandle_t handles[MAX_DEVICES];
    struct known_shape *shapes;
} cudnn;

/* ---- finding it ---------------------------------------------------------------------------- */

/* What this very file is linked against, else the library of that name. */
static void *find_library(void)
{
    Dl_info self;
    if (dladdr(&cudnn, &self)) {
        void *handle = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        if (handle && dlsym(handle, "cudnnGetVersion")) return handle;
    }
    return plugin_find_library("libcudnn.so.9");
}

static bool load(void)
{
    if (cudnn.searched) return cudnn.found;
    cudnn.searched = true;
    void *library = find_library();
    if (!library) return false; /* an ordinary machine: nothing to report */
    __typeof__(cudnnGetVersion) *version = NULL;
    *(void **)&version = dlsym(library, "cudnnGetVersion");
    const size_t number = version ? version() : 0;
    const char *missing = number < OLDEST_VERSION ? "version 9.10" : NULL;
#define CUDNN_FIND(name)                                                                 \
    *(void **)&cudnn.library.name = dlsym(library, "cudnn" #name);                       \
    if (!missing && !cudnn.library.name) missing = "cudnn" #name;
    CUDNN_FUNCTIONS(CUDNN_FIND)
    cudnn.found = !missing;
    if (missing) log_info("attention: own kernels, cuDNN %zu lacks %s", number, missing);
    return cudnn.found;
}

/* The handle of the current device; NULL if there can be none. */
static cudnnHandle_t handle_of(int device)
{
    if (device < 0 || device >= MAX_DEVICES) return NULL;
    if (!cudnn.handles[device] &&
        cudnn.library.Create(&cudnn.handles[device]) != CUDNN_STATUS_SUCCESS)
        cudnn.handles[device] = NULL;
    return cudnn.handles[device];
}

static int current_device(void)
{
    int device = -1;
    device_cuda_check(cudaGetDevice(&device), "cudaGetDevice");
    return device;
}

/* ---- trying a shape ------------------------------------------------------------------------ */

static bool plan_fwd(struct cudnn_attention *c, char *why, size_t bytes)
{
    if (!c->handle || !cudnn_attention_plan_fwd(c, why, bytes)) return false;
    if (c->fwd.workspace_bytes <= MAX_WORKSPACE_BYTES) return true;
    snprintf(why, bytes, "its workspace is too large");
    return false;
}

/* Forward is of use alone, too. */
static void plan_bwd(struct cudnn_attention *c)
{
    char why[160] = "its workspace is too large";
    if (cudnn_attention_plan_bwd(c, why, sizeof why) &&
        c->bwd.workspace_bytes <= MAX_WORKSPACE_BYTES)
        return;
    cudnn_plan_release(&c->bwd, c->lib);
    log_info("attention: own kernels for the next shape's backward, cuDNN: %s", why);
}

/* Make the plans of c and try them; those that may not be used are gone afterwards. */
static void try_shape(struct cudnn_attention *c, cudaStream_t stream)
{
    char why[160] = "it gives no handle", shape[96];
    const struct nn_attention *a = &c->a;
    snprintf(shape, sizeof shape, "B=%lld T=%lld H=%lld K=%lld D=%lld %s",
             (long long)a->B, (long long)a->T, (long long)a->H, (long long)a->K,
             (long long)a->D, dtype_name(c->t));
    bool ok = plan_fwd(c, why, sizeof why);
    if (ok) {
        plan_bwd(c);
        ok = cudnn_attention_agrees(c, stream, why, sizeof why);
    }
    if (ok) {
        log_info("attention: cuDNN for %s", shape);
        return;
    }
    cudnn_plan_release(&c->fwd, c->lib);
    cudnn_plan_release(&c->bwd, c->lib);
    log_info("attention: own kernels for %s, cuDNN: %s", shape, why);
}

/* ---- the rows ------------------------------------------------------------------------------ */

/* Whatever else a GPU refuses is found out by trying. */
static bool covers(enum dtype t, const struct nn_attention *a)
{
    return (t == DTYPE_BF16 || t == DTYPE_F16) && !a->doc_start && a->D % 8 == 0 &&
           a->D <= 128 && a->H == a->K * a->group;
}

static bool same(const struct known_shape *k, int device, enum dtype t,
                 const struct nn_attention *a)
{
    const struct nn_attention *b = &k->of.a;
    return k->device == device && k->of.t == t && b->B == a->B && b->T == a->T &&
           b->H == a->H && b->K == a->K && b->D == a->D && b->scale == a->scale;
}

/* What is known; while measuring, find it out.  NULL: the kernels. */
static const struct cudnn_attention *lookup(struct nn *nn, enum dtype t,
                                            const struct nn_attention *a)
{
    if (!covers(t, a) || !load()) return NULL;
    const int device = current_device();
    for (const struct known_shape *k = cudnn.shapes; k; k = k->next)
        if (same(k, device, t, a)) return &k->of;
    if (!nn->measuring) return NULL;
    struct known_shape *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->next = cudnn.shapes;
    k->device = device;
    k->of.lib = &cudnn.library;
    k->of.handle = handle_of(device);
    k->of.t = t;
    k->of.a = *a;
    cudnn.shapes = k;
    try_shape(&k->of, backend_cuda(nn)->stream);
    return &k->of;
}

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % GRAPH_ALIGN_BYTES == 0;
}

static bool row(struct nn *nn, const struct cudnn_attention *c,
                const struct cudnn_plan *p, const struct attention_arrays *x)
{
    if (!p->plan) return false;
    if (!nn->measuring && !(is_aligned(x->qkv) && is_aligned(x->dy) && is_aligned(x->y) &&
                            is_aligned(x->dqkv) && is_aligned(x->lse)))
        return false;
    const size_t mark = arena_mark(&nn->scratch);
    char *scratch = arena_alloc(&nn->scratch, cudnn_attention_scratch_bytes(c, p));
    if (!nn->measuring) {
        const cudnnStatus_t st =
            cudnn_attention_run(c, p, backend_cuda(nn)->stream, x, scratch);
        if (st != CUDNN_STATUS_SUCCESS) {
            device_cuda_check(cudaGetLastError(), "attention");
            die("attention: cuDNN failed: %s", cudnn.library.GetErrorString(st));
        }
    }
    arena_rewind(&nn->scratch, mark);
    return !nn->measuring;
}

bool attention_cudnn_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                         const struct tensor *qkv, const struct nn_attention *a)
{
    const struct cudnn_attention *c = lookup(nn, qkv->dtype, a);
    const struct attention_arrays x = {
        .qkv = qkv->data, .y = y->data, .lse = tensor_f32(lse)};
    return c && row(nn, c, &c->fwd, &x);
}

bool attention_cudnn_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                         const struct tensor *y, const struct tensor *lse,
                         const struct tensor *qkv, const struct nn_attention *a)
{
    const struct cudnn_attention *c = lookup(nn, qkv->dtype, a);
    const struct attention_arrays x = {.qkv = qkv->data,
                                       .dy = dy->data,
                                       .y = y->data,
                                       .dqkv = dqkv->data,
                                       .lse = tensor_f32(lse)};
    return c && row(nn, c, &c->bwd, &x);
}
