/* Whole training steps, as yoke train makes them, of the model a configuration describes: on random
 * tokens that the loader reads from a file, under mpirun on all ranks.  What a step consists of adds
 * up to its wall time. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/bench_parts.h"
#include "core/clock.h"
#include "core/log.h"
#include "train/trainer.h"

enum { WARM_UP = 3, OVERRIDE_BYTES = PATH_MAX + 64, MAX_OURS = 24 };

struct bench {
    const struct bench_options *o;
    struct comm *world;
    struct config given, config; /* what CONFIG says; that of the run */
    struct trainer trainer;
    struct bench_parts
        *steps; /* [o->steps + 1]; the last is a step by its operations, of a
                                  device that does not keep an account at full speed */
    double alone[NN_ACCOUNT_MAX]; /* the products of a step by themselves */
    size_t allocated_bytes;
    int64_t peak_rss_bytes;
};

/* ---- the run ---------------------------------------------------------------------------------- */

/* Overrides of a run in `folder`; the caller's come behind them and count more. */
struct overrides {
    char text[MAX_OURS][OVERRIDE_BYTES];
    const char *list[MAX_OURS + BENCH_MAX_OVERRIDES];
    int n;
};

__attribute__((format(printf, 2, 3))) static void override(struct overrides *v,
                                                           const char *format, ...)
{
    va_list args;
    CHECK(v->n < MAX_OURS);
    va_start(args, format);
    vsnprintf(v->text[v->n], OVERRIDE_BYTES, format, args);
    va_end(args);
    v->list[v->n] = v->text[v->n];
    v->n++;
}

static void fill_overrides(struct overrides *v, const struct bench *b, const char *folder)
{
    const struct bench_options *o = b->o;
    override(v, "data.train=%s/tokens.h5", folder);
    override(v, "data.validation=[]");
    override(v, "data.tokenizer=\"\"");
    override(v, "data.sequence_length=%jd", (intmax_t)o->tokens);
    override(v, "train.run_dir=%s/run", folder);
    override(v, "train.batch_tokens=0");
    override(v, "train.batch_sequences=%jd", (intmax_t)(o->batch * comm_size(b->world)));
    override(v, "train.micro_batch=%jd", (intmax_t)o->batch);
    override(v, "train.threads=%jd", (intmax_t)o->threads);
    override(v, "parallel={dp: auto, tp: 1, cp: 1, pp: 1, chunks: 1, stages: auto}");
    override(v, "checkpoint={interval: 0, async: false, resume: never}");
    override(v, "train.eval_interval=0");
    if (b->given.arch.max_positions > 0)
        override(v, "model.max_positions=%jd", (intmax_t)b->given.arch.max_positions);
    for (int i = 0; i < o->n_overrides; i++) v->list[v->n++] = o->overrides[i];
}

/* Of a configuration with stages, the first. */
static status_t settle_config(struct bench *b, const char *folder)
{
    const struct bench_options *o = b->o;
    struct overrides *v = calloc(1, sizeof *v);
    char *whole = NULL, *first = NULL;
    status_t st = v ? config_dump(&b->given, &whole)
                    : status_set(STATUS_NOMEM, "no memory for a configuration");
    if (st == STATUS_OK) st = config_text_at(o->config, whole, 0, &first);
    if (st == STATUS_OK) {
        fill_overrides(v, b, folder);
        st = config_parse(&b->config, o->config, first, strlen(first), v->list, v->n);
    }
    if (st == STATUS_OK) {
        if (o->device >= 0) b->config.device = o->device;
        if (o->precision >= 0) b->config.precision = o->precision;
    }
    free(first);
    free(whole);
    free(v);
    return st;
}

static status_t prepare(struct bench *b, const char *folder)
{
    TRY(comm_agree(b->world, settle_config(b, folder)));
    TRY(trainer_init(&b->trainer, b->world, &b->config));
    b->allocated_bytes = device_allocated_bytes(b->trainer.device);
    TRY(trainer_start_fresh(&b->trainer));
    b->steps = calloc((size_t)b->o->steps + 1, sizeof *b->steps);
    TRY(comm_agree(b->world, b->steps ? trainer_start_loader(&b->trainer)
                                      : status_set(STATUS_NOMEM, "no memory for times")));
    return STATUS_OK;
}

/* ---- timing ----------------------------------------------------------------------------------- */

/* One step; with `parts` an account of it is kept. */
static status_t time_step(struct bench *b, struct bench_parts *parts, bool account)
{
    struct trainer *t = &b->trainer;
    struct step_stats s;
    if (account) TRY(comm_agree(b->world, nn_account_begin(t->nn)));
    bench_parts_begin(parts, t);
    const double start = clock_seconds();
    train_step(t, &s);
    device_wait(t->device);
    parts->seconds = clock_seconds() - start;
    bench_parts_end(parts, t);
    nn_account_end(t->nn);
    return STATUS_OK;
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const struct bench_parts *)a)->seconds;
    const double y = ((const struct bench_parts *)b)->seconds;
    return (x > y) - (x < y);
}

/* On the CPU every step keeps its account.  A device that works on by itself is timed at full speed,
 * and then makes one more step operation by operation. */
static status_t run(struct bench *b)
{
    struct trainer *t = &b->trainer;
    const int64_t n = b->o->steps;
    const bool host = device_is_host(t->device);
    for (int i = 0; i < WARM_UP; i++) TRY(time_step(b, &b->steps[0], false));
    for (int64_t i = 0; i < n; i++) TRY(time_step(b, &b->steps[i], host));
    qsort(b->steps, (size_t)n, sizeof *b->steps, by_time);
    if (host) {
        b->steps[n] = b->steps[n / 2];
    } else {
        b->config.graphs = false;
        device_graph_destroy(t->device, &t->graph);
        TRY(time_step(b, &b->steps[n], true));
    }
    train_settle(t);
    b->peak_rss_bytes = memory_peak_rss_bytes();
    return bench_parts_alone(&b->steps[n], t->device, t->n_threads, t->dtype, b->alone);
}

/* ---- what is printed -------------------------------------------------------------------------- */

static void print_json(const struct bench *b, const struct bench_parts *p, double tokens,
                       double flops, const struct device_info *info)
{
    const struct trainer *t = &b->trainer;
    printf("{\"config\": \"%s\", \"batch\": %jd, \"tokens\": %jd, \"ranks\": %d, "
           "\"threads\": %jd, \"device\": \"%s\", \"model\": \"%s\", \"isa\": \"%s\", "
           "\"precision\": \"%s\", \"step_seconds\": %.6f, "
           "\"tokens_per_second\": %.3f, \"flops_per_second\": %.6g, "
           "\"gemm_peak\": %.6g, \"planned_bytes\": %zu, "
           "\"device_used_bytes\": %zu, \"peak_rss_bytes\": %jd, "
           "\"page_faults\": %jd, ",
           b->o->config, (intmax_t)b->o->batch, (intmax_t)b->o->tokens,
           comm_size(b->world), (intmax_t)t->n_threads, device_name(t->device),
           info->model, nn_isa(t->nn, t->dtype), dtype_name(t->dtype), p->seconds, tokens,
           flops, t->peak_flops, b->allocated_bytes, info->total_bytes - info->free_bytes,
           (intmax_t)b->peak_rss_bytes, (intmax_t)p->page_faults);
    bench_parts_print(&b->steps[b->o->steps], b->alone, &b->config.arch, true);
    printf("}\n");
}

static void print_text(const struct bench *b, const struct bench_parts *p, double tokens,
                       double flops, const struct device_info *info)
{
    const struct trainer *t = &b->trainer;
    bench_parts_print(&b->steps[b->o->steps], b->alone, &b->config.arch, false);
    printf("%jd x %jd tokens on each of %d rank%s, %s, %s, %s, %d threads: %.1f "
           "tokens/s, %.1f GFLOP/s, %.0f%% of the %.1f GFLOP/s of a matrix product\n",
           (intmax_t)b->o->batch, (intmax_t)b->o->tokens, comm_size(b->world),
           comm_size(b->world) == 1 ? "" : "s", info->model, nn_isa(t->nn, t->dtype),
           dtype_name(t->dtype), t->n_threads, tokens, flops * 1e-9,
           100 * flops / t->peak_flops, t->peak_flops * 1e-9);
    printf("memory: %.1f MB planned", (double)b->allocated_bytes * 1e-6);
    if (device_is_host(t->device))
        printf(", %.1f MB resident at the peak; %jd page faults in a step\n",
               (double)b->peak_rss_bytes * 1e-6, (intmax_t)p->page_faults);
    else
        printf(" on the device, which has %.1f MB in use\n",
               (double)(info->total_bytes - info->free_bytes) * 1e-6);
}

static void report(struct bench *b)
{
    const struct bench_options *o = b->o;
    struct device_info info;
    const struct bench_parts *p = &b->steps[o->steps / 2];
    const double n = (double)(o->batch * o->tokens * comm_size(b->world));
    const double tokens = n / p->seconds;
    const double flops = tokens * arch_flops_per_token(&b->config.arch, o->tokens);
    device_describe(b->trainer.device, &info);
    if (o->json)
        print_json(b, p, tokens, flops, &info);
    else
        print_text(b, p, tokens, flops, &info);
}

/* In a folder with enough tokens for some steps, in documents of whole sequences. */
static status_t bench_in(struct bench *b, char folder[PATH_MAX])
{
    enum { LEAST_LENGTH = 4096 };
    const struct bench_options *o = b->o;
    const int64_t T = o->tokens, all = o->batch * comm_size(b->world);
    const int64_t sequences = LEAST_LENGTH / T > all ? LEAST_LENGTH / T : all;
    const struct bench_tokens tokens = {.vocab = b->given.arch.vocab_size,
                                        .length = sequences * T};
    TRY(bench_make_folder(b->world, o->folder, &tokens, folder));
    status_t st = prepare(b, folder);
    if (st == STATUS_OK) st = comm_agree(b->world, run(b));
    log_set_step(-1);
    if (st == STATUS_OK && comm_rank(b->world) == 0) report(b);
    trainer_release(&b->trainer);
    bench_remove_folder(b->world, folder);
    return st;
}

status_t bench_step(struct comm *world, const struct bench_options *o)
{
    struct bench b = {.o = o, .world = world};
    char folder[PATH_MAX];
    const bool loud = log_set_quiet(true);
    status_t st = comm_agree(world, bench_load_config(&b.given, o));
    if (st == STATUS_OK) st = bench_in(&b, folder);
    log_set_quiet(loud);
    free(b.steps);
    config_release(&b.config);
    config_release(&b.given);
    return st;
}
