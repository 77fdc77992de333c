/* hf - models as Hugging Face folders hold them: config.json and *.safetensors.
 *
 * Parameters are named here as there (model/names.h); what differs is told in hf_names.c.  A
 * folder is outside input: names, shapes and types are all checked before anything is used. */
#pragma once

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "core/status.h"
#include "model/arch.h"

/* The architecture in FOLDER/config.json, and its family.  What transformers can and yoke cannot (another
 * activation, scaled rotary positions, ...) is refused by the name of the key.  STATUS_CHECKPOINT. */
MUST_USE status_t hf_config_read(const char *folder, struct arch *a, const char **family);
/* Has transformers words for such a model of the family?  STATUS_CHECKPOINT: it has none. */
MUST_USE status_t hf_config_check(const struct arch *a, const char *family);
/* FOLDER/config.json and generation_config.json; eos -1: none.  STATUS_IO. */
MUST_USE status_t hf_config_write(const char *folder, const struct arch *a,
                                  const char *family, int64_t eos,
                                  enum safetensors_dtype dtype);

/* The tensors of a folder, open for reading. */
struct hf;

/* The tensors of FOLDER, a model of architecture `a`.  Those that are missing, left over, there twice,
 * or of another shape or type are all listed in the log; the status then is STATUS_CHECKPOINT.
 * STATUS_IO, STATUS_NOMEM.  Local. */
MUST_USE status_t hf_open(struct hf **h, const char *folder, const struct arch *a);
void hf_close(struct hf **h); /* NULL-safe; nulls */

/* A part of one parameter. */
struct hf_rectangle {
    int64_t row, col, rows, cols;
};

/* x[rows * cols] = that part of parameter `param`, an index into the table of the whole model.  STATUS_IO,
 * STATUS_NOMEM. */
MUST_USE status_t hf_read(const struct hf *h, int param, const struct hf_rectangle *r,
                          float *x);

struct hf_import_options {
    const char *run_dir;
    struct comm *world; /* borrowed, as all below */
    const struct param_table *whole,
        *local; /* the model, and what this rank holds of it */
    /* This rank is one of `shares` that hold the same, and reads and writes so much of it. */
    int share, shares;
    int64_t block; /* elements in memory at a time; 0: 32 Mi */
    const struct checkpoint_meta *meta;
};

/* Write the model as RUN/step-XXXXXXXX, which must not hold a checkpoint, with moments of zero.  Each rank
 * reads what it answers for in its layout, a block at a time, and writes it in shards of its own, of up
 * to a block each; committed as any save is.  Collective on world; agreed.  STATUS_IO,
 * STATUS_NOMEM. */
MUST_USE status_t hf_import(const struct hf *h, const struct hf_import_options *o);

/* Write the weights of `s` into FOLDER, in files of up to shard_bytes (at least one tensor each), with an
 * index if they are several.  STATUS_IO, STATUS_CHECKPOINT if they are not those of `a`. */
MUST_USE status_t hf_write(const char *folder, struct checkpoint_source *s,
                           const struct arch *a, enum safetensors_dtype dtype,
                           int64_t shard_bytes);
