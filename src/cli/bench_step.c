/* Whole training steps of one rank, as src/train makes them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/rng.h"
#include "model/model.h"
#include "optim/optim.h"
#include "train/gemm_peak.h"
#include "train/inputs.h"
#include "train/memory_plan.h"

enum { WARM_UP = 2, ARRAYS = 4 };
enum { ZERO, TRAIN, NORM, UPDATE, STEP, N_PARTS };
static const char *const part_names[N_PARTS] = {"zero gradients", "forward and backward",
                                                "gradient norm", "update", "step"};

/* Everything one step works on. */
struct bench {
    const struct bench_options *o;
    struct config config;
    struct param_table params;
    struct device *device;
    enum dtype dtype;
    struct nn *nn;
    struct model *model;
    struct arena memory;
    void *low; /* weights of dtype; NULL: master */
    float *master, *grads, *exp_avg, *exp_avg_sq;
    float **unit_grads;
    int32_t *ids; /* tokens, targets, positions, doc_start */
    struct input_sums *sums;
    struct model_input input;
    struct device_graph *graph;
    size_t planned_bytes;
    double peak_flops;
    double *seconds[N_PARTS]; /* [steps] */
};

/* The arrays of one micro-batch of random tokens. */
static status_t fill_input(struct bench *b)
{
    const int64_t T = b->o->tokens, N = b->o->batch * T;
    const uint64_t key = rng_key(1, "bench", "tokens"),
                   V = (uint64_t)b->config.arch.vocab_size;
    const size_t bytes = (size_t)(ARRAYS * N) * sizeof(int32_t);
    int32_t *ids = malloc(bytes);
    if (!ids) return status_set(STATUS_NOMEM, "no memory for tokens");
    for (int64_t n = 0; n < N; n++) {
        ids[n] = (int32_t)(rng_u64(key, (uint64_t)n) % V);
        ids[N + n] = (int32_t)(rng_u64(key, (uint64_t)(N + n)) % V);
        ids[2 * N + n] = (int32_t)(n % T);
        ids[3 * N + n] = 0;
    }
    device_copy_in(b->device, b->ids, ids, bytes);
    free(ids);
    b->input = (struct model_input){.B = b->o->batch,
                                    .T = T,
                                    .tokens = b->ids,
                                    .targets = b->ids + N,
                                    .positions = b->ids + 2 * N,
                                    .doc_start =
                                        b->config.document_mask ? b->ids + 3 * N : NULL};
    return STATUS_OK;
}

static status_t fill_weights(struct bench *b)
{
    const int64_t n = b->params.n_elements;
    const size_t bytes = (size_t)n * sizeof(float);
    float *values = malloc(bytes);
    if (!values) return status_set(STATUS_NOMEM, "no memory for initial weights");
    param_init_values(&b->params, 1, 0, n, values);
    device_copy_in(b->device, b->master, values, bytes);
    free(values);
    device_zero(b->device, b->exp_avg, bytes);
    device_zero(b->device, b->exp_avg_sq, bytes);
    if (!b->low) return STATUS_OK;
    struct tensor low = tensor_1d(b->low, b->dtype, n);
    const struct tensor master = tensor_1d(b->master, DTYPE_F32, n);
    nn_cast(b->nn, &low, &master);
    return STATUS_OK;
}

/* Flat buffers and inputs, from an arena that may measure. */
static void take(struct bench *b, struct arena *a)
{
    const int64_t n = b->params.n_elements;
    b->master = arena_floats(a, n);
    b->low =
        b->dtype == DTYPE_F32 ? NULL : arena_alloc(a, (size_t)n * dtype_bytes(b->dtype));
    b->grads = arena_floats(a, n);
    b->exp_avg = arena_floats(a, n);
    b->exp_avg_sq = arena_floats(a, n);
    b->ids =
        arena_alloc(a, (size_t)(ARRAYS * b->o->batch * b->o->tokens) * sizeof(int32_t));
    b->sums = arena_alloc(a, sizeof *b->sums);
}

static status_t prepare(struct bench *b)
{
    TRY(bench_load_config(&b->config, b->o));
    TRY(param_table_init(&b->params, &b->config.arch, NULL, 0));
    TRY(bench_open_device(&b->device, &b->dtype, b->o, &b->config));
    const struct model_options mo = {.arch = &b->config.arch,
                                     .params = &b->params,
                                     .max_B = b->o->batch,
                                     .T = b->o->tokens,
                                     .dtype = b->dtype,
                                     .documents = b->config.document_mask,
                                     .recompute = parts_recompute(&b->config)};
    struct model_needs needs;
    struct arena sizes = arena_measure();
    void *block = NULL;
    TRY(model_measure(&mo, b->device, (int)b->o->threads, true, &needs));
    take(b, &sizes);
    arena_alloc(&sizes, needs.activation_bytes);
    TRY(device_alloc(b->device, sizes.peak_bytes, "a benchmark", &block));
    b->memory = arena_over(block, sizes.peak_bytes);
    take(b, &b->memory);
    TRY(nn_create(&b->nn, b->device, (int)b->o->threads, needs.scratch_bytes));
    b->unit_grads = calloc((size_t)b->params.n_units, sizeof *b->unit_grads);
    if (!b->unit_grads) return status_set(STATUS_NOMEM, "no memory for a benchmark");
    param_units(&b->params, b->grads, b->unit_grads);
    TRY(model_create(&b->model, &mo, b->nn, b->low ? b->low : b->master, b->unit_grads,
                     &b->memory));
    b->planned_bytes = device_allocated_bytes(b->device);
    for (int i = 0; i < N_PARTS; i++) {
        b->seconds[i] = calloc((size_t)b->o->steps, sizeof **b->seconds);
        if (!b->seconds[i])
            return status_set(STATUS_NOMEM, "no memory for %jd times",
                              (intmax_t)b->o->steps);
    }
    TRY(fill_weights(b));
    TRY(fill_input(b));
    return gemm_peak_measure(b->nn, b->dtype, &b->peak_flops);
}

static void release(struct bench *b)
{
    void *block = b->memory.base;
    for (int i = 0; i < N_PARTS; i++) free(b->seconds[i]);
    device_graph_destroy(b->device, &b->graph);
    model_destroy(&b->model);
    free(b->unit_grads);
    nn_destroy(&b->nn);
    if (b->device) device_free(b->device, &block, b->memory.capacity_bytes);
    device_close(&b->device);
    param_table_release(&b->params);
    config_release(&b->config);
}

static void forward_backward(struct bench *b, bool record)
{
    if (record && device_record_begin(b->device)) {
        model_train(b->model, &b->input, &b->sums->loss, 1, NULL);
        b->graph = device_record_end(b->device);
    }
    if (b->graph)
        device_replay(b->device, b->graph);
    else
        model_train(b->model, &b->input, &b->sums->loss, 1, NULL);
}

/* One step.  at: times between its parts; with `apart` the host waits for each part, so that each
 * has its own time and their sum is more than a step's. */
static void step(struct bench *b, int64_t number, bool apart, double at[N_PARTS])
{
    const int64_t n = b->params.n_elements;
    at[0] = clock_seconds();
    device_zero(b->device, b->grads, (size_t)n * sizeof(float));
    device_zero(b->device, b->sums, sizeof *b->sums);
    if (apart) device_wait(b->device);
    at[1] = clock_seconds();
    forward_backward(b, number == WARM_UP && b->config.graphs);
    if (apart) device_wait(b->device);
    at[2] = clock_seconds();
    nn_sum_squares(b->nn, &b->sums->squares, b->grads, n);
    struct input_sums sums;
    device_copy_out(b->device, &sums, b->sums, sizeof sums);
    at[3] = clock_seconds();
    const double targets = (double)sums.loss.n_targets;
    const double norm = sqrt(sums.squares) / targets;
    const struct nn_adamw_range r = {.w = b->master,
                                     .m = b->exp_avg,
                                     .v = b->exp_avg_sq,
                                     .grad = b->grads,
                                     .low = b->low,
                                     .low_type = b->dtype,
                                     .n = n};
    optim_adamw(b->nn, &b->config.optim, &b->params, &r, number, 1e-4,
                optim_clip_factor(norm, 1, 0) / targets);
    device_wait(b->device);
    at[4] = clock_seconds();
}

/* On the CPU a step is the sum of its parts; a device that works on by itself is timed once
 * for the parts and once for the whole. */
static void run(struct bench *b)
{
    const bool host = device_is_host(b->device);
    double at[N_PARTS];
    int64_t number = 1;
    for (; number <= WARM_UP; number++) step(b, number, true, at);
    for (int64_t i = 0; i < b->o->steps; i++) {
        step(b, number++, true, at);
        for (int p = 0; p < STEP; p++) b->seconds[p][i] = at[p + 1] - at[p];
        if (!host) step(b, number++, false, at);
        b->seconds[STEP][i] = at[4] - at[0];
    }
}

static void report(struct bench *b)
{
    double median[N_PARTS];
    struct device_info info;
    device_describe(b->device, &info);
    for (int p = 0; p < N_PARTS; p++)
        median[p] = bench_median(b->seconds[p], b->o->steps);
    const double tokens = (double)(b->o->batch * b->o->tokens) / median[STEP];
    const double flops = tokens * arch_flops_per_token(&b->config.arch, b->o->tokens);
    if (b->o->json) {
        printf("{\"config\": \"%s\", \"batch\": %jd, \"tokens\": %jd, \"threads\": %jd, "
               "\"device\": \"%s\", \"model\": \"%s\", \"isa\": \"%s\", "
               "\"precision\": \"%s\", \"step_seconds\": %.6f, "
               "\"tokens_per_second\": %.3f, \"flops_per_second\": %.6g, "
               "\"gemm_peak\": %.6g, \"planned_bytes\": %zu, "
               "\"device_used_bytes\": %zu, \"peak_rss_bytes\": %jd}\n",
               b->o->config, (intmax_t)b->o->batch, (intmax_t)b->o->tokens,
               (intmax_t)b->o->threads, device_name(b->device), info.model, nn_isa(b->nn),
               dtype_name(b->dtype), median[STEP], tokens, flops, b->peak_flops,
               b->planned_bytes, info.total_bytes - info.free_bytes,
               (intmax_t)memory_peak_rss_bytes());
        return;
    }
    for (int p = 0; p < N_PARTS; p++)
        printf("%-22s %9.4f s %5.1f%%\n", part_names[p], median[p],
               100 * median[p] / median[STEP]);
    printf(
        "%jd x %jd tokens, %s, %s, %s, %jd threads: %.1f tokens/s, %.1f GFLOP/s, %.0f%% "
        "of the %.1f GFLOP/s of a matrix product\n",
        (intmax_t)b->o->batch, (intmax_t)b->o->tokens, info.model, nn_isa(b->nn),
        dtype_name(b->dtype), (intmax_t)b->o->threads, tokens, flops * 1e-9,
        100 * flops / b->peak_flops, b->peak_flops * 1e-9);
    printf("memory: %.1f MB planned", (double)b->planned_bytes * 1e-6);
    if (device_is_host(b->device))
        printf(", %.1f MB resident at the peak\n",
               (double)memory_peak_rss_bytes() * 1e-6);
    else
        printf(" on the device, which has %.1f MB in use\n",
               (double)(info.total_bytes - info.free_bytes) * 1e-6);
}

status_t bench_step(const struct bench_options *o)
{
    struct bench b = {.o = o};
    const status_t st = prepare(&b);
    if (st == STATUS_OK) {
        run(&b);
        report(&b);
    }
    release(&b);
    return st;
}
