/* space - is there room for the checkpoints of a run? */
#pragma once

#include "train/trainer.h"

/* Bytes of one checkpoint, over all shards: an upper bound. */
double space_checkpoint_bytes(int64_t n_parameters);

/* Hold one checkpoint against what is free in the run folder, the user's disk quota and the limit on
 * the size of a file, and warn if all that are to be kept do not fit.  STATUS_IO names the bytes.
 * Collective on the trainer's world; agreed. */
MUST_USE status_t space_check(const struct trainer *t);
