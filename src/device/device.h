/* device - where tensors live and what orders work on them: the seam between the runtime and
 * hardware.
 *
 * A device owns its memory and three queues of work.  Work of one queue runs in the order in
 * which it was queued; between queues only device_order and marks give an order.  On the CPU
 * everything is done when the call returns, so queues are always empty; on an accelerator calls
 * return before the work is done.  Every byte handed out is counted.
 *
 * "cpu" is built in.  "cuda" comes from the plug-in libyoke_cuda.so, which is opened only when it
 * is asked for (plugin.c says where it is looked for); without a driver nothing is loaded.
 *
 * A failure of the hardware in the step (a launch, an ECC error, a wait past the timeout) dies. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/status.h"

struct device; /* opaque: device_impl.h; backends in device_cpu.c and device_cuda.c */

enum device_queue { DEVICE_COMPUTE, DEVICE_COMM, DEVICE_COPY, DEVICE_QUEUES };

/* ---- life -------------------------------------------------------------------------------- */

/* How many devices called `name` this process sees.  0: none, and status_message() says why (no
 * driver, too old a driver, no plug-in, no device, ...).  STATUS_DEVICE. */
MUST_USE status_t device_count(const char *name, int *count);

/* Open number `index` of the devices called `name` ("cpu" has one: 0).  STATUS_DEVICE names what
 * there is, or what is wrong with it (architecture, driver, in use).  Local. */
MUST_USE status_t device_open(struct device **d, const char *name, int index);
void device_close(struct device **d); /* NULL-safe; nulls */

const char *device_name(const struct device *d); /* "cpu", "cuda" */
/* Is its memory the host's?  Then pointers may be followed, and copies are not needed. */
bool device_is_host(const struct device *d);
/* Can it compute in this type at speed?  fp32: always. */
bool device_supports(const struct device *d, enum dtype t);

struct device_info {
    char model[128];                /* "NVIDIA H200"; the CPU's name */
    char id[32];                    /* PCI address; "" for the CPU */
    char libraries[512];            /* versions of what it uses, one line */
    int major, minor;               /* compute capability; 0.0 for the CPU */
    size_t total_bytes, free_bytes; /* of its memory, now */
};
void device_describe(const struct device *d, struct device_info *info);

/* Waits of the host end the job after `seconds` (0: never, the default) and call `watch`, unless
 * it is NULL, every few milliseconds; watch may die with a better reason. */
void device_set_watch(struct device *d, double seconds, void (*watch)(void *context),
                      void *context);

/* What the plug-in of this device exports under `name`; NULL if nothing, or no plug-in.  Tables of
 * other modules' backends travel this way, so that this module knows nothing of them. */
const void *device_symbol(const struct device *d, const char *name);

/* ---- memory ------------------------------------------------------------------------------ */

/* Zeroed memory, aligned to ARENA_ALIGN_BYTES.  STATUS_NOMEM names bytes, purpose and what the
 * device has free. */
MUST_USE status_t device_alloc(struct device *d, size_t bytes, const char *purpose,
                               void **p);
void device_free(struct device *d, void **p, size_t bytes); /* NULL-safe; nulls */
size_t device_allocated_bytes(const struct device *d); /* now, over all live blocks */

/* The same where other processes of this host may map it, once device_set_shared has asked for
 * that and as far as the system lets us; else as device_alloc.  Nobody but these processes sees
 * it, and it is gone with the last of them, however they end. */
MUST_USE status_t device_alloc_shared(struct device *d, size_t bytes, const char *purpose,
                                      void **p);
void device_set_shared(struct device *d, bool shared);
/* Give such memory back, but keep it for those who have it mapped; device_free takes it from them.
 * NULL-safe; nulls. */
void device_leave(struct device *d, void **p, size_t bytes);

/* A block that can be mapped: descriptor `fd` of this process. */
struct device_block {
    uint64_t id; /* no other block of this process ever has it */
    int32_t fd;
    size_t bytes;
};
/* The block that x[0..bytes) lies in, and where.  False: in none. */
bool device_find_shared(const struct device *d, const void *x, size_t bytes,
                        struct device_block *block, size_t *offset);

/* Zeroed host memory that copies of this device run fastest from and to (page-locked). */
MUST_USE status_t device_alloc_host(struct device *d, size_t bytes, const char *purpose,
                                    void **p);
void device_free_host(struct device *d, void **p, size_t bytes); /* NULL-safe; nulls */
size_t device_host_bytes(const struct device *d);

/* ---- work -------------------------------------------------------------------------------- */

/* Between host and device memory, behind all that is in the compute queue; complete on return. */
void device_copy_in(struct device *d, void *dst, const void *host, size_t bytes);
void device_copy_out(struct device *d, void *host, const void *src, size_t bytes);

/* The same, only queued: `host` is from device_alloc_host and untouchable until the queue has
 * passed it. */
void device_queue_copy_in(struct device *d, enum device_queue q, void *dst,
                          const void *host, size_t bytes);
void device_queue_copy_out(struct device *d, enum device_queue q, void *host,
                           const void *src, size_t bytes);

/* In the compute queue. */
void device_zero(struct device *d, void *dst, size_t bytes);

/* All that is in queue `first` now is done before anything put into queue `then` from now on. */
void device_order(struct device *d, enum device_queue first, enum device_queue then);
/* The host waits for all queues. */
void device_wait(struct device *d);

/* A point in a queue that the host can ask about. */
struct device_mark;
MUST_USE status_t device_mark_create(struct device_mark **m, struct device *d);
void device_mark_destroy(struct device_mark **m);                 /* NULL-safe; nulls */
void device_mark_set(struct device_mark *m, enum device_queue q); /* may be set again */
bool device_mark_done(struct device_mark *m); /* true also if it was never set */
void device_mark_wait(struct device_mark *m); /* the host waits */
/* Work put into q from now on runs behind the mark. */
void device_mark_order(struct device_mark *m, enum device_queue q);

/* ---- recorded work ----------------------------------------------------------------------- */

/* Work that repeats with the same addresses can be recorded once and replayed with one call (a
 * CUDA graph).  Between begin and end nothing runs and the host must not wait. */
struct device_graph;
/* false: this device cannot; go on as if it had not been asked. */
bool device_record_begin(struct device *d);
/* What was put into the compute queue since.  NULL: it could not be recorded (the reason is
 * logged), and nothing of it has run. */
struct device_graph *device_record_end(struct device *d);
void device_replay(struct device *d, struct device_graph *g); /* in the compute queue */
void device_graph_destroy(struct device *d, struct device_graph **g); /* NULL-safe */
