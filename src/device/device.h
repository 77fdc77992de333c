/* device - where tensors live and what copies them: the seam between the runtime and hardware.
 *
 * A device owns its memory and its queue of work.  The CPU runs everything at once, so its
 * queue is always empty; on an accelerator calls return before the work is done, and
 * device_wait waits for all of it.  Every byte it hands out is counted. */
#pragma once

#include <stddef.h>

#include "core/status.h"

struct
    device; /* opaque: device_impl.h, one backend each in device_cpu.c and, later, CUDA */

/* Open the device called `name` ("cpu").  STATUS_DEVICE names what there is.  Local. */
MUST_USE status_t device_open(struct device **d, const char *name);
void device_close(struct device **d); /* NULL-safe; nulls */

const char *device_name(const struct device *d);

/* Zeroed memory, aligned to ARENA_ALIGN_BYTES.  STATUS_NOMEM names bytes and purpose. */
MUST_USE status_t device_alloc(struct device *d, size_t bytes, const char *purpose,
                               void **p);
void device_free(struct device *d, void **p, size_t bytes); /* NULL-safe; nulls */
size_t device_allocated_bytes(const struct device *d); /* now, over all live blocks */

/* Between host and device memory; both are complete on return. */
void device_copy_in(struct device *d, void *dst, const void *host, size_t bytes);
void device_copy_out(struct device *d, void *host, const void *src, size_t bytes);
void device_zero(struct device *d, void *dst, size_t bytes);
void device_wait(struct device *d);
