/* saving - when a trainer's state becomes a checkpoint, and what happens if it cannot.
 *
 * The step waits only while the owned ranges are copied into the mirror.  The rest is done by the
 * writers of all ranks; the step's own reduction tells when they are through with a phase
 * (checkpoint.h), so saving adds no communication to the steps under which it goes on.
 *
 * A save that fails for lack of space or because of the file system is warned of and tried again
 * at the next interval, until it has failed checkpoint.max_failures times in a row. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/checkpoint.h"

struct trainer;

struct saving {
    struct checkpoint_saver *saver;
    struct checkpoint_range *ranges;
    char *versions, *data;       /* JSON that goes into every checkpoint */
    bool copying;                /* the device's copy into the mirror is under way */
    struct checkpoint_meta meta; /* of that save */
    double stall_seconds;        /* that training has waited for the save under way */
    int64_t failures;            /* in a row */
};

/* Collective on the trainer's world; agreed.  Release it also after a failure. */
MUST_USE status_t saving_init(struct trainer *t);
void saving_release(struct trainer *t);

/* Save the state as it is now, in the background (checkpoint.async).  One that is under way is waited
 * for, and that is said.  Collective; agreed: STATUS_OK also where a save failed and may. */
MUST_USE status_t saving_begin(struct trainer *t);
/* Save it and wait: a failure is one of this call.  Collective; agreed. */
MUST_USE status_t saving_now(struct trainer *t);
/* Would this rank hold up the next phase? */
bool saving_working(const struct trainer *t);
/* Between two steps: `working` is whether any rank is.  Collective; agreed, as saving_begin. */
MUST_USE status_t saving_poll(struct trainer *t, bool working);
/* Wait until what is under way is done.  `must`: a failure is one of this call.  Collective; agreed. */
MUST_USE status_t saving_finish(struct trainer *t, bool must);
