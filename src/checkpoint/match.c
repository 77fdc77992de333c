/* Is a checkpoint one of this model? */
#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdlib.h>

static status_t match_shape(const struct checkpoint *c, const struct checkpoint_param *p,
                            const struct param *q)
{
    if (q->n_dims == p->n_dims && q->shape[0] == p->shape[0] &&
        q->shape[1] == p->shape[1])
        return STATUS_OK;
    return status_set(STATUS_CHECKPOINT,
                      "%s: parameter %s is [%" PRId64 ", %" PRId64 "] here and [%" PRId64
                      ", %" PRId64 "] in the model",
                      c->path, p->name, p->shape[0], p->shape[1], q->shape[0],
                      q->shape[1]);
}

/* `theirs` and `ours`, for which there is room, are sorted here. */
static status_t match(const struct checkpoint *c, const struct param_table *params,
                      struct ckpt_name *theirs, struct ckpt_name *ours)
{
    const int n = (int)c->index.n_params, m = params->n_params;
    for (int i = 0; i < n; i++)
        theirs[i] = (struct ckpt_name){c->index.params[i].name, i};
    for (int i = 0; i < m; i++) ours[i] = (struct ckpt_name){params->params[i].name, i};
    ckpt_names_sort(theirs, n);
    ckpt_names_sort(ours, m);
    for (int i = 0; i < n; i++) {
        const struct checkpoint_param *p = &c->index.params[i];
        const int k = ckpt_names_find(ours, m, p->name);
        if (k < 0)
            return status_set(STATUS_CHECKPOINT,
                              "%s: holds parameter %s, which the model does not have",
                              c->path, p->name);
        TRY(match_shape(c, p, &params->params[k]));
    }
    for (int i = 0; i < m; i++)
        if (ckpt_names_find(theirs, n, params->params[i].name) < 0)
            return status_set(STATUS_CHECKPOINT, "%s: lacks parameter %s of the model",
                              c->path, params->params[i].name);
    /* all are known and none is missing, so what is left over is there twice */
    if (n != m)
        return status_set(STATUS_CHECKPOINT, "%s: holds a parameter twice", c->path);
    return STATUS_OK;
}

status_t checkpoint_match(const struct checkpoint *c, const struct param_table *params)
{
    struct ckpt_name *theirs = calloc((size_t)c->index.n_params + 1, sizeof *theirs);
    struct ckpt_name *ours = calloc((size_t)params->n_params + 1, sizeof *ours);
    status_t st = theirs && ours
                      ? match(c, params, theirs, ours)
                      : status_set(STATUS_NOMEM, "%s: no memory to compare it", c->path);
    free(ours);
    free(theirs);
    return st;
}
