/* gemm_peak - what this rank's matrix products reach, the yardstick a step is held against. */
#pragma once

#include "nn/nn.h"

/* Floating-point operations a second of a square product in type t on nn's threads: the best of a
 * few at the first size, doubling from 256, that takes two milliseconds, or at 8192, or at the
 * largest there is memory for.  It is taken and given back.  STATUS_NOMEM: not even for 256. */
MUST_USE status_t gemm_peak_measure(struct nn *nn, enum dtype t,
                                    double *flops_per_second);
