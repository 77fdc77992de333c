#include "train/inference.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "train/place.h"

static status_t open_checkpoint(struct inference *i, const char *path)
{
    char inside[PATH_MAX], latest[PATH_MAX];
    if (!file_exists(path))
        return status_set(STATUS_CHECKPOINT,
                          "%s: does not exist; give a run folder or a "
                          "checkpoint folder",
                          path);
    file_join(inside, sizeof inside, path, "model.h5");
    if (file_exists(inside)) return checkpoint_open(&i->checkpoint, path);
    TRY(checkpoint_find_latest(path, latest));
    if (!latest[0])
        return status_set(STATUS_CHECKPOINT, "%s: holds no checkpoint (step-*/model.h5)",
                          path);
    return checkpoint_open(&i->checkpoint, latest);
}

/* A GPU in the precision that it trains in, or the CPU. */
static status_t open_device(struct inference *i, const struct inference_options *o)
{
    TRY(place_open_alone(&i->device, (enum config_device)o->device, o->local_rank));
    TRY(place_check_model(i->device, &i->config.arch));
    return place_precision(&i->dtype, i->device, CONFIG_PRECISION_AUTO);
}

static status_t load_weights(struct inference *i, const struct inference_options *o)
{
    const struct checkpoint_meta *meta = checkpoint_meta(i->checkpoint);
    TRY(config_parse(&i->config, checkpoint_path(i->checkpoint), meta->config,
                     strlen(meta->config), NULL, 0));
    TRY(param_table_init(&i->params, &i->config.arch, NULL, 0));
    TRY(checkpoint_match(i->checkpoint, &i->params));
    TRY(open_device(i, o));
    i->weight_bytes = (size_t)i->params.n_elements * dtype_bytes(i->dtype);
    TRY(device_alloc(i->device, i->weight_bytes, "weights", &i->weights));
    struct checkpoint_range all = {.count = i->params.n_elements, .master = i->weights};
    if (device_is_host(i->device))
        return checkpoint_read(i->checkpoint, &i->params, &i->params, &all, 1);

    const size_t bytes = (size_t)i->params.n_elements * sizeof(float);
    float *master = malloc(bytes);
    void *rounded = malloc(i->weight_bytes);
    status_t st =
        master && rounded
            ? STATUS_OK
            : status_set(STATUS_NOMEM, "no memory for %zu bytes of weights", bytes);
    all.master = master;
    if (st == STATUS_OK)
        st = checkpoint_read(i->checkpoint, &i->params, &i->params, &all, 1);
    if (st == STATUS_OK) {
        dtype_convert(rounded, i->dtype, master, DTYPE_F32, all.count);
        device_copy_in(i->device, i->weights, rounded, i->weight_bytes);
    }
    free(rounded);
    free(master);
    return st;
}

/* Run once on nothing to learn the sizes, then for real. */
static status_t measure(struct inference *i, const struct inference_options *o,
                        const struct model_options *mo, struct model_needs *needs)
{
    if (!o->decode) return model_measure(mo, i->device, o->n_threads, false, needs);
    struct nn *nn = NULL;
    struct model *m = NULL;
    struct model_decoder *d = NULL;
    struct arena arena = arena_measure();
    status_t st = nn_create_measuring(&nn, i->device, o->n_threads);
    if (st == STATUS_OK) st = model_create(&m, mo, nn, NULL, NULL, &arena);
    if (st == STATUS_OK)
        st = model_decoder_create(&d, m, o->max_B, i->config.arch.max_positions);
    if (st == STATUS_OK) {
        model_decode(d, NULL, NULL);
        *needs = (struct model_needs){.activation_bytes = arena.peak_bytes,
                                      .scratch_bytes = nn_scratch_peak_bytes(nn)};
    }
    model_decoder_destroy(&d);
    model_destroy(&m);
    nn_destroy(&nn);
    return st;
}

static status_t make_model(struct inference *i, const struct inference_options *o)
{
    static const int none[SHARD_MAX_CHUNKS]; /* nothing waits for backward */
    const struct model_options mo = {.arch = &i->config.arch,
                                     .params = &i->params,
                                     .max_B = o->max_B,
                                     .T = i->config.sequence_length,
                                     .documents = i->config.document_mask,
                                     .dtype = i->dtype,
                                     .slots = none};
    const struct inputs_shape shape = {
        .max_B = mo.max_B, .T = mo.T, .cp_size = 1, .slots = 1};
    struct model_needs needs;
    TRY(measure(i, o, &mo, &needs));
    struct arena sizes = arena_measure();
    arena_alloc(&sizes, needs.activation_bytes);
    TRY(inputs_init(&i->inputs, &sizes, i->device, &shape));
    void *memory = NULL;
    TRY(device_alloc(i->device, sizes.peak_bytes, "activations", &memory));
    i->arena = arena_over(memory, sizes.peak_bytes);
    TRY(inputs_init(&i->inputs, &i->arena, i->device, &shape));
    i->inputs.whole_sequences = !mo.documents;
    TRY(nn_create(&i->nn, i->device, o->n_threads, needs.scratch_bytes));
    TRY(model_create(&i->model, &mo, i->nn, i->weights, NULL, &i->arena));
    if (!o->decode) return STATUS_OK;
    return model_decoder_create(&i->decoder, i->model, o->max_B,
                                i->config.arch.max_positions);
}

status_t inference_open(struct inference *i, const struct inference_options *o)
{
    *i = (struct inference){0};
    TRY(open_checkpoint(i, o->path));
    TRY(load_weights(i, o));
    return make_model(i, o);
}

void inference_release(struct inference *i)
{
    void *weights = i->weights, *activations = i->arena.base;
    model_decoder_destroy(&i->decoder);
    model_destroy(&i->model);
    nn_destroy(&i->nn);
    inputs_release(&i->inputs);
    if (i->device) {
        device_free(i->device, &weights, i->weight_bytes);
        device_free(i->device, &activations, i->arena.capacity_bytes);
    }
    device_close(&i->device);
    param_table_release(&i->params);
    config_release(&i->config);
    checkpoint_close(&i->checkpoint);
    *i = (struct inference){0};
}

void inference_tokenizer_path(const struct inference *i, char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", checkpoint_path(i->checkpoint));
    file_join(path, PATH_MAX, folder, "../tokenizer.json");
}

/* Is it the tokenizer of the token files that the checkpoint was trained on?  Yes if those do
 * not say. */
static bool trained_with(const struct inference *i, const struct tokenizer *t)
{
    const char *hex = NULL;
    json_t *data = json_loads(checkpoint_meta(i->checkpoint)->data, 0, NULL);
    json_unpack(data, "{s:[{s:s}]}", "train", "tokenizer_sha256", &hex);
    const bool same = !hex || !hex[0] || strcmp(hex, tokenizer_sha256(t)) == 0;
    json_decref(data);
    return same;
}

status_t inference_tokenizer_open(struct tokenizer **t, const struct inference *i)
{
    char path[PATH_MAX];
    inference_tokenizer_path(i, path);
    TRY(tokenizer_open(t, path));
    if (trained_with(i, *t)) return STATUS_OK;
    tokenizer_close(t);
    return status_set(STATUS_DATA,
                      "%s: is not the tokenizer of the run's token files; copy that one "
                      "back",
                      path);
}
