/* gemm_peak - what this rank's matrix products reach, the yardstick a step is held against. */
#pragma once

#include "nn/nn.h"

/* Floating-point operations a second of an fp32 product of 1024 x 1024 x 1024 on nn's threads:
 * the best of a few, about 0.1 s.  Its 12 MiB are taken and given back.  STATUS_NOMEM. */
MUST_USE status_t gemm_peak_measure(struct nn *nn, double *flops_per_second);
