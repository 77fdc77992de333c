/* doctor - what these machines have, what of it works, and what to do about the rest.
 *
 * Nothing here changes anything.  What is merely unwise is a line with ! in the report; what does
 * not work is a status. */
#pragma once

#include <stdio.h>

#include "config/config.h"
#include "parallel/comm/comm.h"

struct doctor;

struct doctor_options {
    enum config_device device;     /* CUDA: a rank without a usable GPU is a fault */
    enum comm_transport transport; /* of vectors in GPU memory */
    double limit_seconds;          /* for other ranks to answer */
};

/* comm_start for a machine that may be unwell: the network interfaces of the first rank's host are
 * printed before, and if MPI does not start in time the job ends with advice about them. */
MUST_USE status_t doctor_start(struct comm **world, const struct doctor_options *o,
                               FILE *report, int *argc, char ***argv);

/* `o` and `report` are borrowed until doctor_destroy; only rank 0 writes to `report`.  Collective
 * on world; agreed.  STATUS_NOMEM. */
MUST_USE status_t doctor_create(struct doctor **d, struct comm *world,
                                const struct doctor_options *o, FILE *report);
/* Behind comm_finish, which may still need the GPU.  NULL-safe; nulls. */
void doctor_destroy(struct doctor **d);

/* Look at every rank's machine, then move vectors among all ranks and between all pairs of them and
 * check every number, in host memory and in GPU memory.  The status, the same on all ranks, is that
 * of the first fault: STATUS_LAUNCH, STATUS_DEVICE, STATUS_COMM.  A rank that does not answer in
 * time ends the job, naming the pair and what to try.  Once per doctor.  Collective. */
MUST_USE status_t doctor_run(struct doctor *d);
