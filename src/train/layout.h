/* layout - who does what in a run: the mesh, the communicators along its axes, and this rank's
 * share of the model, of the batch and of every sequence. */
#pragma once

#include "config/config.h"
#include "data/loader.h"
#include "model/shard.h"
#include "parallel/comm/comm.h"
#include "parallel/mesh/mesh.h"

struct layout {
    struct mesh mesh;
    struct comm *tp, *cp, *pp;
    struct comm *data; /* over dp and cp: who sums gradients of the same weights */
    struct shard shard;
    int64_t *first_layer; /* of every part of the pipeline; shard's */
    int64_t T;            /* rows of a sequence here */
};

/* Sizes of the axes for `ranks` ranks.  STATUS_CONFIG names the key and what is valid: what can be
 * known without the token files is checked.  Pure. */
MUST_USE status_t layout_sizes(const struct config *c, int ranks, int sizes[MESH_AXES]);
/* Micro-batches for each stage of a pipeline that keep equal stages busy for four fifths of a step. */
enum { LAYOUT_BUSY = 4 };
/* The same, and micro_batch becomes what it will be with them: no more than a rank's share of the
 * batch, and where auto is wanted, few enough sequences for LAYOUT_BUSY, if the batch allows. */
MUST_USE status_t layout_settle(struct config *c, int ranks, int sizes[MESH_AXES]);

/* The place of this rank; once the vocabulary is known.  Release it also after a failure.
 * STATUS_CONFIG, STATUS_NOMEM.  Local. */
MUST_USE status_t layout_init(struct layout *l, const struct config *c, int rank,
                              int ranks);
/* Make the communicators.  Collective on world; agreed. */
MUST_USE status_t layout_connect(struct layout *l, struct comm *world);
/* The same for a rank that nobody has started, on `dev`; over NCCL if that is a GPU, which then no
 * other rank has, and parallel.comm is not mpi: for plans.  Local.  STATUS_NOMEM. */
MUST_USE status_t layout_imagine(struct layout *l, const struct config *c,
                                 struct device *dev);
void layout_release(struct layout *l); /* also of what was made for it; together */

/* First layer of each of `parts` parts of the pipeline, and behind the last one: as
 * parallel.stages says, or of about equal cost.  Pure. */
MUST_USE status_t layout_split(const struct config *c, int parts, int64_t *first_layer);

/* Cost of each part, in multiplications for a token.  Pure. */
void layout_costs(const struct config *c, int parts, const int64_t *first_layer,
                  double *costs);

/* Does this rank's loss count?  Of all that make the same one, one does. */
bool layout_counts_loss(const struct layout *l);
int layout_n_parts(const struct layout *l);
/* Seconds this rank has spent in calls of the layout's communicators. */
double layout_comm_seconds(const struct layout *l);

/* This rank's share of a step's sequences. */
struct loader_options layout_loader_options(const struct layout *l,
                                            const struct config *c);

/* Say it once, from rank 0: sizes, and who is where.  Collective on world. */
void layout_print(const struct layout *l, struct comm *world);
