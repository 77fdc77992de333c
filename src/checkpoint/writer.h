/* writer - a thread that does one job at a time, at low priority, while training goes on. */
#pragma once

#include <stdbool.h>

#include "core/status.h"

struct writer;

/* STATUS_NOMEM if there can be no thread. */
MUST_USE status_t writer_create(struct writer **w);
void writer_destroy(struct writer **w); /* waits for the job; NULL-safe; nulls */

/* Have `job` done with `context`, which stays untouched until it is over; waits for the job
 * before it. */
void writer_start(struct writer *w, void (*job)(void *context), void *context);
bool writer_working(struct writer *w);
void writer_wait(struct writer *w); /* until no job is left */
