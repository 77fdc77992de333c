/* Inside src/checkpoint only; its prefix is ckpt_.  The format: docs/checkpoint.md. */
#pragma once

#include <limits.h>

#include <hdf5.h>

#include "checkpoint/checkpoint.h"

enum {
    CKPT_VERSION = 2,
    CKPT_KINDS = CHECKPOINT_KINDS,
    CKPT_ROOT = 0, /* the rank that writes model.h5 */
    CKPT_NAME_BYTES = sizeof(((struct checkpoint_param *)0)->name),
    CKPT_PIECE_COLUMNS = 7, /* of /index */
    CKPT_SHARD_COLUMNS = 6  /* of /shards */
};

extern const char *const ckpt_group[CKPT_KINDS]; /* in model.h5 */

/* A rectangle of one parameter, and where in which shard its elements lie, row by row.  Only
 * int64 fields: it travels between ranks as bytes. */
struct ckpt_piece {
    int64_t param, row, col, rows, cols;
    int64_t shard, offset; /* offset in elements, the same in all three datasets */
    uint64_t xxh3[CKPT_KINDS];
};

struct ckpt_shard {
    uint64_t bytes;    /* of the file */
    uint64_t seal;     /* its hash; the attribute data_xxh3 under it pins the data too */
    uint64_t elements; /* of each dataset */
    uint64_t offset[CKPT_KINDS]; /* of the datasets in the file, in bytes; 0 if empty */
};

/* All that model.h5 holds about tensors. */
struct ckpt_index {
    struct checkpoint_param *params;
    struct ckpt_piece *pieces; /* by shard and offset, once checked */
    struct ckpt_shard *shards;
    int64_t n_params, n_pieces, n_shards;
    int64_t generation; /* part of the shards' file names */
};

struct checkpoint {
    char path[PATH_MAX];
    struct checkpoint_meta meta;
    struct ckpt_index index;
    int64_t bytes;
};

/* ---- pieces.c: pure --------------------------------------------------------------------- */

/* A piece and where its elements are in memory. */
struct ckpt_part {
    struct ckpt_piece piece;
    const float *data[CKPT_KINDS];
};

static inline int64_t ckpt_elements(const struct ckpt_piece *p)
{
    return p->rows * p->cols;
}

/* Cut ranges of the flat buffer of `params`, the table of one rank, into pieces of the global
 * tensors: at most three of a slice and range, none for gaps and for what other ranks answer for,
 * laid out in `shard` one behind the other.  xxh3 is left 0.  Caller frees *parts.
 * STATUS_INTERNAL if a range leaves the buffer, STATUS_NOMEM. */
MUST_USE status_t ckpt_cut(const struct param_table *params,
                           const struct checkpoint_range *ranges, int n_ranges,
                           int64_t shard, struct ckpt_part **parts, int64_t *n_parts);

/* ---- index.c ---------------------------------------------------------------------------- */

/* Sort the pieces and check everything that can be known without the shards: sizes and bounds,
 * that the pieces cover each parameter and each shard exactly once.  `bad` with a sentence
 * about `path`; STATUS_NOMEM.  May follow from hostile bytes; nothing is trusted. */
MUST_USE status_t ckpt_index_check(struct ckpt_index *x, const char *path, status_t bad);
void ckpt_index_release(struct ckpt_index *x);

/* ---- index_gather.c --------------------------------------------------------------------- */

/* Everybody's shards, rank by rank, and pieces on CKPT_ROOT; elsewhere the index stays empty.  Collective
 * on world.  STATUS_NOMEM, not agreed. */
MUST_USE status_t ckpt_index_gather(struct ckpt_index *x, struct comm *world,
                                    const struct param_table *whole,
                                    const struct ckpt_shard *shards, int64_t n_shards,
                                    const struct ckpt_piece *pieces, int64_t n_pieces);

/* ---- folder.c: names, leftovers --------------------------------------------------------- */

void ckpt_shard_name(char name[64], int64_t shard, int64_t generation);
void ckpt_shard_path(char path[PATH_MAX], const char *folder, int64_t shard,
                     int64_t generation);
/* Make the folder of a checkpoint, free of what an unfinished save left; `model` is its model.h5, which
 * must not be there.  STATUS_IO. */
MUST_USE status_t ckpt_folder_make(const char *run_dir, const char *folder,
                                   const char *model);
/* The generation a new save into `folder` uses: one that no file there has. */
MUST_USE status_t ckpt_fresh_generation(const char *folder, int64_t *generation);
/* Remove shards of other generations, finished or not, and model.h5.tmp; best effort. */
void ckpt_remove_others(const char *folder, int64_t generation);

/* The steps that have a folder in a run folder, finished or not, newest first.  Caller frees *steps.
 * STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t ckpt_list_steps(const char *run_dir, int64_t **steps, int64_t *n);
void ckpt_step_folder(char path[PATH_MAX], const char *run_dir, int64_t step);
/* Remove a checkpoint, finished or not: from the first moment on it is none.  False if it is still
 * there. */
bool ckpt_remove(const char *folder);

/* ---- retain.c ---------------------------------------------------------------------------- */

struct ckpt_candidate {
    int64_t step;
    double validation_loss; /* NaN: none */
    bool remove;            /* the answer */
};

/* Which of n finished checkpoints, newest first, are to go: pure. */
void ckpt_choose(struct ckpt_candidate *c, int64_t n, const struct checkpoint_keep *keep);
/* Remove what `keep` does not keep now that `newest` is there, and what saves of older steps left
 * unfinished.  What is damaged stays and does not count.  Best effort. */
void ckpt_retain(const char *run_dir, const struct checkpoint_keep *keep, int64_t newest);

/* ---- shard_write.c, shard_read.c -------------------------------------------------------- */

/* Fill in the hashes of `parts`, write them to `path` through .tmp, and describe the file. */
MUST_USE status_t ckpt_shard_write(const char *path, int64_t step, int64_t shard,
                                   struct ckpt_part *parts, int64_t n_parts,
                                   struct ckpt_shard *row);

/* Check seal and description of a shard and open it: *fd, which the caller closes. */
MUST_USE status_t ckpt_shard_open(const struct checkpoint *c, int64_t shard, int *fd);

/* Gets elements [first, first + n) of the piece, before the hash of the whole is known. */
typedef void ckpt_sink(void *context, const struct ckpt_piece *p, int kind, int64_t first,
                       const float *x, int64_t n);

/* Read dataset `kind` of a piece through `buffer` of CKPT_BUFFER elements and compare its hash.
 * STATUS_CHECKPOINT names shard, parameter and dataset. */
enum { CKPT_BUFFER = 1 << 16 };
MUST_USE status_t ckpt_piece_read(const struct checkpoint *c, int fd,
                                  const struct ckpt_piece *p, int kind, float *buffer,
                                  ckpt_sink *sink, void *context);

/* ---- names.c ---------------------------------------------------------------------------- */

struct ckpt_name {
    const char *name; /* borrowed */
    int index;
};
void ckpt_names_sort(struct ckpt_name *names, int n);
int ckpt_names_find(const struct ckpt_name *names, int n,
                    const char *name); /* -1: none */

/* ---- order.c ----------------------------------------------------------------------------- */

/* Pieces by parameter: those of parameter i are piece[first[i]] to piece[first[i + 1] - 1]. */
struct ckpt_order {
    int64_t *first, *piece;
};
MUST_USE status_t ckpt_order_init(struct ckpt_order *o, const struct ckpt_index *x);
void ckpt_order_release(struct ckpt_order *o);

/* ---- meta.c: what model.h5 and a packed file have in common ----------------------------- */

/* The attributes of struct checkpoint_meta, and the version. */
MUST_USE status_t ckpt_meta_write(hid_t file, const struct checkpoint_meta *m);
MUST_USE status_t ckpt_meta_read(hid_t file, const char *path, struct checkpoint_meta *m);

/* ---- tables.c: datasets that are small --------------------------------------------------- */

/* One-dimensional if cols is 0. */
MUST_USE status_t ckpt_table_write(hid_t file, const char *path, const char *name,
                                   hid_t type, int64_t rows, int64_t cols,
                                   const void *data);
/* *data, which the caller frees, has *rows rows; refused if they are not of this type and width or
 * cannot be in the file. */
MUST_USE status_t ckpt_table_read(hid_t file, const char *path, const char *name,
                                  hid_t type, int64_t cols, int64_t *rows, void **data);

/* /param_names and /param_shapes.  Reading checks nothing but that there are as many of the one as
 * of the other; the caller frees *params. */
MUST_USE status_t ckpt_params_write(hid_t file, const char *path,
                                    const struct checkpoint_param *params, int64_t n);
MUST_USE status_t ckpt_params_read(hid_t file, const char *path,
                                   struct checkpoint_param **params, int64_t *n);
/* Names and shapes are possible ones; `bad` with a sentence about `path`. */
MUST_USE status_t ckpt_params_check(const struct checkpoint_param *params, int64_t n,
                                    const char *path, status_t bad);

/* ---- source.c, packed.c ------------------------------------------------------------------ */

/* A model's tensors out of an open checkpoint, which `s` then owns, also if this fails. */
MUST_USE status_t ckpt_source_of(struct checkpoint_source *s, struct checkpoint *c);
MUST_USE status_t ckpt_packed_open(struct checkpoint_source *s, const char *path);

/* ---- model_write.c, model_read.c -------------------------------------------------------- */

/* Write and seal FOLDER/model.h5.tmp; the caller commits it. */
MUST_USE status_t ckpt_model_write(const char *path, const struct ckpt_index *x,
                                   const struct checkpoint_meta *meta);
/* Read model.h5 into c->index and c->meta, checked; c->path is set. */
MUST_USE status_t ckpt_model_read(struct checkpoint *c);
