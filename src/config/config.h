/* config - one YAML file a run, one table of keys.
 *
 * The table in config_keys.c says for every key: type, bounds, default and one line of
 * documentation.  The reader, `--set`, the resolved dump and docs/configuration.md all come
 * from it.  Unknown keys, wrong types and values out of bounds are refused with file, line,
 * key, the value found and what is valid; combinations are checked by config_check. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/status.h"
#include "data/sampler.h"
#include "model/arch.h"
#include "optim/optim.h"

enum config_recompute {
    CONFIG_RECOMPUTE_NONE,
    CONFIG_RECOMPUTE_SELECTIVE,
    CONFIG_RECOMPUTE_FULL
};
enum config_device { CONFIG_DEVICE_AUTO, CONFIG_DEVICE_CPU, CONFIG_DEVICE_CUDA };
enum config_wire { CONFIG_WIRE_AUTO, CONFIG_WIRE_FP32, CONFIG_WIRE_BF16 };
enum config_precision {
    CONFIG_PRECISION_AUTO,
    CONFIG_PRECISION_FP32,
    CONFIG_PRECISION_BF16,
    CONFIG_PRECISION_FP16
};
enum config_products {
    CONFIG_PRODUCTS_AUTO,
    CONFIG_PRODUCTS_FMA,
    CONFIG_PRODUCTS_BF16X6
};
enum config_verify { CONFIG_VERIFY_AUTO, CONFIG_VERIFY_ALL, CONFIG_VERIFY_SEAL };

struct config_sources {
    struct data_source *items; /* owned */
    int n;
};

/* Which checkpoints stay when there is a newer one; see checkpoint_keep. */
struct config_keep {
    int64_t last, every, best;
};

/* What part of a run a configuration is of: its steps from first_step to before end_step.  Without
 * stages that is all of it, and the name is NULL. */
struct config_span {
    char *name; /* owned */
    int64_t steps, first_step, end_step;
    int64_t schedule_step; /* from which on its schedule counts */
    int64_t data_step;     /* at which the order of its samples begins */
};

struct config_places; /* opaque: the line or override that set each key, for messages */

struct config {
    /* model: */
    char *family;
    struct arch arch; /* vocab_size 0: take the token files' */
    int recompute;    /* enum config_recompute */
    /* data: */
    char *tokenizer; /* path or "" */
    struct config_sources train, validation;
    int64_t sequence_length;
    bool document_mask;
    struct repetition_limit repetition;
    int verify;           /* enum config_verify */
    int64_t loader_ahead; /* micro-batches */
    /* train: */
    char *run_dir;
    int64_t steps;
    int64_t batch_sequences, batch_tokens; /* exactly one is > 0 */
    int64_t micro_batch_wanted;            /* 0: auto */
    int64_t micro_batch; /* sequences a rank takes at a time; a layout may make it less */
    int64_t seed;
    int64_t threads;   /* 0: the cores this rank may use */
    int pin;           /* enum pin_mode */
    int device;        /* enum config_device */
    int precision;     /* enum config_precision */
    int fp32_products; /* enum config_products */
    bool graphs;
    int64_t eval_interval; /* steps; 0: never */
    int64_t eval_sequences;
    int64_t max_bad_steps; /* in a row before the run goes back */
    double spike_sigma;    /* 0: no loss is a spike */
    double z_loss;         /* of nn_cross_entropy */
    int64_t max_rollbacks;
    double time_limit, time_margin; /* seconds; limit 0: none */
    /* optim: */
    struct optim_options optim;
    /* schedule: */
    struct schedule schedule;
    int64_t warmup_tokens, total_tokens; /* 0 once loaded: turned into schedule's steps */
    /* parallel: */
    int64_t dp, tp, cp, pp; /* 0: auto */
    bool sequence_parallel;
    int pipeline;   /* enum pp_kind */
    int64_t chunks; /* of a pipeline stage */
    char *split;    /* layers of a pipeline's parts: "auto" or "4,4,3" */
    int64_t zero;   /* ZeRO stage: 0, 1 or 2 */
    int64_t bucket_mb;
    int comm; /* enum comm_transport */
    int wire; /* enum config_wire */
    bool share_gpu;
    double timeout_seconds; /* 0: never */
    /* checkpoint: */
    int64_t checkpoint_interval; /* steps; 0: only at the end and on signals */
    bool checkpoint_async;
    struct config_keep keep;
    int64_t checkpoint_failures; /* in a row before the run stops */
    char *resume;                /* "auto", "never" or a path */
    /* log: */
    int64_t log_interval;
    bool tensorboard;
    /* stages: */
    struct config *stages; /* owned, each complete in itself; NULL: there are none */
    int n_stages;
    struct config_span span;
    const struct config *run; /* of a stage: what config_stage found it in; borrowed */

    struct config_places *places; /* owned */
};

/* Read `path` and then the overrides "a.b=value" (values are YAML; the last one of a key
 * counts), fill in defaults and the family's knobs, and check combinations.  Relative paths in
 * the file are relative to the working directory; whether they exist is not looked at here, so
 * that a configuration can be printed on a machine without the data.  *c is an output; on
 * failure nothing is owned.  STATUS_CONFIG, STATUS_IO, STATUS_NOMEM; STATUS_USAGE for an
 * override that is not KEY=VALUE.  Local. */
MUST_USE status_t config_load(struct config *c, const char *path,
                              const char *const *overrides, int n_overrides);
/* The same from text; `name` stands in messages. */
MUST_USE status_t config_parse(struct config *c, const char *name, const char *text,
                               size_t bytes, const char *const *overrides,
                               int n_overrides);
void config_release(struct config *c); /* leaves *c zeroed; accepts that */

/* Segments of the run, one after the other: its stages, or the one it is without them. */
int config_n_segments(const struct config *c);
/* Segment i, complete in itself; c itself if there are no stages.  Belongs to c, which must stay
 * where it is. */
struct config *config_segment(struct config *c, int i);
/* The segment that comes next when `step` steps are done; config_n_segments if none does. */
int config_segment_at(const struct config *c, int64_t step);
/* The run that segment c is of. */
const struct config *config_whole(const struct config *c);

/* The configuration under which the last of `step` steps was done, as text: that of `text`, or, if
 * it has stages, of one stage alone, complete and without stages.  Caller frees.  Statuses of
 * config_parse. */
MUST_USE status_t config_text_at(const char *name, const char *text, int64_t step,
                                 char **out);

/* Do tokenizer, token files and the checkpoint to resume from exist?  STATUS_CONFIG names key,
 * place and path.  For commands that are about to use them.  Local. */
MUST_USE status_t config_check_files(const struct config *c);

/* One pair of a source (dtype, vocab_size, ...) as a command line gives it.  STATUS_USAGE. */
MUST_USE status_t config_source_pair(struct data_source *source, const char *key,
                                     const char *value);

/* Sequences a step: batch_sequences, or batch_tokens / sequence_length. */
int64_t config_global_batch(const struct config *c);

/* The resolved configuration as YAML, every key written out; config_parse reads it back to the
 * same values.  Caller frees. */
MUST_USE status_t config_dump(const struct config *c, char **text);

/* The keys of the dump that determine what a run computes: not those that say on what, how often it
 * is looked at, and where its files are.  Caller frees. */
MUST_USE status_t config_recipe(const struct config *c, char **text);

/* Compare two dumps, which may come from different versions, key by key: `say` gets each key that
 * differs, with its values; NULL where it is missing.  STATUS_NOMEM. */
typedef void config_say(void *context, const char *key, const char *before,
                        const char *now);
MUST_USE status_t config_compare(const char *before, const char *now, config_say *say,
                                 void *context);

/* docs/configuration.md: the documented table of all keys, in Markdown. */
void config_reference(FILE *out);
