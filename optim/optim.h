/* optim - rules that turn gradients into new weights, on flat ranges of the parameter buffer.
 *
 * A rule sees a range of the flat buffer and its own state for that range; which rank owns
 * which range is parallel/zero's business. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "model/param.h"
#include "nn/nn.h"

/* ---- adamw.c ---------------------------------------------------------------------------- */

struct optim_options {
    double lr, beta1, beta2, eps, weight_decay;
    /* matrices decay always; published recipes differ in the rest */
    bool decay_embeddings, decay_norms, decay_biases;
    double clip;     /* largest global gradient norm; 0: no clipping */
    double clip_eps; /* added to the norm, see optim_clip_factor */
    int rounding;    /* enum nn_rounding: from master weights to those of 16 bits */
};

bool optim_decays(const struct optim_options *o, enum param_kind kind);

/* One AdamW step number t (from 1) on r's elements, flat [r->start, r->start + r->n).  Weight decay
 * follows each parameter's kind.  grad_scale multiplies the gradient first (token count, clipping
 * and loss scale in one).  Step regime. */
void optim_adamw(struct nn *nn, const struct optim_options *o,
                 const struct param_table *p, const struct nn_adamw_range *r, int64_t t,
                 double lr, double grad_scale);

/* ---- clip.c ----------------------------------------------------------------------------- */

/* The factor that brings a gradient of norm `norm` to at most `clip`, clip / (norm + eps): 1 if
 * clip == 0 or that is above 1 (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).  eps is 0 there
 * and in llm.c; 1e-6 in PyTorch's clip_grad_norm_, nanotron, OLMo and DeepSpeed. */
double optim_clip_factor(double norm, double clip, double eps);

/* ---- schedule.c: learning rate ----------------------------------------------------------- */

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_WSD };
enum schedule_decay { SCHEDULE_DECAY_LINEAR, SCHEDULE_DECAY_SQRT };

/* Trainers do not count alike: what step s (from 0) is for warm-up and for what comes behind it.
 *   ahead     s + 1 and s         llm.c, llmc/schedulers.h
 *   zero      s and s             nanotron, src/nanotron/helpers.py (lr_scheduler_builder, PyTorch's
 *                                 LambdaLR); transformers, src/transformers/optimization.py
 *   one       s + 1 and s + 1     OLMo, olmo/train.py (counts the step before it asks) and olmo/optim.py
 *   not_zero  max(s, 1) and s     GPT-NeoX, megatron/learning_rates.py */
enum schedule_clock {
    SCHEDULE_CLOCK_AHEAD,
    SCHEDULE_CLOCK_ZERO,
    SCHEDULE_CLOCK_ONE,
    SCHEDULE_CLOCK_NOT_ZERO
};

struct schedule {
    int kind;             /* enum schedule_kind */
    int clock;            /* enum schedule_clock */
    int64_t warmup_steps; /* linear from 0: count / warmup_steps */
    int64_t
        total_steps; /* where linear and cosine reach the floor; may lie beyond the end of
                             the run (truncated).  0: the run's number of steps */
    int64_t decay_steps; /* WSD: length of the decay that ends at total_steps */
    int decay;           /* enum schedule_decay: WSD's shape, linear or 1 - sqrt */
    double min_ratio;    /* floor, as a share of the peak */
};

/* Learning rate of step s (from 0) as a share of the peak, in [0, 1]. */
double schedule_factor(const struct schedule *s, int64_t step);
