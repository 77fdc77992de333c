/* emulation - a CUDA device made of host memory and fibers, to test the plug-in without a GPU.
 *
 * This header is for the emulation's own files and for the emulated libraries beside them
 * (*_emulated.c: cuBLASLt, NCCL).  The plug-in's sources see only the headers in include/.
 *
 * Memory.  cudaMalloc gives pages that neither host code nor another process can touch; they are
 * opened while queued work runs, and only then.  Every allocation ends at the end of a page, the
 * next page is never accessible, addresses are never given out twice, and fresh memory is filled
 * with 0xFF bytes (NaN, -1).
 *
 * Work.  Whatever is queued runs only when somebody waits for it, in a random order that stream
 * order and events permit; a query runs a random handful.  Operations run one at a time, on the
 * thread that waits, under one lock.  The order is a function of the seed:
 *   YOKE_EMULATION_SEED=N   default 1; under mpirun each rank derives its own from N.  The seed is
 *                           printed when the emulation finds an error and when the process ends
 *                           with a nonzero status.
 *
 * Faults, for tests:
 *   YOKE_EMULATION_FAULT=item[,item...]
 *     devices=N      so many devices (8)
 *     no_device      there is a driver, but no device
 *     old_driver     the driver is older than the runtime
 *     arch=N         compute capability N/10.N%10 (90); below 75 no kernel can be launched
 *     bf16=no        the same as arch=75
 *     oom=BYTES      total memory of each device (8 GiB)
 *     oom_host=BYTES page-locked memory there is (no limit)
 *     launch=WORD    launches of kernels with WORD in their name fail (cudaErrorLaunchOutOfResources)
 *     ecc=N          operation N (counted from 1 as they run) and everything after it fail
 *                    (cudaErrorECCUncorrectable, which stays)
 *     fault=WORD     a kernel with WORD in its name fails when it runs (cudaErrorLaunchFailure,
 *                    which stays)
 *     hang=N         operation N never ends
 *     graphs=no      streams cannot be captured
 *     peer=no        no device can access another
 *     nccl_...       in nccl_emulated.h; they name a rank of their own
 *     rank=K         all of this only on rank K of MPI_COMM_WORLD
 * An unknown item ends the process.
 *
 * A failure of the tested code that the emulation finds (access out of bounds, to freed memory or
 * by the host, a barrier that not all threads reach, ...) prints one message that begins with
 * "emulation:" and aborts. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- for emulated libraries ---------------------------------------------------------------- */

enum emulation_progress {
    EMULATION_DONE,
    EMULATION_PENDING /* not yet: run other work, then ask again */
};

/* Put an operation into `stream`.  When everything before it is done and somebody waits, `run` is
 * called with device memory open, again and again until it returns EMULATION_DONE; it must not
 * block, nor call functions of the runtime.  Arguments that the real library reads during its call
 * are copied into `context` by the caller.  Under capture nothing runs until the graph is launched,
 * and then once for each launch: after EMULATION_DONE, `run` must be ready to start over.
 * `release` (may be NULL) is called once, when nothing can run it any more; it also takes `context`
 * if the call fails.  Errors: those of a kernel launch (a failed device, an invalid capture).
 *
 * Device memory is closed between two calls of `run`, and never open to other processes: what MPI
 * sends and receives in the background must be in host memory of the operation's own. */
cudaError_t emulation_queue(cudaStream_t stream, const char *name,
                            enum emulation_progress (*run)(void *context),
                            void (*release)(void *context), void *context);

/* Is [p, p + bytes) inside one live allocation of device memory (of any device)? */
bool emulation_is_device(const void *p, size_t bytes);
/* Is it page-locked host memory? */
bool emulation_is_pinned(const void *p, size_t bytes);

/* The tested code did something wrong: print "emulation: ", the operation that runs, the message
 * and the seed; abort. */
__attribute__((format(printf, 1, 2), noreturn)) void emulation_fail(const char *format,
                                                                    ...);

/* The value of an item of YOKE_EMULATION_FAULT ("" for one without a value), NULL if it is not
 * there.  Emulated libraries may have items of their own: emulation_fault_items in seed.c. */
const char *emulation_fault(const char *item);

/* Go on with the order of another seed (YOKE_EMULATION_SEED).  Tests find it with device_symbol. */
void emulation_set_seed(uint64_t n);

/* A uniform random number below n, of the seeded order of this process. */
uint32_t emulation_random(uint32_t n);

#ifdef __cplusplus
}
#endif
