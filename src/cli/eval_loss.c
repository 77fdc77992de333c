/* The loss of a model on token files. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/eval.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "train/evaluate.h"

/* How many bytes each token stands for; NULL in *bytes when the run has no tokenizer. */
static status_t load_token_bytes(const struct inference *i, int32_t **bytes)
{
    char path[PATH_MAX];
    struct tokenizer *t = NULL;
    inference_tokenizer_path(i, path);
    *bytes = NULL;
    if (!file_exists(path)) return STATUS_OK;
    TRY(inference_tokenizer_open(&t, i));
    const int64_t V = i->config.arch.vocab_size;
    *bytes = calloc((size_t)V, sizeof **bytes);
    if (!*bytes) {
        tokenizer_close(&t);
        return status_set(STATUS_NOMEM, "no memory for the lengths of %jd tokens",
                          (intmax_t)V);
    }
    for (int64_t id = 0; id < V && id < tokenizer_vocab_size(t); id++) {
        size_t n = 0;
        tokenizer_bytes(t, id, &n);
        if (id != tokenizer_eos(t)) (*bytes)[id] = (int32_t)n; /* eos is no text */
    }
    tokenizer_close(&t);
    return STATUS_OK;
}

static status_t open_data(struct sampler **s, const struct inference *i,
                          const struct eval_arguments *a)
{
    struct data_source given = {.path = (char *)(uintptr_t)a->data, .weight = 1};
    const struct config *c = &i->config;
    if (!a->data && c->validation.n == 0)
        return status_set(STATUS_USAGE,
                          "the run has no data.validation; give --data FILE");
    const struct data_source *sources = a->data ? &given : c->validation.items;
    const int n = a->data ? 1 : c->validation.n;
    const struct sampler_options o = {.sources = sources,
                                      .n_sources = n,
                                      .T = c->sequence_length,
                                      .document_mask = c->document_mask,
                                      .vocab_size = c->arch.vocab_size,
                                      .check = inputs_check(c, sources, n)};
    char known[HASH_SHA256_HEX];
    TRY(inference_tokenizer_sha256(i, known));
    TRY(sampler_create(s, &o));
    for (int k = 0; k < n; k++) {
        const struct token_file *f = sampler_file(*s, k);
        const char *made_with = token_file_info(f)->tokenizer_sha256;
        if (known[0] && made_with[0] && strcmp(known, made_with) != 0)
            return status_set(
                STATUS_DATA,
                "%s: was made with another tokenizer (sha256 %.8s...) than the "
                "model's (%.8s...); make it again with that one",
                token_file_path(f), made_with, known);
        const int64_t vocab = token_file_info(f)->vocab_size;
        if (vocab > c->arch.vocab_size)
            return status_set(STATUS_DATA, "%s: has %jd token ids, the model %jd",
                              token_file_path(f), (intmax_t)vocab,
                              (intmax_t)c->arch.vocab_size);
    }
    return STATUS_OK;
}

static void report(const struct evaluation *e, double unigram)
{
    printf("validation loss %.4f perplexity %.3f", e->loss, exp(e->loss));
    if (e->n_bytes > 0)
        printf(" bits_per_byte %.4f",
               e->loss * (double)e->n_targets / (double)e->n_bytes / M_LN2);
    printf(" unigram %.4f targets %jd sequences %jd\n", unigram, (intmax_t)e->n_targets,
           (intmax_t)e->n_sequences);
}

static void add_loss(void *inference, const struct model_input *in, struct nn_loss *loss)
{
    inference_loss(inference, in, loss);
}

static status_t run(struct inference *i, struct comm *world,
                    const struct eval_arguments *a, struct evaluate_options *o)
{
    const int *coord = i->layout.mesh.coord;
    const bool counts = layout_counts_loss(&i->layout);
    o->sequences = a->sequences;
    o->micro_batch = a->batch;
    o->T = i->config.sequence_length;
    o->inputs = &i->inputs;
    o->rank = coord[MESH_DP];
    o->size = i->layout.mesh.size[MESH_DP];
    o->counts = counts;
    o->counts_tokens = counts && coord[MESH_CP] == 0;
    o->comm = world;
    o->loss = add_loss;
    o->context = i;
    struct evaluation e;
    TRY(evaluate(&e, o));
    if (comm_rank(world) == 0)
        report(&e, evaluate_unigram_entropy(o->histogram, o->vocab_size));
    return STATUS_OK;
}

status_t eval_loss(struct inference *i, struct comm *world,
                   const struct eval_arguments *a)
{
    struct sampler *sampler = NULL;
    int32_t *token_bytes = NULL;
    const int64_t V = i->config.arch.vocab_size;
    int64_t *histogram = calloc((size_t)V, sizeof *histogram);
    status_t st =
        histogram ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for a histogram");
    if (st == STATUS_OK) st = load_token_bytes(i, &token_bytes);
    if (st == STATUS_OK) st = open_data(&sampler, i, a);
    st = comm_agree(world, st);
    const struct inference_room room = {.max_B = a->batch,
                                        .T = i->config.sequence_length,
                                        .documents = i->config.document_mask};
    if (st == STATUS_OK) st = inference_load(i, &room);
    struct evaluate_options o = {.sampler = sampler,
                                 .token_bytes = token_bytes,
                                 .histogram = histogram,
                                 .vocab_size = V};
    if (st == STATUS_OK) st = run(i, world, a, &o);
    free(histogram);
    free(token_bytes);
    sampler_destroy(&sampler);
    return st;
}
