/* tokenize - text files, or conversations, into token files, on several threads.
 *
 * Whether a document is for training or validation is decided by the xxh3 of its text, so
 * equal documents always go the same way and the order of the files does not matter.  The
 * files written do not depend on the number of threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/chat.h"
#include "data/text.h"
#include "data/tokenizer.h"

struct tokenize_counts {
    int64_t n_documents, n_tokens, text_bytes;
    int64_t n_predicted; /* of conversations: tokens that are */
    int64_t n_overlong;  /* documents that were longer than a row */
    int64_t n_dropped;   /* documents, or pieces of them, that were left out */
    int64_t n_rows;
};

/* What becomes of a conversation that is longer than a row. */
enum tokenize_overlong {
    TOKENIZE_OVERLONG_ERROR,    /* it is refused */
    TOKENIZE_OVERLONG_DROP,     /* left out */
    TOKENIZE_OVERLONG_TRUNCATE, /* its end is left out */
    TOKENIZE_OVERLONG_SPLIT     /* it becomes several, none of which sees those before */
};

struct tokenize_options {
    const struct tokenizer *tokenizer;
    const char *tokenizer_path; /* to be noted; NULL: not */
    struct text_reader *text;
    const struct chat_template *chat; /* each line is a conversation; NULL: text */
    enum chat_loss loss;
    int64_t row_tokens; /* with chat: pack into rows of so many; 0: no rows */
    enum tokenize_overlong overlong;
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
 * has no end-of-document token (of text) or none that the template needs, or a file would have no
 * document. */
MUST_USE status_t tokenize(const struct tokenize_options *o,
                           struct tokenize_counts *train,
                           struct tokenize_counts *validation);
