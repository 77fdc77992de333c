/* simulate - run a schedule against a cost model: does it end, does it keep its promises, and how
 * long is everybody idle?  Pure. */
#pragma once

#include "parallel/pp/schedule.h"

struct pp_costs {
    double op
        [PP_OPS]; /* of one instruction; a schedule without PP_WEIGHTS pays it in backward */
    double transfer;     /* from one stage to another */
    const double *stage; /* [n_stages]: a factor of each stage; NULL: 1 */
};

struct pp_times {
    double begin, end;
};

struct pp_simulation {
    struct pp_times **times; /* [n_stages][instructions]: of each one */
    double makespan;
    double bubble; /* share of the stages' time up to makespan in which they do nothing */
    int *
        most_alive; /* [n_stages]: micro-batches times chunks between forward and their end */
};

/* Every instruction begins when those before it on its stage, and those it waits for, are done.
 * STATUS_INTERNAL names the instruction that is there twice or not at all, or those that wait for
 * each other for ever.  STATUS_NOMEM.  Release it also after a failure. */
MUST_USE status_t pp_simulate(struct pp_simulation *sim, const struct pp_schedule *s,
                              const struct pp_costs *costs);
void pp_simulation_release(struct pp_simulation *sim, const struct pp_schedule *s);
