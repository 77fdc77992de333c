/* inspect_tokens - what `yoke inspect` says of token files. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/sampler.h"

struct inspect_tokens {
    struct data_source source;
    const char *tokenizer; /* NULL: the one that made the file */
    bool verify;           /* every byte or id */
    int64_t sample;        /* rows, documents or pieces to print */
    int64_t seed;          /* draws which ones; < 0: the first */
};

/* The id of a special token, "none" for -1. */
void inspect_print_id(int64_t id);

/* Print to the standard output.  STATUS_DATA, STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t inspect_tokens(const struct inspect_tokens *a);
