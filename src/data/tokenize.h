/* tokenize - text files into token files, on several threads.
 *
 * Whether a document is for training or validation is decided by the xxh3 of its text, so
 * equal documents always go the same way and the order of the files does not matter.  The
 * files written do not depend on the number of threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/text.h"
#include "data/tokenizer.h"

struct tokenize_counts {
    int64_t n_documents, n_tokens, text_bytes;
};

struct tokenize_options {
    const struct tokenizer *tokenizer;
    struct text_reader *text;
    const char *train_path;
    const char *validation_path; /* NULL: all documents are for training */
    double validation_share;     /* of the documents; 0 < share < 1 */
    bool no_eos;                 /* do not end documents with tokenizer_eos */
    int n_threads;
    /* Called now and then with what is written; may be NULL. */
    void (*progress)(void *context, const struct tokenize_counts *so_far);
    void *progress_context;
};

/* Until both files are complete neither path is touched.  STATUS_DATA: also when the tokenizer
 * has no end-of-document token, or a file would have no document. */
MUST_USE status_t tokenize(const struct tokenize_options *o,
                           struct tokenize_counts *train,
                           struct tokenize_counts *validation);
