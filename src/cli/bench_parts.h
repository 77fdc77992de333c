/* bench_parts - what a training step consists of: times that add up to its wall time. */
#pragma once

#include "cli/bench.h"
#include "train/trainer.h"

/* Of one step of this rank. */
struct bench_parts {
    double seconds;                                     /* the whole step */
    struct nn_account_entry operations[NN_ACCOUNT_MAX]; /* none if no account was kept */
    int n_operations;
    double loader, communication; /* waited for micro-batches; inside calls of comm */
    int64_t page_faults;
};

/* Around a step. */
void bench_parts_begin(struct bench_parts *p, struct trainer *t);
void bench_parts_end(struct bench_parts *p, struct trainer *t);

/* Seconds that each product among the operations would take if nothing else were done, with nn's
 * threads, in type t: the same calls again and again.  alone[i] is 0 where operation i is no product.
 * STATUS_NOMEM. */
MUST_USE status_t bench_parts_alone(const struct bench_parts *p, struct device *d,
                                    int threads, enum dtype t,
                                    double alone[NN_ACCOUNT_MAX]);

/* A table, or, with json, members of an object. */
void bench_parts_print(const struct bench_parts *p, const double alone[NN_ACCOUNT_MAX],
                       const struct arch *arch, bool json);
