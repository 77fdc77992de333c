/* repetition - sequences in which a few tokens are repeated over and over, which OLMo 2 leaves out of
 * the loss: "instance_filter" of its configurations, olmo/data/util.py (find_periodic_sequences) and
 * olmo/data/memmap_dataset.py; the reason is in OLMo et al. 2024, arXiv:2501.00656, section 3.1. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct repetition_limit {
    int64_t period; /* most tokens that are repeated */
    int64_t count;  /* so many times in a row are too many; 0: no limit */
};

/* Are there 1 to limit.period tokens that come limit.count times or more, one after the other, in
 * tokens[0..n)?  As in OLMo no period is longer than a third of n. */
bool repetition_found(const int32_t *tokens, int64_t n, struct repetition_limit limit);
