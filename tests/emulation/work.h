/* work - operations that wait to be run, and the order in which they are.
 *
 * An operation knows which operations come before it; streams, events and graphs only say which.
 * What has nothing undone before it is ready; who waits runs ready operations in an order that is
 * as bad as the seed makes it; for each awaited operation one of:
 *   - only what it needs, everything else as late as possible,
 *   - everything else first,
 *   - anything.
 * All functions but work_lock are called with the lock held. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emulation.h"

/* What an operation does; shared with the graphs that repeat it. */
struct payload {
    const char *name;
    enum emulation_progress (*run)(void *context);
    void (*queued)(void *context); /* may be NULL: called each time it is queued */
    void (*release)(void *context);
    void *context;
    int n_refs;
};

struct payload *payload_create(const char *name,
                               enum emulation_progress (*run)(void *context),
                               void (*release)(void *context), void *context);
void payload_drop(struct payload *p); /* NULL-safe */

struct op; /* reference counted: whoever keeps a pointer holds it */
struct op *op_hold(struct op *o); /* NULL-safe; returns o */
void op_drop(struct op **o);      /* NULL-safe; nulls */
bool op_done(const struct op *o); /* NULL: true */
double op_done_ms(const struct op *o);

/* An operation behind `before[n]` (each may be NULL); p NULL: it only marks a point.  Takes a
 * reference of p; the caller owns one of the result. */
struct op *work_add(struct payload *p, struct op *const *before, int n);

/* Run until o is done (NULL: until everything is) or the device has failed. */
void work_wait(struct op *o);
/* Somebody asks whether o is done (NULL: nobody): run nothing, a handful, or all that a wait would
 * run. */
void work_some(struct op *o);
/* The device failed: nothing runs any more.  cudaSuccess: it did not. */
cudaError_t work_failure(void);
void work_set_failure(cudaError_t e);

/* One lock for the whole emulation; taken by the functions of the runtime. */
void work_lock(void);
void work_unlock(void);

/* The operation that runs, with its block and thread; "" if none does. */
void work_describe(char *text, size_t bytes);

/* `name` contains the word given for a fault. */
bool emulation_fault_names(const char *item, const char *name);
