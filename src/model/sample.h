/* sample - choosing the next token from its logits. */
#pragma once

#include <stdint.h>

#include "core/status.h"

struct sample_options {
    double temperature; /* 0: the most likely token */
    int64_t top_k;      /* only the k most likely; 0: all */
    double
        top_p; /* only the most likely ones that together reach p (Holtzman et al. 2019,
                           arXiv:1904.09751, section 3.1); 1: all */
    uint64_t key; /* of rng_uniform */
};

/* STATUS_USAGE names the option that is out of bounds. */
MUST_USE status_t sample_check(const struct sample_options *o);

/* A token of logits[0..V); `draw` is the number of the draw under o->key.  order: room for V
 * indices.  Ties go to the lower id. */
int32_t sample_token(const float *logits, int64_t V, const struct sample_options *o,
                     uint64_t draw, int32_t *order);
