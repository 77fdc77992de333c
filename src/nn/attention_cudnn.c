/* When cuDNN is used.  None of this has run on a GPU yet.  The emulated library of tests/emulation
 * computes the graphs; cuDNN 9.19 itself, told of an H100 and an A100 that were not there, named
 * engines for them, and how much workspace they take.  Hence:
 *
 * A shape is tried when it is first measured, in memory of its own and before any step: cuDNN's
 * plans for just this shape against the kernels of this folder, on random numbers.  They must agree
 * within NMSE_LIMIT in y, lse and each of dq, dk, dv, and backward must give the same bits twice.
 * If anything is refused or differs the kernels do the work, and one line says why.  Whatever cuDNN
 * thinks of the graphs, it costs time and not numbers.
 *
 * What is known of a shape belongs to the process: the run that measures and the run that computes
 * must choose the same plan, because its workspace is part of nn->scratch. */
#include "nn/attention_cudnn.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "device/device_cuda.h"
#include "device/plugin.h"
#include "nn/attention_graph_cudnn.h"
#include "nn/backend_cuda.h"
#include "nn/ops_cuda.h"

enum {
    OLDEST_VERSION = 91000, /* since then -inf may stand where a score is masked */
    MAX_DEVICES = 64,
    WORKSPACE_ALIGN_BYTES = 256
};
/* Backward keeps 2 T bytes a row and head; what is longer than this is for the kernels. */
static const int64_t MAX_WORKSPACE_BYTES = (int64_t)1 << 30;
static const double NMSE_LIMIT = 1e-3;

struct known_shape {
    struct known_shape *next;
    int device;
    enum dtype t;
    struct nn_attention a;
    struct cudnn_plan fwd, bwd; /* not there: the kernels' */
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

/* ---- running a plan ------------------------------------------------------------------------ */

struct arrays {
    const char *qkv, *dy;
    char *y, *dqkv;
    float *lse;
};

/* delta, and then the workspace */
static size_t delta_bytes(const struct nn_attention *a)
{
    return arena_align((size_t)(a->B * a->H * a->T) * sizeof(float));
}

static size_t scratch_bytes(const struct cudnn_plan *p, const struct nn_attention *a)
{
    return delta_bytes(a) + WORKSPACE_ALIGN_BYTES + (size_t)p->workspace_bytes;
}

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % CUDNN_OPERAND_ALIGN_BYTES == 0;
}

static cudnnStatus_t run_plan(const struct known_shape *k, const struct cudnn_plan *p,
                              cudaStream_t stream, const struct arrays *x, char *scratch)
{
    const struct nn_attention *a = &k->a;
    _Alignas(CUDNN_OPERAND_ALIGN_BYTES) float scale = a->scale;
    _Alignas(CUDNN_OPERAND_ALIGN_BYTES) float masked = -INFINITY;
    _Alignas(CUDNN_OPERAND_ALIGN_BYTES) float one = 1;
    const int64_t bytes = (int64_t)dtype_bytes(k->t);
    const int64_t to_k = a->H * a->D * bytes, to_v = to_k + a->K * a->D * bytes;
    char *const qkv = (char *)(uintptr_t)x->qkv; /* cuDNN's pointers are not const */
    void *data[CUDNN_OPERANDS] = {
        [CUDNN_OPERAND_Q] = qkv,          [CUDNN_OPERAND_K] = qkv + to_k,
        [CUDNN_OPERAND_V] = qkv + to_v,   [CUDNN_OPERAND_Y] = x->y,
        [CUDNN_OPERAND_LSE] = x->lse,     [CUDNN_OPERAND_SCALE] = &scale,
        [CUDNN_OPERAND_MASKED] = &masked,
    };
    if (p == &k->bwd) {
        data[CUDNN_OPERAND_DQ] = x->dqkv;
        data[CUDNN_OPERAND_DK] = x->dqkv + to_k;
        data[CUDNN_OPERAND_DV] = x->dqkv + to_v;
        data[CUDNN_OPERAND_DY] = (char *)(uintptr_t)x->dy;
        data[CUDNN_OPERAND_DELTA] = scratch;
        data[CUDNN_OPERAND_ONE] = &one;
    }
    uintptr_t workspace = (uintptr_t)scratch + delta_bytes(a) + WORKSPACE_ALIGN_BYTES - 1;
    workspace -= workspace % WORKSPACE_ALIGN_BYTES;
    cudnnHandle_t handle = cudnn.handles[k->device];
    const cudnnStatus_t st = cudnn.library.SetStream(handle, stream);
    if (st != CUDNN_STATUS_SUCCESS) return st;
    return cudnn_plan_run(p, &cudnn.library, handle, data, (void *)workspace);
}

/* ---- trying a shape ------------------------------------------------------------------------ */

/* Two sets of results in one block of device memory: the kernels' and cuDNN's. */
struct trial {
    const struct known_shape *k;
    cudaStream_t stream;
    void *block;
    struct arrays of[2];
    char *scratch[2];
    size_t y_bytes, lse_bytes, qkv_bytes;
};

static void trial_layout(struct trial *t, struct arena *m)
{
    const struct nn_attention *a = &t->k->a;
    const int64_t N = a->B * a->T, H = a->H, D = a->D;
    t->y_bytes = (size_t)(N * H * D) * dtype_bytes(t->k->t);
    t->qkv_bytes = (size_t)(N * (H + 2 * a->K) * D) * dtype_bytes(t->k->t);
    t->lse_bytes = (size_t)(a->B * H * a->T) * sizeof(float);
    const char *qkv = arena_alloc(m, t->qkv_bytes), *dy = arena_alloc(m, t->y_bytes);
    for (int i = 0; i < 2; i++)
        t->of[i] = (struct arrays){.qkv = qkv,
                                   .dy = dy,
                                   .y = arena_alloc(m, t->y_bytes),
                                   .dqkv = arena_alloc(m, t->qkv_bytes),
                                   .lse = arena_alloc(m, t->lse_bytes)};
    const int64_t fwd = cuda_attention_fwd_floats(t->k->t, a);
    const int64_t bwd = cuda_attention_bwd_floats(t->k->t, a);
    t->scratch[0] = arena_alloc(m, (size_t)(fwd > bwd ? fwd : bwd) * sizeof(float));
    const size_t other = scratch_bytes(&t->k->fwd, a),
                 more = scratch_bytes(&t->k->bwd, a);
    t->scratch[1] = arena_alloc(m, other > more ? other : more);
}

/* Multiples of 1/32 in [-2, 2), which both types hold. */
static void fill(uint16_t *x, size_t n, enum dtype t, uint32_t state)
{
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        const float value = (float)(state >> 25) / 32 - 2;
        x[i] = t == DTYPE_BF16 ? dtype_bf16(value) : dtype_f16(value);
    }
}

/* NMSE of columns [begin, end) of rows of `width` numbers; NaN if there is one. */
static double distance(const void *x, const void *expected, enum dtype t, int64_t rows,
                       int64_t width, int64_t begin, int64_t end)
{
    double difference = 0, all = 0;
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t i = n * width + begin; i < n * width + end; i++) {
            float value[2];
            for (int side = 0; side < 2; side++) {
                const void *from = side ? expected : x;
                const size_t at = (size_t)i;
                value[side] = t == DTYPE_F32 ? ((const float *)from)[at]
                              : t == DTYPE_BF16
                                  ? dtype_from_bf16(((const uint16_t *)from)[at])
                                  : dtype_from_f16(((const uint16_t *)from)[at]);
            }
            const double d = (double)value[0] - (double)value[1];
            difference += d * d;
            all += (double)value[1] * (double)value[1];
        }
    }
    return difference == 0 ? 0 : difference / all;
}

static void download(void *host, const void *device, size_t bytes)
{
    device_cuda_check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost),
                      "cudaMemcpy of attention");
}

/* What the kernels computed, what cuDNN did, and what it did the second time. */
static bool trial_agrees(const struct trial *t, char *host[3], char *why, size_t bytes)
{
    const struct nn_attention *a = &t->k->a;
    const enum dtype type = t->k->t;
    const int64_t N = a->B * a->T, HD = a->H * a->D, KD = a->K * a->D, W = HD + 2 * KD;
    const size_t to_lse = t->y_bytes, to_dqkv = arena_align(to_lse + t->lse_bytes);
    const struct {
        const char *name;
        enum dtype t;
        size_t at;
        int64_t rows, width, begin, end;
    } parts[] = {
        {"y", type, 0, N, HD, 0, HD},
        {"lse", DTYPE_F32, to_lse, 1, N * a->H, 0, N * a->H},
        {"dq", type, to_dqkv, N, W, 0, HD},
        {"dk", type, to_dqkv, N, W, HD, HD + KD},
        {"dv", type, to_dqkv, N, W, HD + KD, W},
    };
    const size_t n = t->k->bwd.plan ? 5 : 2;
    for (size_t i = 0; i < n; i++) {
        const double d =
            distance(host[1] + parts[i].at, host[0] + parts[i].at, parts[i].t,
                     parts[i].rows, parts[i].width, parts[i].begin, parts[i].end);
        if (d <= NMSE_LIMIT) continue;
        snprintf(why, bytes, "its %s is not the kernels': NMSE %.1e", parts[i].name, d);
        return false;
    }
    const size_t compared = n == 5 ? to_dqkv + t->qkv_bytes : to_lse + t->lse_bytes;
    if (memcmp(host[1], host[2], to_lse + t->lse_bytes) == 0 &&
        (n < 5 || memcmp(host[1] + to_dqkv, host[2] + to_dqkv, t->qkv_bytes) == 0))
        return compared > 0;
    snprintf(why, bytes, "two runs gave different bits");
    return false;
}

/* The kernels' results (side 0) or cuDNN's, into host. */
static cudnnStatus_t trial_run(const struct trial *t, int side, char *host)
{
    const struct known_shape *k = t->k;
    const struct arrays *x = &t->of[side];
    cudnnStatus_t st = CUDNN_STATUS_SUCCESS;
    /* NaN wherever nothing is written */
    device_cuda_check(cudaMemsetAsync(x->y, 0xFF, t->y_bytes, t->stream), "cudaMemset");
    device_cuda_check(cudaMemsetAsync(x->lse, 0xFF, t->lse_bytes, t->stream),
                      "cudaMemset");
    device_cuda_check(cudaMemsetAsync(x->dqkv, 0xFF, t->qkv_bytes, t->stream),
                      "cudaMemset");
    if (side == 0) {
        float *scratch = (float *)t->scratch[0];
        cuda_attention_fwd(t->stream, k->t, x->y, x->lse, scratch, x->qkv, &k->a);
        cuda_attention_bwd(t->stream, k->t, x->dqkv, scratch, x->dy, x->y, x->lse, x->qkv,
                           &k->a);
    } else {
        st = run_plan(k, &k->fwd, t->stream, x, t->scratch[1]);
        if (st == CUDNN_STATUS_SUCCESS && k->bwd.plan)
            st = run_plan(k, &k->bwd, t->stream, x, t->scratch[1]);
    }
    device_cuda_check(cudaStreamSynchronize(t->stream), "a trial of attention");
    download(host, x->y, t->y_bytes);
    download(host + t->y_bytes, x->lse, t->lse_bytes);
    download(host + arena_align(t->y_bytes + t->lse_bytes), x->dqkv, t->qkv_bytes);
    return st;
}

static bool trial_passes(struct trial *t, char *host[3], char *why, size_t bytes)
{
    uint16_t *values = (uint16_t *)host[0]; /* qkv is not longer than y and dqkv */
    fill(values, t->qkv_bytes / sizeof *values, t->k->t, 1);
    device_cuda_check(cudaMemcpy((char *)(uintptr_t)t->of[0].qkv, values, t->qkv_bytes,
                                 cudaMemcpyHostToDevice),
                      "cudaMemcpy of attention");
    fill(values, t->y_bytes / sizeof *values, t->k->t, 2);
    device_cuda_check(cudaMemcpy((char *)(uintptr_t)t->of[0].dy, values, t->y_bytes,
                                 cudaMemcpyHostToDevice),
                      "cudaMemcpy of attention");
    for (int i = 0; i < 3; i++) {
        const cudnnStatus_t st = trial_run(t, i > 0, host[i]);
        if (st == CUDNN_STATUS_SUCCESS) continue;
        snprintf(why, bytes, "it does not run: %s", cudnn.library.GetErrorString(st));
        return false;
    }
    return trial_agrees(t, host, why, bytes);
}

static bool passes(const struct known_shape *k, cudaStream_t stream, char *why,
                   size_t bytes)
{
    struct trial t = {.k = k, .stream = stream};
    struct arena m = arena_measure();
    trial_layout(&t, &m);
    char *host[3] = {0};
    bool ok = false;
    for (int i = 0; i < 3; i++) {
        host[i] = malloc(arena_align(t.y_bytes + t.lse_bytes) + t.qkv_bytes);
        if (!host[i]) goto no_memory;
    }
    if (cudaMalloc(&t.block, m.peak_bytes) != cudaSuccess) goto no_memory;
    m = arena_over(t.block, m.peak_bytes);
    trial_layout(&t, &m);
    ok = trial_passes(&t, host, why, bytes);
    goto out;
no_memory:
    (void)cudaGetLastError();
    snprintf(why, bytes, "there is no memory to try it");
out:
    if (t.block) device_cuda_check(cudaFree(t.block), "cudaFree");
    for (int i = 0; i < 3; i++) free(host[i]);
    return ok;
}

/* Make the plans of k and try them; those that may not be used are gone afterwards. */
static void try_shape(struct known_shape *k, cudaStream_t stream)
{
    char why[160] = "it gives no handle";
    const struct cudnn_library *lib = &cudnn.library;
    cudnnHandle_t handle = handle_of(k->device);
    bool ok =
        handle && cudnn_plan_fwd(&k->fwd, lib, handle, k->t, &k->a, why, sizeof why);
    if (ok) {
        char no_bwd[sizeof why] = "its workspace is too large";
        if (!cudnn_plan_bwd(&k->bwd, lib, handle, k->t, &k->a, no_bwd, sizeof no_bwd) ||
            k->bwd.workspace_bytes > MAX_WORKSPACE_BYTES) {
            cudnn_plan_release(&k->bwd, lib);
            log_info("attention: own kernels for backward, not cuDNN: %s", no_bwd);
        }
        ok = passes(k, stream, why, sizeof why);
    }
    const struct nn_attention *a = &k->a;
    if (ok) {
        log_info("attention: cuDNN for B=%lld T=%lld H=%lld K=%lld D=%lld %s",
                 (long long)a->B, (long long)a->T, (long long)a->H, (long long)a->K,
                 (long long)a->D, dtype_name(k->t));
        return;
    }
    cudnn_plan_release(&k->fwd, lib);
    cudnn_plan_release(&k->bwd, lib);
    log_info("attention: own kernels, not cuDNN, for B=%lld T=%lld H=%lld K=%lld D=%lld "
             "%s: %s",
             (long long)a->B, (long long)a->T, (long long)a->H, (long long)a->K,
             (long long)a->D, dtype_name(k->t), why);
}

/* ---- the rows ------------------------------------------------------------------------------ */

/* Whatever else a GPU refuses is found out by trying. */
static bool covers(enum dtype t, const struct nn_attention *a)
{
    return (t == DTYPE_BF16 || t == DTYPE_F16) && !a->doc_start && a->D % 8 == 0 &&
           a->D <= 128;
}

static bool same(const struct known_shape *k, int device, enum dtype t,
                 const struct nn_attention *a)
{
    return k->device == device && k->t == t && k->a.B == a->B && k->a.T == a->T &&
           k->a.H == a->H && k->a.K == a->K && k->a.D == a->D && k->a.scale == a->scale;
}

/* What is known; while measuring, find it out.  NULL: the kernels. */
static const struct known_shape *lookup(struct nn *nn, enum dtype t,
                                        const struct nn_attention *a)
{
    if (!covers(t, a) || !load()) return NULL;
    const int device = current_device();
    for (const struct known_shape *k = cudnn.shapes; k; k = k->next)
        if (same(k, device, t, a)) return k;
    if (!nn->measuring) return NULL;
    struct known_shape *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    *k = (struct known_shape){.next = cudnn.shapes, .device = device, .t = t, .a = *a};
    cudnn.shapes = k;
    try_shape(k, backend_cuda(nn)->stream);
    return k;
}

static bool row(struct nn *nn, const struct known_shape *k, const struct cudnn_plan *p,
                const struct arrays *x)
{
    if (!p->plan || (!nn->measuring &&
                     !(is_aligned(x->qkv) && is_aligned(x->y) && is_aligned(x->lse) &&
                       is_aligned(x->dy) && is_aligned(x->dqkv))))
        return false;
    const size_t mark = arena_mark(&nn->scratch);
    char *scratch = arena_alloc(&nn->scratch, scratch_bytes(p, &k->a));
    if (!nn->measuring) {
        const cudnnStatus_t st = run_plan(k, p, backend_cuda(nn)->stream, x, scratch);
        if (st != CUDNN_STATUS_SUCCESS)
            die("attention: cuDNN failed: %s", cudnn.library.GetErrorString(st));
    }
    arena_rewind(&nn->scratch, mark);
    return !nn->measuring;
}

bool attention_cudnn_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                         const struct tensor *qkv, const struct nn_attention *a)
{
    const struct known_shape *k = lookup(nn, qkv->dtype, a);
    const struct arrays x = {.qkv = qkv->data, .y = y->data, .lse = tensor_f32(lse)};
    return k && row(nn, k, &k->fwd, &x);
}

bool attention_cudnn_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                         const struct tensor *y, const struct tensor *lse,
                         const struct tensor *qkv, const struct nn_attention *a)
{
    const struct known_shape *k = lookup(nn, qkv->dtype, a);
    const struct arrays x = {.qkv = qkv->data,
                             .dy = dy->data,
                             .y = y->data,
                             .dqkv = dqkv->data,
                             .lse = tensor_f32(lse)};
    return k && row(nn, k, &k->bwd, &x);
}
