/* cp - context parallelism: a sequence shared out among ranks, and attention in a ring.
 *
 * A sequence of T rows is cut into 2 * size chunks (comm_slice, so T need not divide); rank r has
 * chunks r and 2 * size - 1 - r.  Causal attention costs more the later a row is, so early and
 * late chunks together make equal shares ("zigzag").
 *
 * Attention: keys and values of every rank go round the ring, and each rank attends with its
 * queries to those at hand while the next are on their way (Liu et al. 2023, arXiv:2310.01889,
 * section 3).  In backward the gradients of keys and values travel along with them, one step
 * behind, and end at their owner.
 *
 * Which keys of a part a row sees is a span [low, high) of the part's rows, because a part's rows
 * are in the order of the sequence; causality, documents and the ring are all in these numbers. */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "core/tensor.h"
#include "nn/nn.h"
#include "parallel/comm/comm.h"

/* ---- rows: pure ------------------------------------------------------------------------- */

/* Rows of a sequence of T that rank `rank` of `size` has, and the one that its row i is. */
int64_t cp_rows(int64_t T, int size, int rank);
int64_t cp_most_rows(int64_t T, int size); /* of any rank */
int64_t cp_row(int64_t T, int size, int rank, int64_t i);

/* y[B, cp_rows] = the rank's rows of x[B, T] */
void cp_pick(int32_t *y, const int32_t *x, int64_t B, int64_t T, int size, int rank);

/* spans[size][2][B * cp_rows]: low and high of this rank's rows in the keys of each rank.
 * doc_start: [B, T] of the whole sequences; NULL: 0 everywhere. */
void cp_spans(int32_t *spans, const int32_t *doc_start, int64_t B, int64_t T, int size,
              int rank);

/* ---- at work ---------------------------------------------------------------------------- */

struct cp;

struct cp_options {
    struct comm *comm; /* along MESH_CP, borrowed */
    enum dtype dtype;
    int64_t max_B, T; /* whole sequences */
    int64_t kv_width; /* numbers in the keys and values of a row: 2 K D */
};

/* Staging from `arena`; while that measures, *cp knows sizes but cannot communicate.  Caller owns
 * *cp.  STATUS_NOMEM.  Local. */
MUST_USE status_t cp_create(struct cp **cp, const struct cp_options *o,
                            struct arena *arena);
void cp_destroy(struct cp **cp); /* NULL-safe; nulls */
size_t cp_host_bytes(const struct cp_options *o);

int cp_size(const struct cp *cp); /* NULL: 1 */
int cp_rank(const struct cp *cp);

/* As nn_attention_fwd and nn_attention_bwd, on this rank's rows: a->T is cp_rows; spans is what
 * cp_spans made, in device memory.  Working memory from `arena`, given back.  Collective on the
 * axis; step regime. */
void cp_attention_fwd(struct cp *cp, struct nn *nn, struct arena *arena, struct tensor *y,
                      struct tensor *lse, const struct tensor *qkv,
                      const struct nn_attention *a, const int32_t *spans);
void cp_attention_bwd(struct cp *cp, struct nn *nn, struct arena *arena,
                      struct tensor *dqkv, const struct tensor *dy,
                      const struct tensor *y, const struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *a,
                      const int32_t *spans);
