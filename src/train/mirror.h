/* mirror - what this rank updates (masters and moments), in host memory.
 *
 * Checkpoints are written from and read into host memory.  Where the device's memory is the
 * host's, the mirror is that memory itself; otherwise page-locked memory of the same size that is
 * copied out of and into the device in the copy queue. */
#pragma once

#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "parallel/zero/zero.h"

struct mirror {
    struct device *device;   /* borrowed */
    const struct zero *zero; /* borrowed */
    int64_t n;               /* elements over all of zero's ranges */
    float *memory;           /* [3, n]: master, exp_avg, exp_avg_sq; NULL: the device's */
    struct device_mark *copied;
};

/* Page-locked host memory that a mirror of these takes. */
size_t mirror_host_bytes(const struct device *dev, const struct zero *zero);

/* STATUS_NOMEM; release it also after a failure. */
MUST_USE status_t mirror_init(struct mirror *m, struct device *dev,
                              const struct zero *zero);
void mirror_release(struct mirror *m);

/* Where the host finds range r, one of zero's or a part of one. */
struct checkpoint_range mirror_range(const struct mirror *m, const struct zero_range *r);

/* Queue copies of the owned ranges as they are after all computing queued now; computing that
 * is queued later waits for them.  mirror_wait: they are there. */
void mirror_begin_copy_out(struct mirror *m);
void mirror_wait(struct mirror *m);

/* The device's ranges = the mirror's; complete on return. */
void mirror_copy_in(struct mirror *m);
