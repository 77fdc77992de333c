/* model - a decoder-only transformer with explicit forward and backward, composed from nn.
 *
 * There is no autograd: what forward keeps for backward is struct block_saved, and recomputing
 * it is a choice about that struct.  Weights and gradients are flat buffers in the order of the
 * parameter table; activations have the type of the weights.  A model on a measuring nn and a measuring arena runs the same code on no
 * memory, which is how its needs are known before step 0. */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "model/arch.h"
#include "model/param.h"
#include "nn/nn.h"

/* One micro-batch; the arrays are [B * T], in device memory, see struct batch in src/data.
 * doc_start may be NULL: every sequence is one document. */
struct model_input {
    int64_t B, T;
    const int32_t *tokens, *targets, *positions, *doc_start;
};

enum model_recompute {
    MODEL_RECOMPUTE_NONE, /* every block keeps all that its backward reads */
    MODEL_RECOMPUTE_FULL  /* a block keeps its input; backward runs its forward again */
};

struct model_options {
    const struct arch *arch;
    const struct param_table *params;
    int64_t max_B, T; /* largest micro-batch */
    enum model_recompute recompute;
    enum dtype dtype; /* of weights and activations */
    bool documents;   /* inputs will have doc_start: what is measured depends on it */
};

struct model;

/* A model over `params` (of o->dtype) and `grads` (fp32), flat buffers of params->n_elements
 * (grads may be NULL: no training; both NULL while measuring).  Activations come from `arena`.
 * Both buffers and the arena are memory of nn's device.  Everything passed is borrowed.
 * STATUS_NOMEM. */
MUST_USE status_t model_create(struct model **m, const struct model_options *o,
                               struct nn *nn, void *params, float *grads,
                               struct arena *arena);
void model_destroy(struct model **m); /* NULL-safe; nulls */

/* What model_train tells on its way; each may be NULL. */
struct model_hooks {
    /* before work that reads the weights at flat [low, high) is queued */
    void (*need)(void *context, int64_t low, int64_t high);
    /* all gradients at flat index >= low are final for this micro-batch */
    void (*ready)(void *context, int64_t low);
    void *context;
};

/* Forward and backward of the summed loss: gradients of gradient_scale times it accumulate,
 * *loss, in device memory, is added to.  hooks may be NULL.  Step regime. */
void model_train(struct model *m, const struct model_input *in, struct nn_loss *loss,
                 float gradient_scale, const struct model_hooks *hooks);

/* Forward only: *loss is added to; row_loss [B * T] may be NULL; both in device memory.  Step
 * regime. */
void model_loss(struct model *m, const struct model_input *in, struct nn_loss *loss,
                float *row_loss);

/* What a run with these options takes from its arena and from nn's scratch: the same calls on a
 * measuring nn.  train: model_train is run as well as model_loss. */
struct model_needs {
    size_t activation_bytes, scratch_bytes;
};
MUST_USE status_t model_measure(const struct model_options *o, struct device *dev,
                                int n_threads, bool train, struct model_needs *needs);

/* ---- decode.c: one token at a time, with a key/value cache -------------------------------- */

struct model_decoder;

/* For `B` sequences of at most `max_T` tokens (<= arch.max_positions).  Memory from the model's
 * arena, which may measure.  STATUS_NOMEM. */
MUST_USE status_t model_decoder_create(struct model_decoder **d, struct model *m,
                                       int64_t B, int64_t max_T);
void model_decoder_destroy(struct model_decoder **d); /* NULL-safe; nulls */

/* Append tokens[B] to the sequences; logits: [B, V] of the token that follows.  Both in host
 * memory, complete on return; NULL while measuring.  At most max_T times.  Step regime. */
void model_decode(struct model_decoder *d, const int32_t *tokens, float *logits);
