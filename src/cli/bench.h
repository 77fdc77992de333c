/* bench - what the subcommands of `yoke bench` have in common. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "parallel/comm/comm.h"
#include "train/launch.h"

struct bench_options {
    const char *config; /* NULL where none is needed */
    const char *const *overrides;
    int n_overrides;
    int64_t batch, tokens, steps, threads;
    int device;    /* enum config_device; -1: the configuration's */
    int precision; /* enum config_precision; -1: the same */
    bool json;
    const char *folder;        /* that files are made in */
    struct launch_share share; /* of its host, where ranks work together */
};

enum { BENCH_MAX_OVERRIDES = 64 };
enum { BENCH_MODEL_TOKENS = 256, BENCH_MODEL_BATCH = 8, BENCH_MAX_ROUNDS = 100 };

/* Every operation at the shapes of the model, against the device's copy bandwidth and matrix
 * products. */
MUST_USE status_t bench_ops(const struct bench_options *o);
/* Matrix products of the model's shapes, without a configuration of a grid of shapes, against what
 * registers can do and beside other libraries.  On the CPU. */
MUST_USE status_t bench_gemm(const struct bench_options *o);

/* Whole training steps and what they consist of.  All ranks see o->folder.  Collective on world; agreed. */
MUST_USE status_t bench_step(struct comm *world, const struct bench_options *o);
/* Steps under every simple layout of the ranks, and what each axis's communication takes.  All
 * ranks see o->folder.  Collective on world; agreed. */
MUST_USE status_t bench_layouts(struct comm *world, const struct bench_options *o);
/* Large vectors between the ranks on the CPU, beside the MPI library's own collectives.  The same. */
MUST_USE status_t bench_comm(struct comm *world, const struct bench_options *o);
/* What checkpoints cost; o->steps are rounds of 20 steps with and without saves.  The same. */
MUST_USE status_t bench_checkpoint(struct comm *world, const struct bench_options *o);

/* A folder in `parent` with random tokens in tokens.h5, sixteen documents of `length`.  Collective on
 * world; agreed; on failure nothing is left. */
struct bench_tokens {
    int64_t vocab, length; /* both at least 2 */
};
MUST_USE status_t bench_make_folder(struct comm *world, const char *parent,
                                    const struct bench_tokens *t, char folder[PATH_MAX]);
void bench_remove_folder(struct comm *world, const char *folder); /* collective */

/* The model of 46.9 million parameters that layouts and checkpoint train. */
extern const struct bench_tokens bench_model_tokens;
MUST_USE status_t bench_model_config(struct config *c, const struct bench_options *o,
                                     const char *folder, const char *layout);

/* Put x[0..n) in order and return its median. */
double bench_median(double *x, int64_t n);

/* Random numbers of standard deviation 0.5 into x: zeros would draw less power and run faster.
 * STATUS_NOMEM. */
MUST_USE status_t bench_fill(struct device *d, const struct tensor *x);

/* config_load, with a vocabulary and positions that a benchmark can do without. */
MUST_USE status_t bench_load_config(struct config *c, const struct bench_options *o);
/* The one device of a benchmark, and the type it computes in: what the options say, else what the
 * configuration says. */
MUST_USE status_t bench_open_device(struct device **d, enum dtype *t,
                                    const struct bench_options *o,
                                    const struct config *c);
