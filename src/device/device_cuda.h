/* device_cuda - what the plug-in's other files need of the CUDA device; C and C++.
 *
 * Never included by the program itself: only by files that are built into the plug-in. */
#pragma once

#include <cuda_runtime_api.h>

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The stream behind a queue of `d`, which must be a CUDA device. */
cudaStream_t device_cuda_stream(const struct device *d, enum device_queue q);
/* Compute capability as 10 * major + minor, and number of multiprocessors. */
int device_cuda_capability(const struct device *d);
int device_cuda_multiprocessors(const struct device *d);

/* Die with the runtime's own words unless e is cudaSuccess; `what` names the call or kernel. */
void device_cuda_check(cudaError_t e, const char *what);
/* Call it behind every kernel launch: errors of the launch itself; with YOKE_DEBUG_SYNC=1 in the
 * environment it also waits for the kernel, so that a failing one is named. */
void device_cuda_launched(const char *kernel);

#ifdef __cplusplus
}
#endif
