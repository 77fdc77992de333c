/* train - a run from configuration to last checkpoint. */
#pragma once

#include "config/config.h"
#include "parallel/comm/comm.h"

/* Train as `c` says; on all ranks.  Resolves what the data decides (vocabulary) into c.
 * STATUS_REQUEUE after a signal was obeyed; else every status of setup and I/O, agreed. */
MUST_USE status_t train_run(struct comm *world, struct config *c);
