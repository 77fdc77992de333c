#include "train/trainer.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "train/gemm_peak.h"
#include "train/launch.h"
#include "train/place.h"

/* ---- what the data and the ranks decide --------------------------------------------------- */

static status_t make_mesh(struct trainer *t)
{
    const int ranks = comm_size(t->world);
    const int sizes[MESH_AXES] = {
        [MESH_TP] = 1, [MESH_CP] = 1, [MESH_DP] = ranks, [MESH_PP] = 1};
    const int64_t dp = t->config->dp;
    if (dp > 0 && dp != ranks)
        return status_set(STATUS_CONFIG,
                          "parallel.dp: %jd does not fit the %d ranks that were "
                          "started; valid: auto or %d",
                          (intmax_t)dp, ranks, ranks);
    const int64_t batch = config_global_batch(t->config);
    if (batch < ranks)
        return status_set(STATUS_CONFIG,
                          "train.batch_sequences: %jd sequences a step cannot be "
                          "shared by %d ranks; valid: %d or more",
                          (intmax_t)batch, ranks, ranks);
    return mesh_init(&t->mesh, comm_rank(t->world), ranks, sizes);
}

static status_t open_sources(struct sampler **s, const struct config *c,
                             const struct config_sources *sources, bool shuffle)
{
    const struct sampler_options o = {.sources = sources->items,
                                      .n_sources = sources->n,
                                      .T = c->sequence_length,
                                      .seed = (uint64_t)c->seed,
                                      .shuffle = shuffle,
                                      .document_mask = c->document_mask,
                                      .check =
                                          inputs_check(c, sources->items, sources->n)};
    return sampler_create(s, &o);
}

/* The token files' vocabulary must fit the model's, and sets it if the config leaves it open. */
static status_t match_vocabulary(struct config *c, const struct sampler *s)
{
    const struct token_file *f = sampler_file(s, 0);
    const int64_t vocab = token_file_info(f)->vocab_size;
    if (c->arch.vocab_size == 0) c->arch.vocab_size = vocab;
    if (vocab <= c->arch.vocab_size) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: has %jd token ids, but model.vocab_size is %jd",
                      token_file_path(f), (intmax_t)vocab, (intmax_t)c->arch.vocab_size);
}

static status_t open_data(struct trainer *t, struct config *c)
{
    TRY(config_check_files(c));
    TRY(open_sources(&t->train_data, c, &c->train, true));
    TRY(match_vocabulary(c, t->train_data));
    if (c->validation.n > 0) {
        TRY(open_sources(&t->validation_data, c, &c->validation, false));
        TRY(match_vocabulary(c, t->validation_data));
        const char *a = token_file_info(sampler_file(t->train_data, 0))->tokenizer_sha256;
        const char *b =
            token_file_info(sampler_file(t->validation_data, 0))->tokenizer_sha256;
        if (strcmp(a, b) != 0)
            return status_set(STATUS_DATA,
                              "%s and %s were made with different tokenizers",
                              c->train.items[0].path, c->validation.items[0].path);
    }
    if (!c->tokenizer[0]) return STATUS_OK;
    char hex[HASH_SHA256_HEX];
    const struct token_file *f = sampler_file(t->train_data, 0);
    TRY(hash_sha256_file(c->tokenizer, hex));
    if (strcmp(hex, token_file_info(f)->tokenizer_sha256) == 0) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: was not made with data.tokenizer %s",
                      token_file_path(f), c->tokenizer);
}

/* ---- memory -------------------------------------------------------------------------------- */

static status_t allocate(struct trainer *t)
{
    const struct memory_plan *p = &t->plan;
    const struct config *c = t->config;
    const size_t bytes = memory_plan_device_bytes(p) - p->scratch; /* nn takes its own */
    void *block = NULL;
    TRY(device_alloc(t->device, bytes, "weights, gradients, moments and activations",
                     &block));
    t->memory = arena_over(block, bytes);
    t->weights = arena_alloc(&t->memory, p->weights);
    t->grads = arena_alloc(&t->memory, p->gradients);
    TRY(inputs_init(&t->inputs, &t->memory, t->device, c->micro_batch,
                    c->sequence_length));
    t->inputs.whole_sequences = !c->document_mask;
    TRY(dp_create(&t->dp, t->data_parallel, p->padded_elements,
                  memory_plan_bucket_elements(c), zero_reduction((int)c->zero),
                  &t->memory));
    TRY(zero_create(&t->zero, t->dp, t->device, t->weights, t->dtype,
                    t->params.n_elements, &t->memory));
    TRY(mirror_init(&t->mirror, t->device, t->zero));
    const struct model_options mo = memory_plan_model_options(c, &t->params, t->dtype);
    TRY(nn_create(&t->nn, t->device, t->n_threads, p->scratch));
    TRY(model_create(&t->model, &mo, t->nn, t->weights, t->grads, &t->memory));
    return gemm_peak_measure(t->nn, t->dtype, &t->peak_flops);
}

static status_t plan(struct trainer *t)
{
    TRY(param_table_init(&t->params, &t->config->arch, NULL, 0));
    const struct memory_plan_options o = {.config = t->config,
                                          .params = &t->params,
                                          .device = t->device,
                                          .dtype = t->dtype,
                                          .data_parallel = t->data_parallel,
                                          .n_threads = t->n_threads};
    return memory_plan_make(&t->plan, &o);
}

/* Device, precision and what carries large vectors; said by rank 0. */
static status_t choose_place(struct trainer *t)
{
    const struct config *c = t->config;
    const char *why = "";
    struct device_info info;
    TRY(place_open(&t->device, t->world, (enum config_device)c->device, c->share_gpu));
    TRY(comm_agree(t->world, place_precision(&t->dtype, t->device,
                                             (enum config_precision)c->precision)));
    if (c->optim.rounding == NN_ROUND_STOCHASTIC && t->dtype != DTYPE_BF16)
        return status_set(STATUS_CONFIG,
                          "optim.rounding: stochastic rounding is to bf16, but "
                          "train.precision is %s; valid: nearest",
                          dtype_name(t->dtype)); /* all ranks see the same */
    TRY(comm_agree(t->world, place_check_model(t->device, &c->arch)));
    comm_set_timeout(t->world, c->timeout_seconds);
    TRY(comm_use_device(t->world, t->device, (enum comm_transport)c->comm, &why));
    device_describe(t->device, &info);
    log_info("device: %s, %s%s%s%s%s; precision %s", device_name(t->device), info.model,
             info.id[0] ? ", " : "", info.id, info.libraries[0] ? "; " : "",
             info.libraries, dtype_name(t->dtype));
    if (comm_size(t->world) > 1)
        log_info("communication: %s (%s)", comm_transport_name(t->world), why);
    return STATUS_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

static status_t compare_notes(struct trainer *t, const struct config *c)
{
    char *text = NULL;
    TRY(comm_agree(t->world, config_dump(c, &text)));
    const status_t st = launch_check(t->world, text, (int)c->threads, &t->n_threads);
    free(text);
    if (st == STATUS_OK) omp_set_num_threads(t->n_threads);
    return st;
}

static void print_setup(const struct trainer *t)
{
    const struct config *c = t->config;
    log_info("model: %s, %jd parameters; %jd layers, hidden %jd, vocabulary %jd",
             c->family, (intmax_t)t->params.n_real, (intmax_t)c->arch.n_layers,
             (intmax_t)c->arch.hidden, (intmax_t)c->arch.vocab_size);
    log_info("batch: %jd sequences x %jd tokens, micro-batch %jd, on %d rank%s; ZeRO "
             "stage %jd",
             (intmax_t)config_global_batch(c), (intmax_t)c->sequence_length,
             (intmax_t)c->micro_batch, comm_size(t->data_parallel),
             comm_size(t->data_parallel) == 1 ? "" : "s", (intmax_t)c->zero);
    log_info(
        "data: %jd training sequences, %jd for validation",
        (intmax_t)sampler_total_windows(t->train_data),
        (intmax_t)(t->validation_data ? sampler_total_windows(t->validation_data) : 0));
    memory_plan_print(&t->plan, comm_size(t->world));
}

status_t trainer_init(struct trainer *t, struct comm *world, struct config *c)
{
    *t = (struct trainer){.config = c, .world = world};
    TRY(compare_notes(t, c));
    TRY(comm_agree(world, make_mesh(t)));
    TRY(choose_place(t));
    TRY(comm_create(&t->data_parallel, world, &t->mesh, MESH_DP));
    TRY(comm_agree(world, open_data(t, c)));
    TRY(comm_agree(world, plan(t)));
    print_setup(t);
    TRY(memory_plan_check(&t->plan, world, t->device));
    TRY(comm_agree(world, allocate(t)));
    comm_sum_f64(world, &t->peak_flops, 1);
    log_info("compute: %s, %d thread%s a rank, %s matrix products %.1f GFLOP/s together",
             nn_isa(t->nn), t->n_threads, t->n_threads == 1 ? "" : "s",
             dtype_name(t->dtype), t->peak_flops * 1e-9);
    return STATUS_OK;
}

status_t trainer_start_loader(struct trainer *t)
{
    struct loader_options o = memory_plan_loader_options(t->config, t->data_parallel);
    o.sampler = t->train_data;
    o.first_sample = t->progress.next_sample;
    return loader_create(&t->loader, &o);
}

void trainer_release(struct trainer *t)
{
    void *block = t->memory.base;
    if (t->dp) train_settle(t); /* whoever gets here has company: statuses are agreed */
    if (t->device) device_wait(t->device);
    loader_destroy(&t->loader);
    device_graph_destroy(t->device, &t->graph);
    model_destroy(&t->model);
    nn_destroy(&t->nn);
    mirror_release(&t->mirror);
    zero_destroy(&t->zero);
    dp_destroy(&t->dp);
    inputs_release(&t->inputs);
    if (t->device) device_free(t->device, &block, t->memory.capacity_bytes);
    comm_destroy(&t->data_parallel);
    if (t->world) comm_leave_device(t->world);
    device_close(&t->device);
    param_table_release(&t->params);
    sampler_destroy(&t->validation_data);
    sampler_destroy(&t->train_data);
    *t = (struct trainer){0};
}
