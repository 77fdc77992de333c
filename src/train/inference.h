/* inference - a model out of a checkpoint, for evaluation and generation. */
#pragma once

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "train/inputs.h"

struct inference_options {
    const char *path; /* a checkpoint, or a run folder: its newest one */
    int device;       /* enum config_device; AUTO: cuda if there is one */
    int local_rank;   /* place_local_rank: among ranks of this host */
    int n_threads;
    int64_t max_B; /* sequences at a time */
    bool
        decode; /* room to decode max_B sequences of the model's max_positions tokens, instead
                    of for losses */
};

struct inference {
    struct config config; /* as the run was started */
    struct checkpoint *checkpoint;
    struct param_table params;
    struct device *device;
    struct nn *nn;
    struct model *model;
    struct model_decoder *decoder; /* NULL unless decode */
    struct inputs inputs;
    enum dtype dtype; /* of weights and activations */
    void *weights;
    struct arena arena;
    size_t weight_bytes;
};

/* Local.  STATUS_CHECKPOINT, STATUS_CONFIG, STATUS_NOMEM; release it also after a failure. */
MUST_USE status_t inference_open(struct inference *i, const struct inference_options *o);
void inference_release(struct inference *i);

/* The tokenizer beside the run's checkpoints, into `path` (PATH_MAX). */
void inference_tokenizer_path(const struct inference *i, char *path);

/* Open it; STATUS_DATA if it is not the one that the token files were made with. */
MUST_USE status_t inference_tokenizer_open(struct tokenizer **t,
                                           const struct inference *i);
