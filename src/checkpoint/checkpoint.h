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
    int64_t tokens;        /* target tokens trained on */
    int64_t skipped_steps; /* steps whose update was skipped */
    /* since the last line of metrics.jsonl, so that the next one is as if nothing had stopped */
    double log_loss_sum;
    int64_t log_targets;
    /* fp16: the loss scale and the steps since it last changed; 0 in other precisions */
    double loss_scale;
    int64_t loss_scale_steps;
    uint64_t seed;
    char *config;   /* resolved YAML text */
    char *versions; /* JSON object: yoke, libraries, compiler, hosts */
    char *data;     /* JSON: paths and hashes of token files and tokenizer */
};
void checkpoint_meta_release(struct checkpoint_meta *m);

/* Save `ranges`, flat elements of `local`, as RUN/step-XXXXXXXX.  `whole` is the table of the model,
 * `local` that of what this rank holds of it.  What a rank's slices do not own is left out; over
 * all ranks the rest covers every element of the model exactly once, which is checked; each rank's
 * ranges are disjoint.  Collective on world; the
 * status is agreed.  On failure what was there before is untouched, also when it is the same
 * step, and unfinished files are removed. */
MUST_USE status_t checkpoint_save(const char *run_dir, struct comm *world,
                                  const struct param_table *whole,
                                  const struct param_table *local,
                                  const struct checkpoint_range *ranges, int n_ranges,
                                  const struct checkpoint_meta *meta);

struct checkpoint; /* open for reading */

/* Open the checkpoint folder `path`: checks the seal of model.h5, its index against itself,
 * presence and size of every shard.  STATUS_CHECKPOINT, STATUS_IO.  Local. */
MUST_USE status_t checkpoint_open(struct checkpoint **c, const char *path);
void checkpoint_close(struct checkpoint **c); /* NULL-safe; nulls */

const struct checkpoint_meta *checkpoint_meta(const struct checkpoint *c);
const char *checkpoint_path(const struct checkpoint *c);

/* Parameters as the checkpoint names them, for inspect. */
int checkpoint_n_params(const struct checkpoint *c);
void checkpoint_param(const struct checkpoint *c, int i, const char **name, int *n_dims,
                      int64_t shape[2]);
int checkpoint_n_shards(const struct checkpoint *c);
int64_t checkpoint_bytes(const struct checkpoint *c); /* on disk */

/* Does it hold exactly the parameters of `params`?  STATUS_CHECKPOINT names the first that is
 * missing, left over or of another shape. */
MUST_USE status_t checkpoint_match(const struct checkpoint *c,
                                   const struct param_table *params);

/* Fill `ranges`, flat elements of `local`, owned or not (disjoint, in any order), from the shards,
 * each needed piece read once and checked against its hash; the checkpoint must be one of `whole`.  Gaps of the flat buffer are set to zero.  Local: every rank reads what it needs.
 * STATUS_CHECKPOINT names shard, parameter and what is wrong. */
MUST_USE status_t checkpoint_read(const struct checkpoint *c,
                                  const struct param_table *whole,
                                  const struct param_table *local,
                                  const struct checkpoint_range *ranges, int n_ranges);

/* Check every byte of every file.  Local. */
MUST_USE status_t checkpoint_verify(const struct checkpoint *c);

/* The newest checkpoint of a run folder that opens; older ones are tried when a newer one is
 * refused, and each refusal is logged.  *path is "" when there is none at all; the caller's
 * buffer is PATH_MAX.  STATUS_CHECKPOINT when there are some but none is good.  Local. */
MUST_USE status_t checkpoint_find_latest(const char *run_dir, char *path);

/* The same among those of steps before `before`; *step is the step of the one found. */
MUST_USE status_t checkpoint_find_before(const char *run_dir, int64_t before, char *path,
                                         int64_t *step);
