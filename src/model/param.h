/* param - the one table of parameters.
 *
 * A parameter is described once, here; initialisation, sharding, optimizer, gradient norm,
 * checkpoint, import and export all read this table.  Parameters lie in one flat buffer in
 * table order: embedding first, then the blocks, final norm and head last, so that backward
 * finishes gradients from the end of the buffer to its start.  q, k and v (and gate and up) of
 * a block are neighbours without a gap, so that one matrix product serves them together. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "model/arch.h"

enum param_kind { PARAM_MATRIX, PARAM_EMBEDDING, PARAM_NORM, PARAM_BIAS };

struct param {
    char name[96]; /* the Hugging Face name */
    enum param_kind kind;
    int n_dims;       /* 1 or 2 */
    int64_t shape[2]; /* global; [out, in] for matrices; shape[1] == 1 if n_dims == 1 */
    int64_t offset;   /* first element in the flat buffer */
    int64_t n;        /* elements */
    double init_mean, init_std; /* normal; std 0: the constant */
};

struct param_table {
    struct param *params;
    int n_params;
    int64_t n_elements; /* of the flat buffer, gaps included */
    int64_t n_real;     /* sum of params[i].n */
};

MUST_USE status_t param_table_init(struct param_table *t, const struct arch *a);
void param_table_release(struct param_table *t);

/* Index of the parameter called `name`; -1 if none. */
int param_find(const struct param_table *t, const char *name);

/* flat[0..count) = initial values of flat elements [start, start + count); gaps are zero.  A
 * pure function of (seed, name, index in the tensor). */
void param_init_values(const struct param_table *t, uint64_t seed, int64_t start,
                       int64_t count, float *flat);
