/* param - the one table of parameters.
 *
 * A parameter is described once, here; initialisation, sharding, optimizer, gradient norm,
 * checkpoint, import and export all read this table.  A table is made for the part of the model
 * that one rank holds (struct shard): each of its parameters says which rectangles of the global
 * tensor lie where in the local one, and which of them this rank answers for.
 *
 * Parameters lie in one flat buffer in table order, in units: embeddings first, then the
 * blocks, final norm and head last, so that backward finishes gradients from the end of the
 * buffer to its start.  Inside a block those come first of which every tensor-parallel rank has a
 * copy, without anything else in between; q, k and v (and gate and up, and the norms of q and k) are
 * neighbours without a gap, so that one matrix product serves them together. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "model/arch.h"
#include "model/shard.h"

enum param_kind { PARAM_MATRIX, PARAM_EMBEDDING, PARAM_NORM, PARAM_BIAS };

/* Local rows [local_row, local_row + rows), whole, are rows [row, row + rows) of the global tensor
 * from column `col` on. */
struct param_slice {
    int64_t local_row, row, rows, col;
    bool owned; /* this rank answers for it in checkpoints and norms */
};

enum { PARAM_MAX_SLICES = 4 };

struct param {
    char name[96]; /* the Hugging Face name */
    enum param_kind kind;
    int n_dims;       /* 1 or 2 */
    int64_t shape[2]; /* global; [out, in] for matrices; shape[1] == 1 if n_dims == 1 */
    int64_t local[2]; /* of this rank's part; as shape on one rank */
    struct param_slice
        slices[PARAM_MAX_SLICES]; /* by local_row; they cover all of them */
    int n_slices;
    int64_t offset;             /* first element in the flat buffer */
    int64_t n;                  /* elements here */
    int index;                  /* in the table of the whole model */
    int64_t global_offset;      /* in the flat buffer of the whole model */
    double init_mean, init_std; /* normal; std 0: the constant */
    double init_cutoff;         /* within so many deviations; 0: any */
};

struct param_span {
    int64_t low, high; /* flat elements [low, high) */
};

struct param_table {
    struct param *params;
    int n_params;
    int64_t n_elements; /* of the flat buffer, gaps included */
    int64_t n_real;     /* sum of params[i].n */
    int64_t *unit; /* [n_units + 1]: flat start of each unit; the last is n_elements */
    int n_units;   /* embeddings, blocks held here, final norm and head; may be empty */
    struct param_span *
        replicated; /* [n_units]: of every unit, what each tensor-parallel rank has a copy of */
    struct param_span
        *owned; /* what this rank answers for, ascending; gaps may be in it */
    int n_owned;
};

/* The table of what `s` holds (NULL: the whole model).  Units begin at multiples of `align`
 * elements (0: as elements need it).  STATUS_CONFIG, STATUS_NOMEM. */
MUST_USE status_t param_table_init(struct param_table *t, const struct arch *a,
                                   const struct shard *s, int64_t align);
void param_table_release(struct param_table *t);

/* Index of the parameter called `name`; -1 if none. */
int param_find(const struct param_table *t, const char *name);

/* unit[u] = where unit u begins in `flat`, a buffer in the order of the table. */
void param_units(const struct param_table *t, float *flat, float **unit);

/* The longest run of local elements, `local` and behind, that are neighbours in the global tensor
 * too, and where it begins there. */
struct param_run {
    int64_t global, n;
};
struct param_run param_run_at(const struct param *p, int64_t local);

/* flat[0..count) = initial values of flat elements [start, start + count); gaps are zero.  A
 * pure function of (seed, name, index in the global tensor). */
void param_init_values(const struct param_table *t, uint64_t seed, int64_t start,
                       int64_t count, float *flat);
