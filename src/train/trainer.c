#include "train/trainer.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "train/gemm_peak.h"
#include "train/launch.h"
#include "train/place.h"
#include "train/plan.h"
#include "train/products.h"
#include "train/signals.h"
#include "train/space.h"
#include "train/weights.h"

/* ---- what the data and the ranks decide --------------------------------------------------- */

static status_t open_sources(struct sampler **s, const struct config *c,
                             const struct config_sources *sources, bool shuffle)
{
    const struct sampler_options o = {
        .sources = sources->items,
        .n_sources = sources->n,
        .T = c->sequence_length,
        .seed = (uint64_t)c->seed,
        .shuffle = shuffle,
        .document_mask = c->document_mask,
        .repetition = shuffle ? c->repetition : (struct repetition_limit){0},
        .vocab_size = c->arch.vocab_size,
        .check = inputs_check(c, sources->items, sources->n)};
    return sampler_create(s, &o);
}

/* The token files' vocabulary must fit the model's, and sets it if the config leaves it open. */
static status_t match_vocabulary(struct config *c, const struct sampler *s, int n)
{
    for (int i = 0; i < n; i++) {
        const struct token_file *f = sampler_file(s, i);
        const int64_t vocab = token_file_info(f)->vocab_size;
        if (c->arch.vocab_size == 0) c->arch.vocab_size = vocab;
        if (vocab > c->arch.vocab_size)
            return status_set(
                STATUS_DATA, "%s: has %jd token ids, but model.vocab_size is %jd",
                token_file_path(f), (intmax_t)vocab, (intmax_t)c->arch.vocab_size);
    }
    return STATUS_OK;
}

/* Two hashes of tokenizers; forms other than ours do not say theirs. */
static bool differ(const char *a, const char *b)
{
    return a[0] && b[0] && strcmp(a, b) != 0;
}

static status_t open_data(struct trainer *t, struct config *c)
{
    TRY(config_check_files(c));
    TRY(open_sources(&t->train_data, c, &c->train, true));
    TRY(match_vocabulary(c, t->train_data, c->train.n));
    const struct token_file *f = sampler_file(t->train_data, 0);
    const char *tokenizer = token_file_info(f)->tokenizer_sha256;
    if (c->validation.n > 0) {
        TRY(open_sources(&t->validation_data, c, &c->validation, false));
        TRY(match_vocabulary(c, t->validation_data, c->validation.n));
        if (differ(
                tokenizer,
                token_file_info(sampler_file(t->validation_data, 0))->tokenizer_sha256))
            return status_set(STATUS_DATA,
                              "%s and %s were made with different tokenizers",
                              c->train.items[0].path, c->validation.items[0].path);
    }
    if (!c->tokenizer[0]) return STATUS_OK;
    char hex[HASH_SHA256_HEX];
    TRY(hash_sha256_file(c->tokenizer, hex));
    if (!differ(hex, tokenizer)) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: was not made with data.tokenizer %s",
                      token_file_path(f), c->tokenizer);
}

/* Ranks of several hosts may find different files under one name, or one shard less.  Collective on
 * world. */
static status_t compare_data(const struct trainer *t, const struct sampler *s, int n)
{
    status_t st = STATUS_OK;
    for (int i = 0; i < n; i++) {
        const struct token_file_info *info = token_file_info(sampler_file(s, i));
        uint64_t first = info->xxh3;
        comm_broadcast(t->world, &first, sizeof first, 0);
        if (first == info->xxh3 || st != STATUS_OK) continue;
        st = status_set(STATUS_DATA,
                        "%s: has other tokens here than on rank 0 (%jd tokens, xxh3 "
                        "%016jx, there %016jx): give all hosts the same files",
                        token_file_path(sampler_file(s, i)), (intmax_t)info->n_tokens,
                        (uintmax_t)info->xxh3, (uintmax_t)first);
    }
    return comm_agree(t->world, st);
}

/* ---- memory -------------------------------------------------------------------------------- */

struct parts_options trainer_parts(const struct trainer *t)
{
    return (struct parts_options){.config = t->config,
                                  .layout = &t->layout,
                                  .params = &t->params,
                                  .device = t->device,
                                  .dtype = t->dtype};
}

float *trainer_gradient(const struct trainer *t, int64_t x)
{
    return t->units ? dp_units_shard(t->units, x) : t->grads + x;
}

struct nn_adamw_range trainer_range(const struct trainer *t, int64_t i, int64_t n_updates)
{
    const struct zero_range r = zero_range(t->zero, i);
    char *low = t->dtype == DTYPE_F32 ? NULL : t->weights;
    const uint64_t seed = (uint64_t)t->config->seed + (uint64_t)n_updates;
    return (struct nn_adamw_range){
        .w = r.master,
        .m = r.exp_avg,
        .v = r.exp_avg_sq,
        .grad = trainer_gradient(t, r.start),
        .low = low ? low + (size_t)r.start * dtype_bytes(t->dtype) : NULL,
        .low_type = t->dtype,
        .rounding = (enum nn_rounding)t->config->optim.rounding,
        .key = rng_key(seed, "rounding", ""),
        .start = r.start,
        .n = r.count};
}

/* Gradients, their reduction and what the update needs. */
static status_t allocate_state(struct trainer *t, const struct parts_options *o)
{
    const struct dp_buckets buckets = parts_buckets(o);
    t->unit_grads = calloc((size_t)t->params.n_units, sizeof *t->unit_grads);
    if (!t->unit_grads) return status_set(STATUS_NOMEM, "no memory for gradients");
    if (t->config->zero == 2) {
        TRY(dp_units_create(&t->units, t->layout.data, &buckets, &t->memory));
        for (int u = 0; u < t->params.n_units; u++)
            t->unit_grads[u] = dp_units_buffer(t->units, u);
    } else {
        t->grads = arena_alloc(&t->memory, t->plan.gradients);
        param_units(&t->params, t->grads, t->unit_grads);
    }
    TRY(dp_create(&t->dp, t->layout.data, buckets, zero_reduction((int)t->config->zero),
                  &t->memory));
    TRY(zero_create(&t->zero, t->dp, t->device, t->weights, t->dtype,
                    t->params.n_elements, &t->memory));
    return mirror_init(&t->mirror, t->device, t->zero, t->config->checkpoint_async);
}

static size_t weight_bytes(const struct trainer *t)
{
    return arena_align((size_t)t->plan.padded_elements * dtype_bytes(t->dtype));
}

/* Who may have them together: ranks that each update only what they own. */
static struct comm *weight_sharers(const struct trainer *t)
{
    return t->config->zero > 0 ? t->layout.data : NULL;
}

/* The model, and what travels in the middle of its passes. */
static status_t allocate_model(struct trainer *t, const struct parts_options *o)
{
    const struct tp_options to = parts_tp(o);
    const struct cp_options co = parts_cp(o);
    const struct pp_options po = parts_pp(o, &t->schedule);
    TRY(tp_create(&t->tp, &to, &t->memory));
    TRY(cp_create(&t->cp, &co, &t->memory));
    if (t->schedule.n_stages > 1) TRY(pp_create(&t->pp, &po, &t->memory));
    const struct model_options mo = parts_model(o, &t->schedule, t->tp, t->cp);
    TRY(nn_create(&t->nn, t->device, t->n_threads, t->plan.scratch));
    return model_create(&t->model, &mo, t->nn, t->weights, t->unit_grads, &t->memory);
}

static status_t allocate(struct trainer *t)
{
    const struct memory_plan *p = &t->plan;
    const struct parts_options o = trainer_parts(t);
    const struct inputs_shape shape = parts_inputs(&o, &t->schedule);
    /* nn takes its own */
    const size_t bytes = memory_plan_device_bytes(p) - p->weights - p->scratch;
    void *block = NULL;
    TRY(device_alloc_shared(t->device, bytes, "gradients, moments and activations",
                            &block));
    t->memory = arena_over(block, bytes);
    TRY(inputs_init(&t->inputs, &t->memory, t->device, &shape));
    t->inputs.whole_sequences = !t->config->document_mask;
    TRY(allocate_state(t, &o));
    weights_touch(t->weights, t->dp, t->device, t->dtype, t->plan.n_near > 1);
    TRY(allocate_model(t, &o));
    TRY(step_state_create(&t->step, t));
    return gemm_peak_measure(t->nn, t->dtype, &t->peak_flops);
}

/* Who has what part of the model. */
static status_t lay_out(struct trainer *t)
{
    const struct config *c = t->config;
    TRY(layout_init(&t->layout, c, comm_rank(t->world), comm_size(t->world)));
    return pp_check((enum pp_kind)c->pipeline, t->layout.shard.n_stages, (int)c->chunks);
}

static status_t plan(struct trainer *t)
{
    const struct config *c = t->config;
    const struct layout *l = &t->layout;
    TRY(parts_schedule(&t->schedule, c, l));
    TRY(param_table_init(&t->whole, &c->arch, NULL, 0));
    TRY(param_table_init(&t->params, &c->arch, &l->shard, parts_unit_align(c, l)));
    const struct parts_options o = trainer_parts(t);
    return memory_plan_make(&t->plan, &o, &t->schedule, t->n_threads);
}

/* Device, precision and what carries large vectors; said by rank 0. */
static status_t choose_place(struct trainer *t)
{
    const struct config *c = t->config;
    const char *why = "", *why_type, *products;
    struct device_info info;
    TRY(place_open(&t->device, t->world, (enum config_device)c->device, c->share_gpu));
    TRY(comm_agree(t->world, place_precision(&t->dtype, &why_type, t->device, t->world,
                                             (enum config_precision)c->precision)));
    TRY(comm_agree(t->world, products_choose(&products, t->device, t->dtype, t->world,
                                             (enum config_products)c->fp32_products)));
    if (c->optim.rounding == NN_ROUND_STOCHASTIC && t->dtype != DTYPE_BF16)
        return status_set(STATUS_CONFIG,
                          "optim.rounding: stochastic rounding is to bf16, but "
                          "train.precision is %s; valid: nearest",
                          dtype_name(t->dtype)); /* all ranks see the same */
    TRY(comm_agree(t->world, place_check_model(t->device, &c->arch)));
    comm_set_timeout(t->world, c->timeout_seconds);
    comm_set_told(t->world, signals_told);
    TRY(comm_use_device(t->world, t->device, (enum comm_transport)c->comm, &why));
    device_describe(t->device, &info);
    log_info("device: %s, %s%s%s%s%s; precision %s (%s)%s%s", device_name(t->device),
             info.model, info.id[0] ? ", " : "", info.id, info.libraries[0] ? "; " : "",
             info.libraries, dtype_name(t->dtype), why_type,
             products ? ", products by " : "", products ? products : "");
    if (comm_size(t->world) > 1)
        log_info("communication: %s (%s)", comm_transport_name(t->world), why);
    if (c->wire == CONFIG_WIRE_BF16 && strcmp(comm_transport_name(t->world), "nccl") == 0)
        return status_set(STATUS_CONFIG,
                          "parallel.wire: NCCL sums gradients in the type they have; "
                          "valid: auto, fp32, or bf16 with parallel.comm mpi");
    return STATUS_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

static status_t compare_notes(struct trainer *t, const struct config *c)
{
    char *text = NULL;
    if (!comm_has_all(t->world)) { /* one rank works by itself: nobody to agree with */
        t->n_threads = c->threads > 0 ? (int)c->threads : omp_get_num_procs();
        omp_set_num_threads(t->n_threads);
        return STATUS_OK;
    }
    TRY(comm_agree(t->world, config_dump(config_whole(c), &text)));
    const status_t st = launch_check(t->world, text, (int)c->threads, &t->share);
    free(text);
    if (st != STATUS_OK) return st;
    t->n_threads = t->share.threads;
    omp_set_num_threads(t->n_threads);
    return STATUS_OK;
}

static void print_setup(const struct trainer *t)
{
    const struct config *c = t->config;
    log_info("model: %s, %jd parameters; %jd layers, hidden %jd, vocabulary %jd",
             c->family, (intmax_t)t->whole.n_real, (intmax_t)c->arch.n_layers,
             (intmax_t)c->arch.hidden, (intmax_t)c->arch.vocab_size);
    log_info(
        "batch: %jd sequences x %jd tokens, micro-batch %jd, %d micro-batch%s a step; "
        "ZeRO stage %jd",
        (intmax_t)config_global_batch(c), (intmax_t)c->sequence_length,
        (intmax_t)c->micro_batch, t->schedule.n_micro,
        t->schedule.n_micro == 1 ? "" : "es", (intmax_t)c->zero);
    log_info(
        "data: %jd training sequences, %jd for validation",
        (intmax_t)sampler_total_windows(t->train_data),
        (intmax_t)(t->validation_data ? sampler_total_windows(t->validation_data) : 0));
    memory_plan_print(&t->plan, comm_size(t->world));
}

/* All that can go wrong before memory is taken. */
static status_t prepare(struct trainer *t, struct comm *world, struct config *c)
{
    int sizes[MESH_AXES];
    *t = (struct trainer){.config = c, .resume = c->resume, .world = world};
    TRY(compare_notes(t, c));
    TRY(comm_agree(world, layout_settle(c, comm_size(world), sizes)));
    TRY(choose_place(t));
    TRY(comm_agree(world, open_data(t, c)));
    TRY(compare_data(t, t->train_data, c->train.n));
    TRY(compare_data(t, t->validation_data, c->validation.n));
    TRY(comm_agree(world, lay_out(t))); /* with the vocabulary that the data gave */
    TRY(layout_connect(&t->layout, world));
    if (c->wire == CONFIG_WIRE_BF16) comm_set_wire(t->layout.data, DTYPE_BF16);
    TRY(comm_agree(world, plan(t)));
    layout_print(&t->layout, world);
    print_setup(t);
    if (t->layout.shard.n_stages > 1 && comm_rank(world) == 0)
        plan_log_idle(c, &t->schedule, t->layout.first_layer);
    return memory_plan_check(&t->plan, c, &t->layout, world, t->device);
}

status_t trainer_check(struct comm *world, struct config *c, struct memory_plan *plan)
{
    struct trainer t;
    status_t st = prepare(&t, world, c);
    if (st == STATUS_OK) st = space_check(&t);
    *plan = t.plan;
    trainer_release(&t);
    return st;
}

/* Before memory is touched.  A rank that works by itself leaves cores to whoever is beside it. */
static void pin(struct trainer *t)
{
    char text[256];
    if (!device_is_host(t->device) || !comm_has_all(t->world)) return;
    pin_team(&t->pin, &t->share, (enum pin_mode)t->config->pin, text, sizeof text);
    int64_t n_pinned = t->pin.n_threads > 0;
    comm_sum_i64(t->world, &n_pinned, 1);
    log_info("threads: %s (rank 0); %jd of %d ranks pinned", text, (intmax_t)n_pinned,
             comm_size(t->world));
}

status_t trainer_init(struct trainer *t, struct comm *world, struct config *c)
{
    TRY(prepare(t, world, c));
    pin(t);
    TRY(comm_agree(world, weights_alloc(&t->weights, weight_sharers(t), t->device,
                                        weight_bytes(t))));
    TRY(comm_agree(world, allocate(t)));
    TRY(saving_init(t));
    comm_sum_f64(world, &t->peak_flops, 1);
    log_info("compute: %s, %d thread%s a rank, %s matrix products %.1f GFLOP/s together",
             nn_isa(t->nn, t->dtype), t->n_threads, t->n_threads == 1 ? "" : "s",
             dtype_name(t->dtype), t->peak_flops * 1e-9);
    return STATUS_OK;
}

status_t trainer_start_loader(struct trainer *t)
{
    struct loader_options o = layout_loader_options(&t->layout, t->config);
    o.sampler = t->train_data;
    o.first_sample = t->progress.next_sample;
    return loader_create(&t->loader, &o);
}

void trainer_release(struct trainer *t)
{
    void *block = t->memory.base;
    saving_release(t);
    if (t->dp) train_settle(t); /* whoever gets here has company: statuses are agreed */
    if (t->device) device_wait(t->device);
    loader_destroy(&t->loader);
    device_graph_destroy(t->device, &t->graph);
    step_state_destroy(&t->step);
    model_destroy(&t->model);
    nn_destroy(&t->nn);
    pp_destroy(&t->pp);
    cp_destroy(&t->cp);
    tp_destroy(&t->tp);
    mirror_release(&t->mirror);
    zero_destroy(&t->zero);
    dp_destroy(&t->dp);
    dp_units_destroy(&t->units);
    free(t->unit_grads);
    inputs_release(&t->inputs);
    if (t->device) device_free(t->device, &block, t->memory.capacity_bytes);
    if (t->weights)
        weights_free(&t->weights, weight_sharers(t), t->device, weight_bytes(t));
    layout_release(&t->layout);
    if (t->world) comm_leave_device(t->world);
    device_close(&t->device);
    pp_schedule_release(&t->schedule);
    param_table_release(&t->params);
    param_table_release(&t->whole);
    sampler_destroy(&t->validation_data);
    sampler_destroy(&t->train_data);
    pin_release(&t->pin);
    *t = (struct trainer){0};
}
