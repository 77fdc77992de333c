/* checkpoint - the state of a run on disk, readable by any layout and by any HDF5 tool.
 *
 * A checkpoint is a folder `step-00012000/` inside the run folder:
 *
 *   shard-00007.h5   written by rank 7 alone (sealed, kind "shard"): three contiguous fp32
 *                    datasets of equal length, /master, /exp_avg, /exp_avg_sq: the elements
 *                    that rank owns, its pieces one behind the other.
 *   model.h5         written last, by rank 0 (sealed, kind "model"):
 *       /model/NAME, /optimizer/exp_avg/NAME, /optimizer/exp_avg_sq/NAME
 *                    virtual datasets of the global shape, mapped onto the shards by relative
 *                    path, for people and tools;
 *       /param_names, /param_shapes
 *                    strings and uint64 [params, 3]: dimensions, rows, columns
 *       /index       uint64 [pieces, 7]: parameter, first row, first column, rows, columns,
 *                    shard, offset in elements
 *       /index_xxh3  uint64 [pieces, 3]: hash of the piece's bytes in each dataset
 *       /shards      uint64 [shards, 6]: size in bytes, seal hash, elements, and where in the
 *                    file /master, /exp_avg and /exp_avg_sq begin
 *       attributes   version, generation, and the fields of struct checkpoint_meta
 *
 * A piece is a rectangle of one parameter.  Writing: every rank writes shard.h5.tmp, seals,
 * fsyncs, renames; ranks agree; rank 0 does the same with model.h5 and fsyncs the folder.  A
 * folder without model.h5 is not a checkpoint.  The newest one is found by looking.  When a
 * step is saved again its shards get new names (generation 1: shard-00007.1.h5), and the
 * rename of model.h5 replaces the old checkpoint by the new one at once.
 *
 * The whole format, and what a reader sees at each moment: docs/checkpoint.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "model/param.h"
#include "parallel/comm/comm.h"

/* Elements [start, start + count) of a rank's flat parameter buffer, and where they are in memory.
 * A NULL pointer is allowed only for reading: that part is not wanted. */
struct checkpoint_range {
    int64_t start, count;
    float *master, *exp_avg, *exp_avg_sq;
};

/* What a checkpoint says besides tensors. */
struct checkpoint_meta {
    int64_t step;          /* steps done */
    int64_t next_sample;   /* global index of the first sample not yet used */
    int64_t data_step;     /* at which the order that next_sample counts in began */
    int64_t tokens;        /* target tokens trained on */
    int64_t skipped_steps; /* steps whose update was skipped */
    /* since the last line of metrics.jsonl, so that the next one is as if nothing had stopped */
    double log_loss_sum;
    int64_t log_targets;
    /* fp16: the loss scale and the steps since it last changed; 0 in other precisions */
    double loss_scale;
    int64_t loss_scale_steps;
    uint64_t seed;
    /* of what train.spike_sigma compares losses with: how many there were, mean, variance */
    int64_t spike_count;
    double spike_mean, spike_variance;
    int64_t rollbacks;      /* returns to an earlier checkpoint so far */
    double validation_loss; /* of the last evaluation at or before this step; NaN: none */
    int64_t metrics_bytes;  /* that metrics.jsonl of the run folder has up to this step */
    char *config;           /* resolved YAML text */
    char *versions;         /* JSON object: yoke, libraries, compiler, hosts */
    char *data;             /* JSON: paths and hashes of token files and tokenizer */
};
void checkpoint_meta_release(struct checkpoint_meta *m);

enum checkpoint_kind {
    CHECKPOINT_MASTER,
    CHECKPOINT_EXP_AVG,
    CHECKPOINT_EXP_AVG_SQ,
    CHECKPOINT_KINDS
};
extern const char *const checkpoint_kind_name[CHECKPOINT_KINDS]; /* "master", ... */

/* A parameter as a checkpoint names it. */
struct checkpoint_param {
    char name[96];
    int n_dims;       /* 1 or 2 */
    int64_t shape[2]; /* shape[1] == 1 if n_dims == 1 */
};

/* ---- saving ------------------------------------------------------------------------------- */

/* Which checkpoints of a run folder stay when a newer one is there: the newest `last`, those of steps
 * that `every` divides, and the `best` with the lowest validation loss; all, if the three are 0.
 * Of the rest model.h5 is removed first. */
struct checkpoint_keep {
    int64_t last, every, best;
};

struct checkpoint_saver_options {
    const char *run_dir; /* copied */
    struct comm *world;  /* borrowed, as all below */
    /* the table of the model, and of what this rank holds of it */
    const struct param_table *whole, *local;
    /* Flat elements of `local` and where they are when a save begins; untouched until it is over.
     * What a rank's slices do not own is left out; over all ranks the rest covers every element of
     * the model exactly once, which is checked; each rank's ranges are disjoint. */
    const struct checkpoint_range *ranges;
    int n_ranges;
    struct checkpoint_keep keep;
    /* On the root's writer thread, before model.h5 is written; may be NULL.  A failure is one of the
     * save. */
    status_t (*before_commit)(void *context);
    void *context;
};

/* Saves one checkpoint after another, each written by a thread of its own on every rank while
 * the callers go on. */
struct checkpoint_saver;

/* STATUS_NOMEM, STATUS_INTERNAL (ranges).  Local. */
MUST_USE status_t checkpoint_saver_create(struct checkpoint_saver **s,
                                          const struct checkpoint_saver_options *o);
/* Waits for the writer; a save that is not over is lost.  NULL-safe; nulls.  Local. */
void checkpoint_saver_destroy(struct checkpoint_saver **s);

/* Begin to save as RUN/step-XXXXXXXX; no save is under way.  Waits for nothing but the removal of
 * old checkpoints by the save before.  All ranks call it between the same two collective calls. */
void checkpoint_saver_begin(struct checkpoint_saver *s,
                            const struct checkpoint_meta *meta);
bool checkpoint_saver_busy(const struct checkpoint_saver *s); /* a save is under way */
/* This rank's writer has something to do: advance would wait for it.  Local. */
bool checkpoint_saver_working(const struct checkpoint_saver *s);

/* What became of a save. */
struct checkpoint_saved {
    bool over;
    int64_t step;
    int64_t bytes;  /* of all shards */
    double seconds; /* since it began */
};

/* Take a save that is under way to its next phase; to be called when no rank is working.  The
 * status, agreed, is that of the save once it is over.  After a failure what was there before is
 * untouched, also when it is the same step, and unfinished files are removed.  Collective on
 * world. */
MUST_USE status_t checkpoint_saver_advance(struct checkpoint_saver *s,
                                           struct checkpoint_saved *saved);
/* Until it is over. */
MUST_USE status_t checkpoint_saver_finish(struct checkpoint_saver *s,
                                          struct checkpoint_saved *saved);

/* All of it at once, keeping all older checkpoints.  Collective on world; agreed. */
MUST_USE status_t checkpoint_save(const char *run_dir, struct comm *world,
                                  const struct param_table *whole,
                                  const struct param_table *local,
                                  const struct checkpoint_range *ranges, int n_ranges,
                                  const struct checkpoint_meta *meta);

/* ---- reading ------------------------------------------------------------------------------ */

struct checkpoint; /* open for reading */

/* Open the checkpoint folder `path`: checks the seal of model.h5, its index against itself,
 * presence and size of every shard.  STATUS_CHECKPOINT, STATUS_IO.  Local. */
MUST_USE status_t checkpoint_open(struct checkpoint **c, const char *path);
void checkpoint_close(struct checkpoint **c); /* NULL-safe; nulls */

const struct checkpoint_meta *checkpoint_meta(const struct checkpoint *c);
const char *checkpoint_path(const struct checkpoint *c);

int checkpoint_n_params(const struct checkpoint *c);
const struct checkpoint_param *checkpoint_params(const struct checkpoint *c);
int checkpoint_n_shards(const struct checkpoint *c);
int64_t checkpoint_bytes(const struct checkpoint *c); /* on disk */

/* Does it hold exactly the parameters of `params`?  STATUS_CHECKPOINT names the first that is
 * missing, left over or of another shape. */
MUST_USE status_t checkpoint_match(const struct checkpoint *c,
                                   const struct param_table *params);

/* Fill `ranges`, flat elements of `local`, owned or not (disjoint, in any order), from the shards,
 * each needed piece read once and checked against its hash; the checkpoint must be one of `whole`.
 * Gaps of the flat buffer are set to zero.  Local: every rank reads what it needs.  STATUS_CHECKPOINT
 * names shard, parameter and what is wrong. */
MUST_USE status_t checkpoint_read(const struct checkpoint *c,
                                  const struct param_table *whole,
                                  const struct param_table *local,
                                  const struct checkpoint_range *ranges, int n_ranges);

/* Check every byte of model.h5 and of shards `part`, `part` + `parts`, ..., which several ranks can
 * share so.  The status is that of the first damaged file; further ones are errors in the log.  Local. */
MUST_USE status_t checkpoint_verify(const struct checkpoint *c, int part, int parts);

/* The newest checkpoint of a run folder that opens; older ones are tried when a newer one is
 * refused, and each refusal is logged.  *path is "" when there is none at all; the caller's
 * buffer is PATH_MAX.  STATUS_CHECKPOINT when there are some but none is good.  Local. */
MUST_USE status_t checkpoint_find_latest(const char *run_dir, char *path);

/* The same among those of steps before `before`; *step is the step of the one found. */
MUST_USE status_t checkpoint_find_before(const char *run_dir, int64_t before, char *path,
                                         int64_t *step);

/* Walk over the finished checkpoints of a run folder, newest first, readable or not (one without model.h5 is
 * warned of): the newest of a
 * step before *step, which becomes its step; path[0] is 0 when there is none.  STATUS_IO. */
MUST_USE status_t checkpoint_next(const char *run_dir, int64_t *step, char *path);

/* Remove the checkpoints of steps behind `step`, finished or not.  Best effort. */
void checkpoint_remove_after(const char *run_dir, int64_t step);

/* ---- whole tensors, one after the other --------------------------------------------------- */

/* Whatever has the tensors of a model: a checkpoint, a packed file, a mean.  `read` fills x with all
 * of one parameter's elements and checks them against their hash. */
struct checkpoint_source {
    const char *name; /* for messages */
    const struct checkpoint_meta *meta;
    const struct checkpoint_param *params;
    int n_params;
    status_t (*read)(struct checkpoint_source *s, int param, enum checkpoint_kind kind,
                     float *x);
    void (*close)(struct checkpoint_source *s);
    void *state; /* of whoever opened it */
};

/* Open what `path` names: a checkpoint folder, a run folder (its newest checkpoint), or a packed
 * file.  STATUS_CHECKPOINT, STATUS_IO, STATUS_NOMEM.  Local. */
MUST_USE status_t checkpoint_source_open(struct checkpoint_source *s, const char *path);
void checkpoint_source_close(struct checkpoint_source *s); /* accepts a zeroed one */

/* Index of a parameter of `s`; -1 if it has none of that name. */
int checkpoint_source_find(const struct checkpoint_source *s, const char *name);
int64_t checkpoint_param_elements(const struct checkpoint_param *p);

/* The means of the tensors of n open sources, of the weights and both moments, each computed in
 * fp64 in the order given.  The sources stay the caller's, and open; the meta is the last one's.
 * STATUS_CHECKPOINT if they are not of one model. */
MUST_USE status_t checkpoint_average_open(struct checkpoint_source *s,
                                          struct checkpoint_source *sources, int n);

/* Write `s` as RUN/step-XXXXXXXX, which must not hold a checkpoint: whole tensors, in shards of up to
 * 384 MB or one tensor.  Committed as any save is.  Local. */
MUST_USE status_t checkpoint_build(const char *run_dir, struct checkpoint_source *s);

/* Write `s` as one sealed HDF5 file without virtual datasets (docs/checkpoint.md).  Replaces nothing:
 * STATUS_IO if `path` exists.  Local. */
MUST_USE status_t checkpoint_pack(const char *path, struct checkpoint_source *s);
bool checkpoint_is_packed(const char *path);
/* Check every byte of it.  Local. */
MUST_USE status_t checkpoint_verify_packed(const char *path);
