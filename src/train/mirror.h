/* mirror - what this rank updates (masters and moments), in host memory.
 *
 * Checkpoints are written from and read into host memory.  For a device with memory of its own the
 * mirror is page-locked host memory of the same size, copied out of and into the device in the copy
 * queue.  Where the device's memory is the host's, reading needs no mirror, and writing one only
 * if training goes on meanwhile: then it holds what this rank owns. */
#pragma once

#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "parallel/zero/zero.h"

struct mirror {
    struct device *device;   /* borrowed */
    const struct zero *zero; /* borrowed */
    int64_t n;               /* elements */
    float *memory; /* [3, n]: master, exp_avg, exp_avg_sq; NULL: the device's is used */
    struct device_mark *copied;
};

/* Host memory that a mirror of these takes; `async`: it is written while training goes on. */
size_t mirror_host_bytes(const struct device *dev, const struct zero *zero, bool async);

/* STATUS_NOMEM; release it also after a failure. */
MUST_USE status_t mirror_init(struct mirror *m, struct device *dev,
                              const struct zero *zero, bool async);
void mirror_release(struct mirror *m);

/* Where the host finds range i of zero's to be copied in, and owned range i copied out. */
struct checkpoint_range mirror_range(const struct mirror *m, int64_t i);
struct checkpoint_range mirror_owned(const struct mirror *m, int64_t i);

/* Queue copies of the owned ranges as they are after all computing queued now; computing that
 * is queued later waits for them.  Done, or waited for: they are there. */
void mirror_begin_copy_out(struct mirror *m);
bool mirror_copied(struct mirror *m);
void mirror_wait(struct mirror *m);

/* The device's ranges = the mirror's; complete on return. */
void mirror_copy_in(struct mirror *m);
