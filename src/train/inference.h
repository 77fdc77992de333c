/* inference - a model out of a checkpoint, for evaluation and generation: whole on this rank, or laid
 * out over all ranks as training lays it out, whatever layout the checkpoint was written in.
 *
 *   inference_open(&i, &o);       the checkpoint and its configuration
 *   ... find out which sequences there will be ...
 *   inference_load(&i, &room);    device, layout, weights, memory
 *   inference_loss(&i, ...);      as often as wanted */
#pragma once

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "core/hash.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "parallel/pp/execute.h"
#include "train/inputs.h"
#include "train/layout.h"
#include "train/pin.h"

struct inference_options {
    const char *path;   /* a checkpoint, or a run folder: its newest one */
    struct comm *world; /* all ranks, borrowed; NULL: this process by itself */
    /* Overrides of the checkpoint's configuration, behind those that make its layout, threads,
     * precision and fp32 products "auto" again. */
    const char *const *overrides;
    int n_overrides;
    int n_threads;
    const struct launch_share *share; /* of the host, this rank's; NULL without a world */
};

/* The sequences there is room for. */
struct inference_room {
    int64_t max_B, T; /* at a time; tokens of each */
    bool documents;   /* rows look only at their own document, as batches say */
    bool
        decode; /* instead of losses: max_B sequences of the model's max_positions tokens, one token
                    at a time; only without a world */
};

struct inference {
    struct config config; /* as the run was started, but for overrides and room */
    struct comm *world;   /* borrowed; NULL: by itself */
    int n_threads;
    struct launch_share share; /* with a world */
    struct pin pin;
    struct checkpoint *checkpoint;
    struct param_table whole, params; /* the model, and what of it this rank holds */
    struct layout layout;             /* with a world */
    struct pp_schedule schedule;
    struct device *device;
    enum dtype dtype; /* of weights and activations */
    struct nn *nn;
    struct tp *tp;
    struct cp *cp;
    struct pp *pp; /* NULL: one stage */
    struct model *model;
    struct model_decoder *decoder; /* NULL unless decode */
    struct inputs inputs;
    float *row_loss; /* [max_B, rows of a sequence here], in device memory */
    void *weights;
    struct arena arena;
    size_t weight_bytes;
};

/* Read the configuration and check it against the number of ranks; nothing is taken yet.
 * STATUS_CHECKPOINT, STATUS_CONFIG, STATUS_NOMEM; release it also after a failure.  Local. */
MUST_USE status_t inference_open(struct inference *i, const struct inference_options *o);

/* Everything else; once.  STATUS_CHECKPOINT, STATUS_CONFIG, STATUS_DEVICE, STATUS_NOMEM, agreed.
 * Collective on the world. */
MUST_USE status_t inference_load(struct inference *i, const struct inference_room *room);
void inference_release(struct inference *i); /* together */

/* Forward of one micro-batch that i->inputs holds: *loss, in device memory, is added to, and
 * i->row_loss is that of each row, on ranks with the head.  Collective on the ranks that share a
 * micro-batch.  Step regime. */
void inference_loss(struct inference *i, const struct model_input *in,
                    struct nn_loss *loss);

/* The tokenizer beside the run's checkpoints, into `path` (PATH_MAX). */
void inference_tokenizer_path(const struct inference *i, char *path);

/* The SHA-256 of the tokenizer whose ids the model knows: that of the token files it was trained on, or else
 * of the file beside the checkpoints; "" if neither says.  STATUS_IO. */
MUST_USE status_t inference_tokenizer_sha256(const struct inference *i,
                                             char hex[HASH_SHA256_HEX]);

/* Open it; STATUS_DATA if it is not the one that the token files were made with. */
MUST_USE status_t inference_tokenizer_open(struct tokenizer **t,
                                           const struct inference *i);
