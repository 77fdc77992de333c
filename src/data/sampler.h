/* sampler - the global order of training sequences: a pure function of
 * (seed, mixture, global sample index).
 *
 * Each source is cut into windows of T + 1 tokens that overlap by one (T inputs, T targets).  Of
 * a source in rows (token_file_info.row_tokens) each row is a window, whose last token has no
 * target.  Tokens that a source's loss mask leaves out are no targets.
 * Sample i is the mixture's choice of source and count; the count'th window of a source is
 * drawn by a keyed permutation of its windows, a new key each epoch.  Resuming is asking for
 * another index. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/repetition.h"
#include "data/token_file.h"

struct data_source {
    char *path; /* of token_file_open_with */
    double weight;
    struct token_file_options
        file; /* what the files do not say; not its check and fallback */
};

/* One micro-batch on the host: B sequences of T tokens, N = B * T rows. */
struct batch {
    int64_t B, T;
    int32_t *tokens;  /* [N] */
    int32_t *targets; /* [N] the token that follows, -1 where it is not to be predicted */
    int32_t *positions; /* [N] */
    int32_t
        *doc_start;    /* [N] first row, inside the sequence, that this row may look at */
    int64_t n_targets; /* of all rows, those with target >= 0 */
};

struct sampler_options {
    const struct data_source *sources;
    int n_sources;
    int64_t T;
    uint64_t seed;
    bool shuffle; /* false: windows in file order (validation) */
    bool
        document_mask; /* rows see only their own document, positions restart in it, and the
                           first token of the next document is not a target */
    struct repetition_limit
        repetition; /* sequences beyond it are drawn, but have no targets */
    enum token_file_check check;
    int64_t vocab_size; /* of the model, for sources that do not say theirs; 0: unknown */
};

struct sampler;

/* Open all sources.  STATUS_DATA if one is shorter than a window, has rows of another length, does not
 * tell the documents that a document mask needs, or has no vocabulary: not itself, not the model, not
 * the first source; or if vocabularies or tokenizers differ (names the two files).  Local. */
MUST_USE status_t sampler_create(struct sampler **s, const struct sampler_options *o);
void sampler_destroy(struct sampler **s); /* NULL-safe; nulls */

int64_t sampler_windows(const struct sampler *s, int source); /* windows of a source */
int64_t sampler_total_windows(const struct sampler *s);
const struct token_file *sampler_file(const struct sampler *s, int source);

/* The window that is global sample `index` (>= 0), as a number inside *source; it starts at
 * token number * T of that file. */
int64_t sampler_window(const struct sampler *s, int64_t index, int *source);

/* Fill row block `row` (0 <= row < batch->B) of the batch with global sample `index`.
 * Adds to batch->n_targets.  STATUS_DATA when the file turns out to be damaged. */
MUST_USE status_t sampler_fill(const struct sampler *s, int64_t index, struct batch *b,
                               int64_t row);
