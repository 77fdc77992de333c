/* inspect_config - what a configuration trains. */
#pragma once

#include "core/status.h"

/* `steps`: those whose learning rate is printed, "0,1,99"; NULL: ten, evenly from the first to the
 * last.  STATUS_CONFIG, STATUS_IO, STATUS_NOMEM; STATUS_USAGE for steps that are none. */
MUST_USE status_t inspect_config(const char *path, const char *steps);
