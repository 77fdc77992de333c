/* gemm_peak - what this rank's matrix products reach, the yardstick a step is held against. */
#pragma once

#include "nn/nn.h"

/* Floating-point operations a second of a square product in type t: of 1024 x 1024 x 1024 on nn's
 * threads, or where that takes no time of the smallest doubling that does; the best of a few.
 * Its memory is taken and given back.  STATUS_NOMEM. */
MUST_USE status_t gemm_peak_measure(struct nn *nn, enum dtype t,
                                    double *flops_per_second);
