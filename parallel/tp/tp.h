/* tp - tensor parallelism: layers split over ranks, and what travels between them.
 *
 * A column-parallel linear layer has a share of the outputs on each rank (rows of w), a
 * row-parallel one a share of the inputs (columns of w), so its product is one of `size` terms of
 * a sum (Shoeybi et al. 2019, arXiv:1909.08053, section 3).
 *
 * With sequence parallelism (Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2) the residual
 * stream between them, N rows, is shared out: rank r has its rows, comm_slice(N, size, r), which
 * may be uneven.  Before a column-parallel layer all rows are gathered, behind a row-parallel one
 * the sum is scattered: tensors of all rows, in which the own rows are in place, serve both.
 * Without it every rank has all rows, and the sum reaches all of them.
 *
 *   tp_gather_begin(tp, &h);    own rows of h[N,C] are set
 *   ... compute with the own rows ...
 *   tp_gather_end(tp);          all rows are there
 *   tp_reduce_begin(tp, &y);    y[N,C] is this rank's term
 *   ... compute something else ...
 *   tp_reduce_end(tp);          tp_own(tp, &y) is the sum
 *
 * A NULL tp is one rank, and all of this nothing.  Work is queued as comm's is; collective on the
 * axis; step regime.  Tensors without data (measuring) are not sent. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "core/tensor.h"
#include "parallel/comm/comm.h"

struct tp;

struct tp_options {
    struct comm *comm; /* along MESH_TP, borrowed */
    bool sequence_parallel;
    enum dtype dtype;           /* of the residual stream */
    int64_t max_rows, width;    /* of its longest [N,C] */
    int64_t max_replicated;     /* elements of tp_sum, at most */
    int64_t max_gathered_bytes; /* of tp_gather_blocks */
};

/* Staging comes from `arena`; while that measures, *tp knows sizes but cannot communicate.  Caller
 * owns *tp.  STATUS_NOMEM.  Local. */
MUST_USE status_t tp_create(struct tp **tp, const struct tp_options *o,
                            struct arena *arena);
void tp_destroy(struct tp **tp); /* NULL-safe; nulls */
/* Page-locked host memory that it takes of the comm's device. */
size_t tp_host_bytes(const struct tp_options *o);

int tp_size(const struct tp *tp);
int tp_rank(const struct tp *tp);
/* Is the residual stream shared out? */
bool tp_is_sharded(const struct tp *tp);

/* Rows of the residual stream that this rank has, of N. */
void tp_rows(const struct tp *tp, int64_t N, int64_t *first, int64_t *count);
/* The same of a tensor of all rows: a view. */
struct tensor tp_own(const struct tp *tp, const struct tensor *all);
/* Does this rank add what only one may add to the row's sum (bias, residual)?  To the own rows if
 * they are shared out, else rank 0 to all. */
struct tensor tp_adds_to(const struct tp *tp, const struct tensor *all);

void tp_gather_begin(struct tp *tp, const struct tensor *all);
void tp_gather_end(struct tp *tp);
void tp_reduce_begin(struct tp *tp, const struct tensor *all);
void tp_reduce_end(struct tp *tp);

/* x[n] = sum over ranks, at once: gradients of what each rank has a copy of. */
void tp_sum(struct tp *tp, float *x, int64_t n);
/* x is `size` blocks of n; every block = its rank's, at once. */
void tp_gather_blocks(struct tp *tp, float *x, int64_t n);
