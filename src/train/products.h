/* products - how a run multiplies matrices of fp32 on the CPU (train.fp32_products). */
#pragma once

#include "config/config.h"
#include "device/device.h"
#include "parallel/comm/comm.h"

/* Sets it for every nn that is created from now on, and says it in a word or two; NULL: there is no choice,
 * because the device is another or weights are not fp32.  auto: what each rank measures once for a model of
 * CPU and keeps in $XDG_CACHE_HOME/yoke or ~/.cache/yoke (where that cannot be written, at every start);
 * bf16x6 if it pays on all.  Collective on world (NULL: this process by itself).  STATUS_CONFIG: this CPU
 * has no AMX. */
MUST_USE status_t products_choose(const char **what, const struct device *d, enum dtype t,
                                  struct comm *world, enum config_products wanted);
