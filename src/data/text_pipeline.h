/* text_pipeline - documents through several threads, and out again in order.
 *
 * One thread reads documents into batches of about TEXT_BATCH_BYTES, n_threads threads work on
 * them, and the caller's thread takes them back in the order they were read.  A ring of batches
 * bounds the memory.  A document may lie in several batches: it is cut where `cut` says. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/text.h"
#include "data/tokenizer.h"

enum { TEXT_BATCH_BYTES = 1 << 18 };

struct text_part {
    size_t offset, bytes;   /* in the batch's text */
    uint64_t document_hash; /* xxh3 of the whole document this is a part of */
    size_t document_bytes;  /* of all its parts */
    bool is_last;           /* part of its document */
    const char *path;       /* of its file, and its line there if that is JSONL */
    int64_t line;
    int64_t first_id; /* in the batch's ids: set by the one who works on it */
};

struct text_batch {
    char *text;
    size_t bytes, capacity;
    struct text_part *parts;
    int64_t n_parts, parts_capacity;
    struct token_list ids, loss; /* room for results; kept from batch to batch */
};

struct text_pipeline {
    struct text_reader *text;
    int n_threads;

    /* Where a part of `text` that is at least `from` bytes long may end; `bytes`: nowhere
     * before the end. */
    size_t (*cut)(const void *context, const char *text, size_t bytes, size_t from);
    /* Called by thread `thread` of n_threads. */
    status_t (*work)(void *context, int thread, struct text_batch *b);
    /* Called by the caller's thread in the order of the text; may be NULL. */
    status_t (*finish)(void *context, struct text_batch *b);
    void *context;
};

/* Run until the end of the text or the first failure, whose status and sentence are returned.
 * STATUS_NOMEM, and what text_next, work and finish return. */
MUST_USE status_t text_pipeline_run(const struct text_pipeline *p);
