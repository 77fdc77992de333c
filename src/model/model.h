/* model - a decoder-only transformer with explicit forward and backward, composed from nn.
 *
 * There is no autograd: what forward keeps for backward is struct block_saved, and recomputing
 * it is a choice about that struct.  Weights and gradients are flat buffers in the order of the
 * parameter table; activations have the type of the weights.  A model on a measuring nn and a
 * measuring arena runs the same code on no memory, which is how its needs are known before step 0.
 *
 * A model is what one rank holds: the layers of its pipeline chunks (struct shard), of every layer
 * its tensor-parallel share (struct tp), of every sequence its rows (struct cp).  The input of a
 * chunk that does not begin with the embedding, and the output of one that does not end with the
 * head, are the caller's, who sends them.
 *
 * Collective where it says so: on the tp and cp axes of the ranks that hold the same chunk. */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "model/arch.h"
#include "model/param.h"
#include "nn/nn.h"
#include "parallel/cp/cp.h"
#include "parallel/tp/tp.h"

/* One micro-batch; the arrays are [B * T], in device memory, see struct batch in src/data.  With
 * context parallelism T counts this rank's rows of a sequence, and the arrays hold those. */
struct model_input {
    int64_t B, T;
    const int32_t *tokens, *targets, *positions;
    const int32_t *doc_start; /* NULL: every sequence is one document */
    const int32_t *spans;     /* cp_spans, instead of doc_start; NULL without cp */
};

enum model_recompute {
    MODEL_RECOMPUTE_NONE,      /* every block keeps all that its backward reads */
    MODEL_RECOMPUTE_SELECTIVE, /* but for what norms and activation give, a pass over memory */
    MODEL_RECOMPUTE_FULL /* a block keeps its input; backward runs its forward again */
};

struct model_options {
    const struct arch *arch;
    const struct param_table *params; /* of `shard` */
    const struct shard *shard;        /* NULL: the whole model */
    struct tp *tp;                    /* NULL: one rank */
    struct cp *cp;                    /* NULL: one rank */
    int64_t max_B, T;                 /* largest micro-batch; T as in model_input */
    /* Of each chunk: micro-batches between forward and the end of backward, and between backward
     * and model_weights.  NULL: one; none. */
    const int *slots, *weight_slots;
    enum model_recompute recompute;
    enum dtype dtype; /* of weights and activations */
    bool documents;   /* inputs will have doc_start: what is measured depends on it */
    float z_loss;     /* of nn_cross_entropy, in training */
};

struct model;

/* A model over `params`, a flat buffer of o->dtype, and the gradients of each unit of the table:
 * unit_grads[u] is that of flat element params->unit[u] (NULL: no training; both NULL while
 * measuring).  Activations come from `arena`.  All is memory of nn's device, and is borrowed.
 * STATUS_NOMEM. */
MUST_USE status_t model_create(struct model **m, const struct model_options *o,
                               struct nn *nn, void *params, float *const *unit_grads,
                               struct arena *arena);
void model_destroy(struct model **m); /* NULL-safe; nulls */

/* What a pass tells on its way, by units of the parameter table; each may be NULL. */
struct model_hooks {
    /* before work that reads the unit's weights is queued */
    void (*need)(void *context, int unit);
    /* before gradients of this micro-batch are added to the unit's */
    void (*begin)(void *context, int unit);
    /* the unit's gradients are complete for this micro-batch */
    void (*end)(void *context, int unit);
    /* Before `end`, sum over tp what ranks have partial gradients of (with sequence parallelism:
     * of norms, and biases behind row-parallel layers; of kv heads that several ranks hold).  Once
     * for all gradients that were added up, in their last micro-batch. */
    bool sum_replicated;
    void *context;
};

/* One micro-batch on its way through one chunk. */
struct model_pass {
    int chunk, slot;
    int weight_slot; /* backward leaves weight gradients to model_weights; -1: it does not */
    struct model_input in;
    /* [own rows, C]; x is untouchable from forward until the end of backward */
    struct tensor x; /* a chunk's input; none for one with the embedding */
    struct tensor y; /* forward: its output; none for one with the head */
    /* backward: [all rows, C], gradient of y in the own rows, becomes that of x; without data for
     * one that has both embedding and head */
    struct tensor dx;
    struct nn_loss *loss; /* the head's, in device memory, is added to */
    float gradient_scale;
    const struct model_hooks *hooks; /* may be NULL */
};

/* What tp must be able to sum at once for the model of `params` and micro-batches of up to max_rows
 * rows: tp_options.max_replicated. */
int64_t model_replicated_elements(const struct arch *a, const struct param_table *params,
                                  int tp_size, bool sequence_parallel, int64_t max_rows);

/* Collective on tp and cp.  Step regime.  The head's loss is made in backward. */
void model_forward(struct model *m, const struct model_pass *p);
void model_backward(struct model *m, const struct model_pass *p);
void model_weights(struct model *m, const struct model_pass *p);

/* Rows of the residual stream here, of B sequences; all rows, of which they are some. */
int64_t model_own_rows(const struct model *m, int64_t B);
int64_t model_all_rows(const struct model *m, int64_t B);
/* The own rows of a tensor of all rows. */
struct tensor model_own(const struct model *m, const struct tensor *all);

/* Forward and backward of the summed loss, with the z-loss, of a model in one piece: gradients of gradient_scale
 * times it accumulate, *loss, in device memory, is added to.  hooks may be NULL.  Collective on tp
 * and cp.  Step regime. */
void model_train(struct model *m, const struct model_input *in, struct nn_loss *loss,
                 float gradient_scale, const struct model_hooks *hooks);

/* Forward only, through one chunk, keeping nothing: p->x and p->y as above; with the head
 * *p->loss is added to, and row_loss [B * T] may be NULL.  Collective on tp and cp.  Step regime. */
void model_infer(struct model *m, const struct model_pass *p, float *row_loss);
/* The same of a model in one piece. */
void model_loss(struct model *m, const struct model_input *in, struct nn_loss *loss,
                float *row_loss);

/* What a run with these options takes from its arena and from nn's scratch: the same calls on a
 * measuring nn.  train: backward is run as well as model_infer. */
struct model_needs {
    size_t activation_bytes, scratch_bytes;
};
MUST_USE status_t model_measure(const struct model_options *o, struct device *dev,
                                int n_threads, bool train, struct model_needs *needs);

/* ---- decode.c: one token at a time, with a key/value cache -------------------------------- */

struct model_decoder;

/* For `B` sequences of at most `max_T` tokens (<= arch.max_positions), of a whole model.  Memory
 * from the model's arena, which may measure.  STATUS_NOMEM. */
MUST_USE status_t model_decoder_create(struct model_decoder **d, struct model *m,
                                       int64_t B, int64_t max_T);
void model_decoder_destroy(struct model_decoder **d); /* NULL-safe; nulls */

/* Append tokens[B] to the sequences; logits: [B, V] of the token that follows.  Both in host
 * memory, complete on return; NULL while measuring.  At most max_T times.  Step regime. */
void model_decode(struct model_decoder *d, const int32_t *tokens, float *logits);
