/* reduced - what happens to gradients as soon as their sums over ranks are there.
 *
 * The norm counts them, and what other ranks update is zeroed, piece by piece while it is in the
 * caches that the reduction left it in.  What this rank updates is zeroed by the update itself: so
 * no pass of a step only zeroes. */
#pragma once

#include "train/trainer.h"

/* What this rank answers for of flat elements [low, high) goes into the norm's sum.  Step regime. */
void reduced_add_squares(struct trainer *t, int64_t low, int64_t high);

/* The same, and those of them in t->grads that this rank does not update are zero.  A dp_reduced of
 * `trainer`.  Step regime. */
void reduced_take(void *trainer, int64_t low, int64_t high);
