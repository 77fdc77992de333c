/* recipe - what a configuration trains, in numbers: parameters by how they begin and whether they decay,
 * batch, learning rate.  What a published recipe is compared with. */
#pragma once

#include <stdio.h>

#include "config/config.h"

/* Parameters of one kind that begin alike. */
struct recipe_group {
    enum param_kind kind;
    int64_t n_tensors, n_parameters;
    double init_mean, init_std, init_cutoff; /* as struct param's */
    double weight_decay;                     /* 0: they do not decay */
};

enum { RECIPE_MAX_GROUPS = 16 };

struct recipe {
    int64_t n_parameters;
    struct recipe_group groups[RECIPE_MAX_GROUPS]; /* in the order of the table */
    int n_groups;
};

/* c->arch.vocab_size must be known.  STATUS_CONFIG, STATUS_NOMEM. */
MUST_USE status_t recipe_make(struct recipe *r, const struct config *c);

/* Learning rate of the update of step `step`, from 0; of a run with stages in the stage of the step. */
double recipe_lr(const struct config *c, int64_t step);

/* Parameters and groups, batch and tokens, and the learning rate of steps[0..n). */
void recipe_print(const struct recipe *r, const struct config *c, const int64_t *steps,
                  int n, FILE *out);
