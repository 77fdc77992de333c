/* names - what transformers calls the parameters of each family. */
#pragma once

#include "model/arch.h"

/* Names inside a block stand behind its prefix, whose %jd is the layer.  NULL: there is none. */
struct names {
    const char *embedding, *positions, *block, *final_norm, *head;
    const char *norm1, *norm2; /* .weight and .bias follow, as for all below */
    const char *qkv;           /* q, k and v are rows of one matrix, in that order ... */
    const char *q, *k, *v;     /* ... or three */
    const char *q_norm, *k_norm;
    const char *out, *gate, *up, *down;
};

const struct names *names_of(const struct arch *a);
