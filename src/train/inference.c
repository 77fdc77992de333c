#include "train/inference.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "train/parts.h"
#include "train/place.h"
#include "train/products.h"
#include "train/weights.h"

static status_t open_checkpoint(struct inference *i, const char *path)
{
    char inside[PATH_MAX], latest[PATH_MAX];
    if (!file_is_dir(path))
        return status_set(file_exists(path) ? STATUS_IO : STATUS_CHECKPOINT,
                          "%s: %s; give a run or a checkpoint folder", path,
                          file_exists(path) ? "is a file" : "does not exist");
    file_join(inside, sizeof inside, path, "model.h5");
    if (file_exists(inside)) return checkpoint_open(&i->checkpoint, path);
    TRY(checkpoint_find_latest(path, latest));
    if (!latest[0])
        return status_set(STATUS_CHECKPOINT, "%s: holds no checkpoint (step-*/model.h5)",
                          path);
    return checkpoint_open(&i->checkpoint, latest);
}

/* A layout is of the machines at hand, not of the checkpoint. */
static status_t parse_config(struct inference *i, const struct inference_options *o)
{
    static const char *const anew[] = {"parallel.dp=auto",
                                       "parallel.tp=1",
                                       "parallel.cp=1",
                                       "parallel.pp=1",
                                       "parallel.schedule=1f1b",
                                       "parallel.chunks=1",
                                       "parallel.stages=auto",
                                       "parallel.zero=0",
                                       "parallel.comm=auto",
                                       "parallel.wire=auto",
                                       "parallel.share_gpu=false",
                                       "train.device=auto",
                                       "train.pin=auto",
                                       "train.precision=auto",
                                       "train.fp32_products=auto"};
    enum { N_ANEW = sizeof anew / sizeof *anew };
    const struct checkpoint_meta *m = checkpoint_meta(i->checkpoint);
    const char *name = checkpoint_path(i->checkpoint);
    char *text;
    TRY(config_text_at(name, m->config, m->step, &text));
    const char **all = malloc((size_t)(N_ANEW + o->n_overrides) * sizeof *all);
    status_t st =
        all ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for a configuration");
    if (st != STATUS_OK) goto out;
    memcpy(all, anew, sizeof anew);
    for (int k = 0; k < o->n_overrides; k++) all[N_ANEW + k] = o->overrides[k];
    st = config_parse(&i->config, name, text, strlen(text), all, N_ANEW + o->n_overrides);
out:
    free(all);
    free(text);
    return st;
}

status_t inference_open(struct inference *i, const struct inference_options *o)
{
    int sizes[MESH_AXES];
    *i = (struct inference){.world = o->world, .n_threads = o->n_threads};
    if (o->world) i->share = *o->share;
    TRY(open_checkpoint(i, o->path));
    TRY(parse_config(i, o));
    TRY(param_table_init(&i->whole, &i->config.arch, NULL, 0));
    TRY(checkpoint_match(i->checkpoint, &i->whole));
    if (!i->world) return STATUS_OK;
    /* no rank's share of a batch is too small: one without sequences has nothing to do */
    i->config.batch_tokens = 0;
    i->config.batch_sequences = comm_size(i->world);
    return layout_sizes(&i->config, comm_size(i->world), sizes);
}

/* ---- place ---------------------------------------------------------------------------------- */

static status_t choose_precision(struct inference *i)
{
    const char *why;
    TRY(place_check_model(i->device, &i->config.arch));
    TRY(place_precision(&i->dtype, &why, i->device, i->world,
                        (enum config_precision)i->config.precision));
    if (i->world) log_info("precision %s (%s)", dtype_name(i->dtype), why);
    return products_choose(&why, i->device, i->dtype, i->world,
                           (enum config_products)i->config.fp32_products);
}

/* Device, layout and schedule.  Collective on the world; agreed. */
static status_t find_place(struct inference *i)
{
    struct config *c = &i->config;
    const char *why = "";
    if (!i->world) {
        TRY(place_open_alone(&i->device, (enum config_device)c->device));
        return choose_precision(i);
    }
    TRY(place_open(&i->device, i->world, (enum config_device)c->device, c->share_gpu));
    TRY(comm_agree(i->world, choose_precision(i)));
    comm_set_timeout(i->world, c->timeout_seconds);
    TRY(comm_use_device(i->world, i->device, (enum comm_transport)c->comm, &why));
    TRY(comm_agree(i->world,
                   layout_init(&i->layout, c, comm_rank(i->world), comm_size(i->world))));
    TRY(layout_connect(&i->layout, i->world));
    if (comm_size(i->world) > 1) layout_print(&i->layout, i->world);
    return comm_agree(i->world, parts_schedule(&i->schedule, c, &i->layout));
}

/* As a run's threads are, if the team fills what this process may use. */
static void pin(struct inference *i)
{
    char text[256];
    const enum pin_mode mode = (enum pin_mode)i->config.pin;
    if (!device_is_host(i->device) || mode == PIN_NEVER) return;
    if (i->world)
        pin_team(&i->pin, &i->share, mode, text, sizeof text);
    else
        pin_team_alone(&i->pin, i->n_threads);
}

/* ---- weights -------------------------------------------------------------------------------- */

/* Who may have them together. */
static struct comm *weight_sharers(const struct inference *i)
{
    return i->world ? i->layout.data : NULL;
}

/* Ranks of a host that have weights together read and round a part each. */
static status_t read_weights(struct inference *i)
{
    const struct checkpoint *ckpt = i->checkpoint;
    int index = 0;
    const int n_near = i->world ? comm_near(i->layout.data, &index) : 1;
    struct checkpoint_range part = {0};
    comm_slice(i->params.n_elements, n_near, index, &part.start, &part.count);
    char *to = (char *)i->weights + (size_t)part.start * dtype_bytes(i->dtype);
    if (device_is_host(i->device) && i->dtype == DTYPE_F32) {
        part.master = (float *)(void *)to;
        return checkpoint_read(ckpt, &i->whole, &i->params, &part, 1);
    }
    const size_t bytes = (size_t)part.count * sizeof(float);
    const size_t rounded_bytes = (size_t)part.count * dtype_bytes(i->dtype);
    float *master = malloc(bytes + 1);
    void *rounded = malloc(rounded_bytes + 1);
    status_t st =
        master && rounded
            ? STATUS_OK
            : status_set(STATUS_NOMEM, "no memory for %zu bytes of weights", bytes);
    part.master = master;
    if (st == STATUS_OK) st = checkpoint_read(ckpt, &i->whole, &i->params, &part, 1);
    if (st == STATUS_OK) {
        dtype_convert(rounded, i->dtype, master, DTYPE_F32, part.count);
        device_copy_in(i->device, to, rounded, rounded_bytes);
    }
    free(rounded);
    free(master);
    return st;
}

/* ---- memory --------------------------------------------------------------------------------- */

static struct parts_options parts_of(const struct inference *i)
{
    return (struct parts_options){.config = &i->config,
                                  .layout = &i->layout,
                                  .params = &i->params,
                                  .device = i->device,
                                  .dtype = i->dtype};
}

static struct inputs_shape shape_of(const struct inference *i)
{
    const struct parts_options o = parts_of(i);
    if (i->world) return parts_inputs(&o, &i->schedule);
    return (struct inputs_shape){.max_B = i->config.micro_batch,
                                 .T = i->config.sequence_length,
                                 .cp_size = 1,
                                 .slots = 1};
}

static struct model_options model_options(const struct inference *i)
{
    static const int none[SHARD_MAX_CHUNKS]; /* nothing waits for backward */
    const struct parts_options o = parts_of(i);
    struct model_options mo = {.arch = &i->config.arch,
                               .params = &i->params,
                               .max_B = i->config.micro_batch,
                               .T = i->config.sequence_length,
                               .documents = i->config.document_mask,
                               .dtype = i->dtype};
    if (i->world) mo = parts_model(&o, &i->schedule, i->tp, i->cp);
    mo.slots = mo.weight_slots = none;
    return mo;
}

/* What forward and its messages need, from an arena that may measure. */
static status_t take_buffers(struct inference *i, struct arena *arena)
{
    const struct inputs_shape shape = shape_of(i);
    TRY(inputs_init(&i->inputs, arena, i->device, &shape));
    i->inputs.whole_sequences = !i->config.document_mask;
    i->row_loss = arena_floats(arena, shape.max_B * i->inputs.rows);
    if (!i->world) return STATUS_OK;
    const struct parts_options o = parts_of(i);
    const struct tp_options to = parts_tp(&o);
    const struct cp_options co = parts_cp(&o);
    const struct pp_options po = parts_pp(&o, &i->schedule);
    TRY(tp_create(&i->tp, &to, arena));
    TRY(cp_create(&i->cp, &co, arena));
    return i->schedule.n_stages > 1 ? pp_create(&i->pp, &po, arena) : STATUS_OK;
}

static void drop_buffers(struct inference *i)
{
    pp_destroy(&i->pp);
    cp_destroy(&i->cp);
    tp_destroy(&i->tp);
    inputs_release(&i->inputs);
}

static status_t measure_decoder(struct inference *i, const struct model_options *mo,
                                struct model_needs *needs)
{
    struct nn *nn = NULL;
    struct model *m = NULL;
    struct model_decoder *d = NULL;
    struct arena arena = arena_measure();
    status_t st = nn_create_measuring(&nn, i->device, i->n_threads);
    if (st == STATUS_OK) st = model_create(&m, mo, nn, NULL, NULL, &arena);
    if (st == STATUS_OK)
        st = model_decoder_create(&d, m, mo->max_B, i->config.arch.max_positions);
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

/* Run once on nothing to learn the sizes. */
static status_t measure(struct inference *i, bool decode, struct arena *sizes,
                        size_t *scratch_bytes)
{
    struct model_needs needs = {0};
    status_t st = take_buffers(i, sizes);
    if (st == STATUS_OK) {
        const struct model_options mo = model_options(i);
        st = decode ? measure_decoder(i, &mo, &needs)
                    : model_measure(&mo, i->device, i->n_threads, false, &needs);
    }
    arena_alloc(sizes, needs.activation_bytes);
    *scratch_bytes = needs.scratch_bytes;
    drop_buffers(i);
    return st;
}

static status_t make_model(struct inference *i, const struct inference_room *room)
{
    struct arena sizes = arena_measure();
    size_t scratch_bytes = 0;
    void *memory = NULL;
    TRY(measure(i, room->decode, &sizes, &scratch_bytes));
    TRY(device_alloc(i->device, sizes.peak_bytes, "activations", &memory));
    i->arena = arena_over(memory, sizes.peak_bytes);
    TRY(take_buffers(i, &i->arena));
    const struct model_options mo = model_options(i);
    TRY(nn_create(&i->nn, i->device, i->n_threads, scratch_bytes));
    TRY(model_create(&i->model, &mo, i->nn, i->weights, NULL, &i->arena));
    if (!room->decode) return STATUS_OK;
    return model_decoder_create(&i->decoder, i->model, room->max_B,
                                i->config.arch.max_positions);
}

/* ---- life ----------------------------------------------------------------------------------- */

static status_t agree(struct inference *i, status_t st)
{
    return i->world ? comm_agree(i->world, st) : st;
}

status_t inference_load(struct inference *i, const struct inference_room *room)
{
    struct config *c = &i->config;
    int sizes[MESH_AXES];
    CHECK(!room->decode || !i->world);
    c->micro_batch = room->max_B;
    c->sequence_length = room->T;
    c->document_mask = room->documents;
    if (i->world) TRY(comm_agree(i->world, layout_sizes(c, comm_size(i->world), sizes)));
    TRY(find_place(i));
    pin(i);
    TRY(agree(i, param_table_init(&i->params, &c->arch,
                                  i->world ? &i->layout.shard : NULL, 0)));
    i->weight_bytes = arena_align((size_t)i->params.n_elements * dtype_bytes(i->dtype));
    TRY(agree(i,
              weights_alloc(&i->weights, weight_sharers(i), i->device, i->weight_bytes)));
    TRY(agree(i, read_weights(i)));
    return agree(i, make_model(i, room));
}

void inference_release(struct inference *i)
{
    void *activations = i->arena.base;
    if (i->device) device_wait(i->device);
    model_decoder_destroy(&i->decoder);
    model_destroy(&i->model);
    nn_destroy(&i->nn);
    drop_buffers(i);
    if (i->weights)
        weights_free(&i->weights, weight_sharers(i), i->device, i->weight_bytes);
    if (i->device) device_free(i->device, &activations, i->arena.capacity_bytes);
    if (i->world) {
        layout_release(&i->layout);
        comm_leave_device(i->world);
    }
    pin_release(&i->pin);
    device_close(&i->device);
    pp_schedule_release(&i->schedule);
    param_table_release(&i->params);
    param_table_release(&i->whole);
    config_release(&i->config);
    checkpoint_close(&i->checkpoint);
    *i = (struct inference){0};
}

void inference_loss(struct inference *i, const struct model_input *in,
                    struct nn_loss *loss)
{
    if (i->pp)
        pp_infer(i->pp, i->model, in, loss, i->row_loss);
    else
        model_loss(i->model, in, loss, i->row_loss);
}

/* ---- tokenizer ------------------------------------------------------------------------------ */

void inference_tokenizer_path(const struct inference *i, char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", checkpoint_path(i->checkpoint));
    file_join(path, PATH_MAX, folder, "../tokenizer.json");
}

/* What the token files say that the checkpoint was trained on; "" if they do not. */
static void trained_with(const struct inference *i, char hex[HASH_SHA256_HEX])
{
    const char *said = "";
    json_t *data = json_loads(checkpoint_meta(i->checkpoint)->data, 0, NULL);
    json_unpack(data, "{s:[{s:s}]}", "train", "tokenizer_sha256", &said);
    snprintf(hex, HASH_SHA256_HEX, "%s", said);
    json_decref(data);
}

status_t inference_tokenizer_sha256(const struct inference *i, char hex[HASH_SHA256_HEX])
{
    char path[PATH_MAX];
    trained_with(i, hex);
    inference_tokenizer_path(i, path);
    return hex[0] || !file_exists(path) ? STATUS_OK : hash_sha256_file(path, hex);
}

status_t inference_tokenizer_open(struct tokenizer **t, const struct inference *i)
{
    char path[PATH_MAX], hex[HASH_SHA256_HEX];
    inference_tokenizer_path(i, path);
    TRY(tokenizer_open(t, path));
    trained_with(i, hex);
    if (!hex[0] || strcmp(hex, tokenizer_sha256(*t)) == 0) return STATUS_OK;
    tokenizer_close(t);
    return status_set(STATUS_DATA,
                      "%s: is not the tokenizer of the run's token files; copy that one "
                      "back",
                      path);
}
