/* device_cuda_impl - shared by the files of the CUDA device; included only in this folder, and only
 * by files of the plug-in. */
#pragma once

#include <stdatomic.h>

#include "device/device_cuda.h"
#include "device/device_impl.h"

enum { CUDA_RING = 16 };

/* Page-locked blocks that were handed out. */
struct cuda_pinned {
    struct cuda_pinned *next;
    const char *base;
    size_t bytes;
};

/* Behind device.state. */
struct cuda_state {
    int index;
    int capability; /* 10 * major + minor */
    int multiprocessors;
    char model[128], id[32];
    bool recording;
    cudaStream_t streams[DEVICE_QUEUES];
    /* device_order takes the next one round: what a stream waits for was fixed when it was told to,
     * so that an event may be recorded anew while it is waited for */
    cudaEvent_t ring[CUDA_RING];
    atomic_uint next;
    struct cuda_pinned *pinned;
    struct device *before; /* that was blamed for failures when this one was opened */
};

/* The state of `d`; makes its device the one that this thread's calls mean. */
struct cuda_state *device_cuda_state(const struct device *d);

/* Poll until all that is in the queue is done; dies as device_set_watch says. */
void device_cuda_wait(struct device *d, enum device_queue q);

/* The same for a stream of `d`; `what` is waited for. */
void device_cuda_wait_stream(struct device *d, cudaStream_t stream, const char *what);

/* From now on failures are those of this device; until it is closed, then again of the one before. */
void device_cuda_blame(struct device *d);
void device_cuda_exonerate(const struct device *d);
/* The runtime's reason in words a user can act on; static text. */
const char *device_cuda_reason(cudaError_t e);
bool device_cuda_debugging(void); /* YOKE_DEBUG_SYNC=1 */

void device_cuda_order(struct device *d, enum device_queue first, enum device_queue then);
void *device_cuda_mark_create(struct device *d);
void device_cuda_mark_destroy(struct device *d, void *mark);
void device_cuda_mark_set(struct device *d, void *mark, enum device_queue q);
bool device_cuda_mark_done(struct device *d, void *mark);
void device_cuda_mark_wait(struct device *d, void *mark);
void device_cuda_mark_order(struct device *d, void *mark, enum device_queue q);
bool device_cuda_record_begin(struct device *d);
struct device_graph *device_cuda_record_end(struct device *d);
void device_cuda_replay(struct device *d, struct device_graph *g);
void device_cuda_graph_destroy(struct device *d, struct device_graph *g);

status_t device_cuda_count(int *count);
const char *device_cuda_visible(void); /* the value of CUDA_VISIBLE_DEVICES */
/* Is there code for this GPU?  STATUS_DEVICE. */
status_t device_cuda_check_capability(const struct cuda_state *s);
/* Versions of driver, runtime, cuBLASLt, NCCL and cuDNN, of what is loaded. */
void device_cuda_describe_libraries(char *text, size_t bytes);

/* The compute capabilities that the kernels were compiled for, "7.5, 8.0, 9.0"; static text. */
const char *device_cuda_compiled_for(void);

/* The same as nvcc writes it, "750,800,900"; "" if it is not known. */
extern const char device_cuda_architectures[];
