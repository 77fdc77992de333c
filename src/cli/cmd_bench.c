#include <getopt.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "config/config.h"
#include "core/clock.h"
#include "core/rng.h"
#include "model/model.h"
#include "optim/optim.h"
#include "train/gemm_peak.h"
#include "train/memory_plan.h"

static const char help[] =
    "usage: yoke bench step CONFIG [--batch B] [--tokens T] [--steps N] [--threads N]\n"
    "                       [--json]\n\n"
    "Time whole training steps (forward, backward, gradient norm, AdamW) of the model "
    "that\n"
    "CONFIG describes, on random tokens, on one rank; medians over the steps after a "
    "warm-up.\n\n"
    "  --batch B      sequences (default 4)\n"
    "  --tokens T     tokens of each (default 512)\n"
    "  --steps N      steps that are timed (default 5)\n"
    "  --threads N    default: OpenMP's\n"
    "  --json         one JSON object instead of a table\n";

struct arguments {
    const char *config;
    int64_t batch, tokens, steps, threads;
    bool json;
};

enum { ZERO, TRAIN, NORM, UPDATE, STEP, N_PARTS };
static const char *const part_names[N_PARTS] = {"zero gradients", "forward and backward",
                                                "gradient norm", "update", "step"};

/* Everything one step works on. */
struct bench {
    struct config config;
    struct param_table params;
    struct device *device;
    struct nn *nn;
    struct model *model;
    struct arena memory;
    float *weights, *grads, *exp_avg, *exp_avg_sq;
    int32_t *ids; /* tokens, targets, positions, doc_start */
    struct model_input input;
    size_t planned_bytes;
    double peak_flops;
    double *seconds[N_PARTS]; /* [steps] */
};

static void fill_input(struct bench *b, const struct arguments *a)
{
    const int64_t N = a->batch * a->tokens;
    const uint64_t key = rng_key(1, "bench", "tokens"),
                   V = (uint64_t)b->config.arch.vocab_size;
    for (int64_t n = 0; n < N; n++) {
        b->ids[n] = (int32_t)(rng_u64(key, (uint64_t)n) % V);
        b->ids[N + n] = (int32_t)(rng_u64(key, (uint64_t)(N + n)) % V);
        b->ids[2 * N + n] = (int32_t)(n % a->tokens);
        b->ids[3 * N + n] = 0;
    }
    b->input = (struct model_input){.B = a->batch,
                                    .T = a->tokens,
                                    .tokens = b->ids,
                                    .targets = b->ids + N,
                                    .positions = b->ids + 2 * N,
                                    .doc_start = b->ids + 3 * N};
}

static status_t prepare(struct bench *b, const struct arguments *a)
{
    TRY(config_load(&b->config, a->config, NULL, 0));
    struct arch *arch = &b->config.arch;
    if (arch->vocab_size == 0)
        return status_set(STATUS_CONFIG,
                          "%s: model.vocab_size must be given to be benchmarked",
                          a->config);
    if (arch->max_positions < a->tokens) arch->max_positions = a->tokens;
    TRY(param_table_init(&b->params, arch));
    TRY(device_open(&b->device, "cpu"));
    const struct model_options mo = {
        .arch = arch, .params = &b->params, .max_B = a->batch, .T = a->tokens};
    struct model_needs needs;
    TRY(model_measure(&mo, b->device, (int)a->threads, true, &needs));
    const size_t flat = arena_align((size_t)b->params.n_elements * sizeof(float));
    const size_t ids = arena_align((size_t)(4 * a->batch * a->tokens) * sizeof(int32_t));
    const size_t bytes = 4 * flat + ids + needs.activation_bytes;
    void *block = NULL;
    TRY(device_alloc(b->device, bytes, "a benchmark", &block));
    b->memory = arena_over(block, bytes);
    b->weights = arena_floats(&b->memory, b->params.n_elements);
    b->grads = arena_floats(&b->memory, b->params.n_elements);
    b->exp_avg = arena_floats(&b->memory, b->params.n_elements);
    b->exp_avg_sq = arena_floats(&b->memory, b->params.n_elements);
    b->ids = arena_alloc(&b->memory, ids);
    TRY(nn_create(&b->nn, b->device, (int)a->threads, needs.scratch_bytes));
    TRY(model_create(&b->model, &mo, b->nn, b->weights, b->grads, &b->memory));
    b->planned_bytes = device_allocated_bytes(b->device);
    for (int i = 0; i < N_PARTS; i++) {
        b->seconds[i] = calloc((size_t)a->steps, sizeof **b->seconds);
        if (!b->seconds[i])
            return status_set(STATUS_NOMEM, "no memory for %jd times",
                              (intmax_t)a->steps);
    }
    param_init_values(&b->params, 1, 0, b->params.n_elements, b->weights);
    fill_input(b, a);
    return gemm_peak_measure(b->nn, &b->peak_flops);
}

static void release(struct bench *b)
{
    void *block = b->memory.base;
    for (int i = 0; i < N_PARTS; i++) free(b->seconds[i]);
    model_destroy(&b->model);
    nn_destroy(&b->nn);
    if (b->device) device_free(b->device, &block, b->memory.capacity_bytes);
    device_close(&b->device);
    param_table_release(&b->params);
    config_release(&b->config);
}

/* One step; seconds[i] gets the times unless `i` is negative (warm-up). */
static void step(struct bench *b, int64_t i, int64_t number)
{
    struct nn_loss loss = {0};
    double at[N_PARTS];
    const int64_t n = b->params.n_elements;
    at[0] = clock_seconds();
    device_zero(b->device, b->grads, (size_t)n * sizeof(float));
    at[1] = clock_seconds();
    model_train(b->model, &b->input, &loss, NULL, NULL);
    at[2] = clock_seconds();
    const double norm = sqrt(nn_sum_squares(b->nn, b->grads, n)) / (double)loss.n_targets;
    at[3] = clock_seconds();
    const double scale = optim_clip_factor(norm, 1) / (double)loss.n_targets;
    optim_adamw(b->nn, &b->config.optim, &b->params, 0, n, b->weights, b->exp_avg,
                b->exp_avg_sq, b->grads, number, 1e-4, scale);
    at[4] = clock_seconds();
    for (int p = 0; i >= 0 && p < STEP; p++) b->seconds[p][i] = at[p + 1] - at[p];
    if (i >= 0) b->seconds[STEP][i] = at[4] - at[0];
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *b, const struct arguments *a)
{
    double median[N_PARTS];
    for (int p = 0; p < N_PARTS; p++) {
        qsort(b->seconds[p], (size_t)a->steps, sizeof(double), ascending);
        median[p] = b->seconds[p][a->steps / 2];
    }
    const double tokens = (double)(a->batch * a->tokens) / median[STEP];
    const double flops = tokens * arch_flops_per_token(&b->config.arch, a->tokens);
    if (a->json) {
        printf("{\"config\": \"%s\", \"batch\": %jd, \"tokens\": %jd, \"threads\": %jd, "
               "\"isa\": \"%s\", \"step_seconds\": %.6f, \"tokens_per_second\": %.3f, "
               "\"flops_per_second\": %.6g, \"gemm_peak\": %.6g, \"planned_bytes\": %zu, "
               "\"peak_rss_bytes\": %jd}\n",
               a->config, (intmax_t)a->batch, (intmax_t)a->tokens, (intmax_t)a->threads,
               nn_isa(b->nn), median[STEP], tokens, flops, b->peak_flops,
               b->planned_bytes, (intmax_t)memory_peak_rss_bytes());
        return;
    }
    for (int p = 0; p < N_PARTS; p++)
        printf("%-22s %9.4f s %5.1f%%\n", part_names[p], median[p],
               100 * median[p] / median[STEP]);
    printf(
        "%jd x %jd tokens, %jd threads, %s: %.1f tokens/s, %.1f GFLOP/s, %.0f%% of the "
        "%.1f GFLOP/s of a matrix product\n",
        (intmax_t)a->batch, (intmax_t)a->tokens, (intmax_t)a->threads, nn_isa(b->nn),
        tokens, flops * 1e-9, 100 * flops / b->peak_flops, b->peak_flops * 1e-9);
    printf("memory: %.1f MB planned, %.1f MB resident at the peak\n",
           (double)b->planned_bytes * 1e-6, (double)memory_peak_rss_bytes() * 1e-6);
}

static int parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
    static const struct option options[] = {{"batch", required_argument, NULL, 'b'},
                                            {"tokens", required_argument, NULL, 't'},
                                            {"steps", required_argument, NULL, 'n'},
                                            {"threads", required_argument, NULL, 'j'},
                                            {"json", no_argument, NULL, 'J'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *a = (struct arguments){
        .batch = 4, .tokens = 512, .steps = 5, .threads = omp_get_max_threads()};
    *exit_code = 0;
    opterr = 0;
    status_t st = STATUS_OK;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?')
            return *exit_code = cli_usage("bench", "unknown or incomplete option"), 1;
        if (c == 'b') st = option_int("--batch", optarg, 1, 1 << 20, &a->batch);
        if (c == 't') st = option_int("--tokens", optarg, 1, 1 << 24, &a->tokens);
        if (c == 'n') st = option_int("--steps", optarg, 1, 100000, &a->steps);
        if (c == 'j') st = option_int("--threads", optarg, 1, 4096, &a->threads);
        if (c == 'J') a->json = true;
    }
    if (st != STATUS_OK) return *exit_code = cli_exit(st, NULL), 1;
    if (argc - optind != 2 || strcmp(argv[optind], "step") != 0)
        return *exit_code = cli_usage("bench", "give: step CONFIG"), 1;
    a->config = argv[optind + 1];
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    struct arguments a;
    struct bench b = {0};
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    omp_set_num_threads((int)a.threads);
    const status_t st = prepare(&b, &a);
    if (st == STATUS_OK) {
        for (int64_t i = 0; i < a.steps + 2; i++)
            step(&b, i - 2, i + 1); /* two to warm up */
        report(&b, &a);
    }
    release(&b);
    return cli_exit(st, NULL);
}
