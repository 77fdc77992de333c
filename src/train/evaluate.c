#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One allocation holds the four arrays of a host batch. */
static int32_t *batch_memory(struct batch *b, int64_t B, int64_t T)
{
    const int64_t N = B * T;
    int32_t *memory = malloc((size_t)(4 * N) * sizeof *memory);
    *b = (struct batch){.T = T};
    if (!memory) return NULL;
    b->tokens = memory;
    b->targets = memory + N;
    b->positions = memory + 2 * N;
    b->doc_start = memory + 3 * N;
    return memory;
}

static void count_targets(struct evaluation *e, const struct evaluate_options *o,
                          const struct batch *b)
{
    for (int64_t n = 0; n < b->B * b->T; n++) {
        const int32_t id = b->targets[n];
        if (id < 0) continue;
        if (o->token_bytes) e->n_bytes += o->token_bytes[id];
        if (o->histogram) o->histogram[id]++;
    }
}

/* This rank's windows [first, end): loss_sum and counts into e and *loss. */
static status_t run(struct evaluation *e, struct nn_loss *loss,
                    const struct evaluate_options *o, int64_t first, int64_t end)
{
    struct batch b;
    inputs_clear_sums(o->inputs);
    int32_t *memory = batch_memory(&b, o->micro_batch, o->T);
    if (!memory) return status_set(STATUS_NOMEM, "no memory for a batch to evaluate");
    status_t st = STATUS_OK;
    for (int64_t at = first; at < end; at += b.B) {
        b.B = end - at < o->micro_batch ? end - at : o->micro_batch;
        b.n_targets = 0;
        for (int64_t row = 0; row < b.B; row++) {
            st = sampler_fill(o->sampler, at + row, &b, row);
            if (st != STATUS_OK) goto out;
        }
        const struct model_input in = inputs_load(o->inputs, 0, &b);
        o->loss(o->context, &in, &o->inputs->sums->loss);
        if (o->counts_tokens) count_targets(e, o, &b);
    }
out:
    *loss = inputs_read_sums(o->inputs).loss; /* waits, so the batch may go */
    free(memory);
    return st;
}

status_t evaluate(struct evaluation *e, const struct evaluate_options *o)
{
    const int64_t all = sampler_total_windows(o->sampler);
    const int64_t n = o->sequences > 0 && o->sequences < all ? o->sequences : all;
    int64_t first, count;
    comm_slice(n, o->size, o->rank, &first, &count);
    *e = (struct evaluation){.n_sequences = n};
    if (o->histogram)
        memset(o->histogram, 0, (size_t)o->vocab_size * sizeof *o->histogram);
    struct nn_loss loss = {0};
    TRY(comm_agree(o->comm, run(e, &loss, o, first, first + count)));
    double sum = o->counts ? loss.sum : 0;
    int64_t counts[2] = {o->counts ? loss.n_targets : 0, e->n_bytes};
    comm_sum_f64(o->comm, &sum, 1);
    comm_sum_i64(o->comm, counts, 2);
    if (o->histogram) comm_sum_i64(o->comm, o->histogram, (int)o->vocab_size);
    e->n_targets = counts[0];
    e->n_bytes = counts[1];
    e->loss = e->n_targets > 0 ? sum / (double)e->n_targets : 0;
    return STATUS_OK;
}

double evaluate_unigram_entropy(const int64_t *histogram, int64_t vocab_size)
{
    double total = 0, entropy = 0;
    for (int64_t i = 0; i < vocab_size; i++) total += (double)histogram[i];
    for (int64_t i = 0; i < vocab_size; i++) {
        const double p = (double)histogram[i] / total;
        if (p > 0) entropy -= p * log(p);
    }
    return entropy;
}
