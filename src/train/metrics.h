/* metrics - what a run says about itself: RUN/metrics.jsonl, the console, TensorBoard.
 *
 * metrics.jsonl holds one JSON object a line, in order of steps (docs/metrics.md has every
 * field).  A line is written with one write(2).  What the clock has a say in stands apart, in
 * "machine", so that two runs can be compared on the rest, bitwise: those doubles are printed
 * with 17 digits.  Values that are not finite are written as null.
 *
 * A resumed run first drops the lines beyond the step it resumes at, so the file of an
 * interrupted run becomes that of an uninterrupted one.  Only rank 0 has a metrics object. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* One log interval. */
struct metrics_record {
    int64_t step;      /* steps done */
    const char *stage; /* NULL: the run has none; borrowed while it is the last record */
    int64_t tokens;    /* target tokens so far */
    int64_t skipped;   /* steps so far whose values were not finite */
    double loss;       /* nats per target, over the interval's steps */
    /* of the last step; z_loss 0: there is none, and it is not written */
    double z_loss, grad_norm, lr;
    /* the machine */
    double seconds; /* per step */
    double tokens_per_second, flops_per_second;
    double gemm_share;             /* of the measured GEMM peak, 0..1 */
    double loader_wait, comm_wait; /* seconds per step */
    int64_t memory_bytes;          /* peak resident size of the largest rank */
};

struct metrics_eval {
    int64_t step, sequences, targets;
    const char *stage; /* as above */
    double loss, perplexity;
};

struct metrics;

/* A return to an earlier checkpoint, because of steps that were bad. */
struct metrics_rollback {
    int64_t step;      /* of the checkpoint: the next step follows this one */
    int64_t from_step; /* that the run had come to */
    int64_t first_sample, last_sample; /* of the data that is passed over, inclusive */
};

/* Open RUN/metrics.jsonl for appending and, if wanted, an event file in RUN/tensorboard.
 * `run_dir` must exist.  resumed_step: steps already done; 0 begins the file anew; resumed_bytes:
 * what the file had then, 0: not known.  STATUS_IO, STATUS_NOMEM; on failure metrics.jsonl is as
 * before. */
MUST_USE status_t metrics_open(struct metrics **m, const char *run_dir, int64_t n_steps,
                               int64_t resumed_step, int64_t resumed_bytes,
                               bool tensorboard);
int64_t
metrics_bytes(const struct metrics *m); /* of the file, now; 0 if it cannot tell */

/* Write a record and say it: a line of log_info, or the progress bar of a terminal.  A write
 * that fails is warned of once, its record is lost, and training goes on. */
void metrics_train(struct metrics *m, const struct metrics_record *r);
void metrics_validation(struct metrics *m, const struct metrics_eval *e);

/* Drop the records beyond r->step and write this one.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t metrics_roll_back(struct metrics *m, const struct metrics_rollback *r);

/* Redraw the progress bar; cheap enough for every step. */
void metrics_progress(struct metrics *m, int64_t step);

/* Make all records durable.  To be called before a checkpoint is committed, so that no
 * checkpoint is ahead of the file.  STATUS_IO. */
MUST_USE status_t metrics_sync(struct metrics *m);

/* STATUS_IO if any record was lost.  NULL-safe; nulls. */
MUST_USE status_t metrics_close(struct metrics **m);

/* ---- reading ----------------------------------------------------------------------------- */

struct metrics_point {
    int64_t step;
    double loss; /* NaN where the file says null */
    bool validation;
};

struct metrics_series {
    struct metrics_point *points; /* in file order; owned */
    int64_t n;
};

/* All records of RUN/metrics.jsonl.  Lines that are not records (the last one of a killed run)
 * are passed over.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t metrics_read(struct metrics_series *s, const char *run_dir);
void metrics_series_release(struct metrics_series *s);
