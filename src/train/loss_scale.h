/* loss_scale - keeps the gradients of fp16 activations away from zero and infinity.
 *
 * The loss is multiplied by the scale before backward and the gradient divided by it in the update.
 * A step whose gradient is not finite halves the scale and is skipped; many good steps in a row
 * double it (Micikevicius et al. 2017, arXiv:1710.03740, section 3.2).  Always a power of two, so
 * that it does not show in the digits. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/dtype.h"

struct loss_scale {
    double scale;  /* 1 unless fp16 */
    int64_t steps; /* good ones since it last changed */
};

/* What training in `t` begins with; `saved` is what a checkpoint says, 0 if nothing. */
struct loss_scale loss_scale_begin(enum dtype t, double saved, int64_t saved_steps);

/* After a step; true if the scale changed. */
bool loss_scale_update(struct loss_scale *s, enum dtype t, bool finite);
