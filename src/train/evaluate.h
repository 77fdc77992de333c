/* evaluate - the loss of a model on held-out text, shared among ranks. */
#pragma once

#include "data/sampler.h"
#include "model/model.h"
#include "parallel/comm/comm.h"
#include "train/inputs.h"

struct evaluate_options {
    const struct sampler *sampler; /* windows in file order */
    int64_t sequences;             /* how many windows; 0: all of them */
    int64_t micro_batch, T;
    struct inputs *inputs; /* room for one micro-batch */
    const int32_t
        *token_bytes;   /* [vocab_size] bytes a token stands for; NULL: not counted */
    int64_t *histogram; /* [vocab_size] of targets, assigned; NULL: not wanted */
    int64_t vocab_size;
    int rank, size; /* of those who share the windows */
    /* Of the ranks that compute the same windows: this one's loss counts (of each row one does),
     * this one counts bytes and histogram (of them all one does). */
    bool counts, counts_tokens;
    struct comm *comm; /* all of them */
    /* Add the loss of one micro-batch to *loss, in device memory. */
    void (*loss)(void *context, const struct model_input *in, struct nn_loss *loss);
    void *context;
};

struct evaluation {
    double loss; /* mean over targets, in nats */
    int64_t n_targets, n_bytes, n_sequences;
};

/* All ranks get the same result.  Collective on o->comm.  STATUS_DATA, STATUS_NOMEM; agreed. */
MUST_USE status_t evaluate(struct evaluation *e, const struct evaluate_options *o);

/* Entropy in nats of tokens drawn as the histogram says: what a model that only knows how often
 * each token occurs cannot go below. */
double evaluate_unigram_entropy(const int64_t *histogram, int64_t vocab_size);
