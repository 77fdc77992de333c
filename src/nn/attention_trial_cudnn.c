/* cuDNN's plans for one shape against the kernels of this folder, in memory of its own. */
#include "nn/attention_trial_cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "device/device_cuda.h"
#include "nn/ops_cuda.h"

static const double NMSE_LIMIT = 1e-3;

/* Two sets of results in one block of device memory: the kernels' and cuDNN's. */
struct trial {
    const struct cudnn_attention *c;
    cudaStream_t stream;
    void *block;
    struct attention_arrays of[2];
    char *scratch[2];
    size_t y_bytes, lse_bytes, qkv_bytes;
};

static void trial_layout(struct trial *t, struct arena *m)
{
    const struct nn_attention *a = &t->c->a;
    const int64_t N = a->B * a->T, H = a->H, D = a->D;
    t->y_bytes = (size_t)(N * H * D) * dtype_bytes(t->c->t);
    t->qkv_bytes = (size_t)(N * (H + 2 * a->K) * D) * dtype_bytes(t->c->t);
    t->lse_bytes = (size_t)(a->B * H * a->T) * sizeof(float);
    const char *qkv = arena_alloc(m, t->qkv_bytes), *dy = arena_alloc(m, t->y_bytes);
    for (int i = 0; i < 2; i++)
        t->of[i] = (struct attention_arrays){.qkv = qkv,
                                             .dy = dy,
                                             .y = arena_alloc(m, t->y_bytes),
                                             .dqkv = arena_alloc(m, t->qkv_bytes),
                                             .lse = arena_alloc(m, t->lse_bytes)};
    const int64_t fwd = cuda_attention_fwd_floats(t->c->t, a);
    const int64_t bwd = cuda_attention_bwd_floats(t->c->t, a);
    t->scratch[0] = arena_alloc(m, (size_t)(fwd > bwd ? fwd : bwd) * sizeof(float));
    const size_t other = cudnn_attention_scratch_bytes(t->c, &t->c->fwd),
                 more = cudnn_attention_scratch_bytes(t->c, &t->c->bwd);
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
    const struct nn_attention *a = &t->c->a;
    const enum dtype type = t->c->t;
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
    const size_t n = t->c->bwd.plan ? 5 : 2;
    for (size_t i = 0; i < n; i++) {
        const double d =
            distance(host[1] + parts[i].at, host[0] + parts[i].at, parts[i].t,
                     parts[i].rows, parts[i].width, parts[i].begin, parts[i].end);
        if (d <= NMSE_LIMIT) continue;
        snprintf(why, bytes, "its %s is not the kernels': NMSE %.1e", parts[i].name, d);
        return false;
    }
    if (memcmp(host[1], host[2], to_lse + t->lse_bytes) == 0 &&
        (n < 5 || memcmp(host[1] + to_dqkv, host[2] + to_dqkv, t->qkv_bytes) == 0))
        return true;
    snprintf(why, bytes, "two runs gave different bits");
    return false;
}

/* The kernels' results (side 0) or cuDNN's, into host. */
static cudnnStatus_t trial_run(const struct trial *t, int side, char *host)
{
    const struct cudnn_attention *c = t->c;
    const struct attention_arrays *x = &t->of[side];
    cudnnStatus_t st = CUDNN_STATUS_SUCCESS;
    /* NaN wherever nothing is written */
    device_cuda_check(cudaMemsetAsync(x->y, 0xFF, t->y_bytes, t->stream), "cudaMemset");
    device_cuda_check(cudaMemsetAsync(x->lse, 0xFF, t->lse_bytes, t->stream),
                      "cudaMemset");
    device_cuda_check(cudaMemsetAsync(x->dqkv, 0xFF, t->qkv_bytes, t->stream),
                      "cudaMemset");
    if (side == 0) {
        float *scratch = (float *)t->scratch[0];
        cuda_attention_fwd(t->stream, c->t, x->y, x->lse, scratch, x->qkv, &c->a);
        cuda_attention_bwd(t->stream, c->t, x->dqkv, scratch, x->dy, x->y, x->lse, x->qkv,
                           &c->a);
    } else {
        st = cudnn_attention_run(c, &c->fwd, t->stream, x, t->scratch[1]);
        if (st == CUDNN_STATUS_SUCCESS && c->bwd.plan)
            st = cudnn_attention_run(c, &c->bwd, t->stream, x, t->scratch[1]);
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
    fill(values, t->qkv_bytes / sizeof *values, t->c->t, 1);
    device_cuda_check(cudaMemcpy((char *)(uintptr_t)t->of[0].qkv, values, t->qkv_bytes,
                                 cudaMemcpyHostToDevice),
                      "cudaMemcpy of attention");
    fill(values, t->y_bytes / sizeof *values, t->c->t, 2);
    device_cuda_check(cudaMemcpy((char *)(uintptr_t)t->of[0].dy, values, t->y_bytes,
                                 cudaMemcpyHostToDevice),
                      "cudaMemcpy of attention");
    for (int i = 0; i < 3; i++) {
        const cudnnStatus_t st = trial_run(t, i > 0, host[i]);
        if (st == CUDNN_STATUS_SUCCESS) continue;
        snprintf(why, bytes, "it does not run: %s", t->c->lib->GetErrorString(st));
        return false;
    }
    return trial_agrees(t, host, why, bytes);
}

bool cudnn_attention_agrees(const struct cudnn_attention *c, cudaStream_t stream,
                            char *why, size_t bytes)
{
    struct trial t = {.c = c, .stream = stream};
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
