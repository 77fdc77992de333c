/* parts - what a rank makes from its layout and keeps for the whole run, beside weights: made once
 * on measuring arenas for the memory plan, and once for real. */
#pragma once

#include "device/device.h"
#include "model/model.h"
#include "parallel/cp/cp.h"
#include "parallel/dp/units.h"
#include "parallel/pp/execute.h"
#include "parallel/tp/tp.h"
#include "parallel/zero/zero.h"
#include "train/inputs.h"
#include "train/layout.h"

struct parts_options {
    const struct config *config;
    const struct layout *layout;
    const struct param_table *params; /* of this rank */
    struct device *device;
    enum dtype dtype; /* of weights and activations */
};

/* How many ranks have one copy of these weights together, and how many of them come before this one: those
 * of one host, where each updates only what it owns (ZeRO).  1 and 0: this rank has its own. */
int parts_near(const struct parts_options *o, int *index);

/* Flat elements of this rank's buffers, padding included. */
int64_t parts_padded_elements(const struct parts_options *o);
/* Units of the parameter table begin at multiples of this. */
int64_t parts_unit_align(const struct config *c, const struct layout *l);

/* How gradients are cut for reduction: by size, or, for ZeRO stage 2, by units. */
struct dp_buckets parts_buckets(const struct parts_options *o);

/* Micro-batches of a step, the same on all ranks of a pipeline and, if gradients are reduced with
 * each (ZeRO stage 2), on all ranks. */
int64_t parts_micro_batches(const struct config *c, const struct layout *l);

/* Schedule of the pipeline: with one stage, one micro-batch after the other.  Caller releases. */
MUST_USE status_t parts_schedule(struct pp_schedule *s, const struct config *c,
                                 const struct layout *l);

enum model_recompute parts_recompute(const struct config *c);

struct tp_options parts_tp(const struct parts_options *o);
struct cp_options parts_cp(const struct parts_options *o);
/* Of a tied embedding on one stage and the head, its copy, on another: gradients of each that the
 * other needs, from the first of the unit on (with ZeRO stage 2 of this rank's slice of it); 0 where
 * there is no such pair. */
int64_t parts_twin_elements(const struct parts_options *o);

struct pp_options parts_pp(const struct parts_options *o, const struct pp_schedule *s);
struct inputs_shape parts_inputs(const struct parts_options *o,
                                 const struct pp_schedule *s);
struct model_options parts_model(const struct parts_options *o,
                                 const struct pp_schedule *s, struct tp *tp,
                                 struct cp *cp);
