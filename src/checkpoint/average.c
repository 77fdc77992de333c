/* The mean of several checkpoints ("model soup", Wortsman et al. 2022, arXiv:2203.05482). */
#include "checkpoint/checkpoint_impl.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct mean {
    struct checkpoint_source *sources; /* the caller's */
    int n;
    struct checkpoint_meta meta; /* its texts are the last source's but for versions */
};

static void mean_close(struct checkpoint_source *s)
{
    struct mean *m = s->state;
    free(m->meta.versions);
    free(m);
}

static status_t mean_read(struct checkpoint_source *s, int param,
                          enum checkpoint_kind kind, float *x)
{
    const struct mean *m = s->state;
    const char *name = s->params[param].name;
    const int64_t n = checkpoint_param_elements(&s->params[param]);
    double *sum = calloc((size_t)n, sizeof *sum);
    if (!sum) return status_set(STATUS_NOMEM, "no memory for the mean of %s", name);
    status_t st = STATUS_OK;
    for (int k = 0; k < m->n && st == STATUS_OK; k++) {
        struct checkpoint_source *from = &m->sources[k];
        st = from->read(from, checkpoint_source_find(from, name), kind, x);
        for (int64_t i = 0; i < n && st == STATUS_OK; i++) sum[i] += (double)x[i];
    }
    for (int64_t i = 0; i < n; i++) x[i] = (float)(sum[i] / m->n);
    free(sum);
    return st;
}

/* Do a and b have the same parameters? */
static status_t check_same_model(const struct checkpoint_source *a,
                                 const struct checkpoint_source *b)
{
    for (int i = 0; i < a->n_params; i++) {
        const struct checkpoint_param *p = &a->params[i];
        const int k = checkpoint_source_find(b, p->name);
        if (k < 0)
            return status_set(STATUS_CHECKPOINT, "%s: lacks parameter %s of %s", b->name,
                              p->name, a->name);
        if (memcmp(p->shape, b->params[k].shape, sizeof p->shape) != 0)
            return status_set(STATUS_CHECKPOINT,
                              "%s: parameter %s is [%lld, %lld], in %s [%lld, %lld]",
                              b->name, p->name, (long long)b->params[k].shape[0],
                              (long long)b->params[k].shape[1], a->name,
                              (long long)p->shape[0], (long long)p->shape[1]);
    }
    if (a->n_params != b->n_params)
        return status_set(STATUS_CHECKPOINT, "%s: has %d parameters, %s has %d", b->name,
                          b->n_params, a->name, a->n_params);
    return STATUS_OK;
}

/* What made the last one, and what the mean is of. */
static char *describe(const struct mean *m)
{
    json_t *o = json_loads(m->meta.versions, 0, NULL), *list = json_array();
    if (!json_is_object(o)) {
        json_decref(o);
        o = json_object();
    }
    for (int k = 0; k < m->n; k++)
        json_array_append_new(list, json_string(m->sources[k].name));
    json_object_set_new(o, "average_of", list);
    char *text = json_dumps(o, JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

status_t checkpoint_average_open(struct checkpoint_source *s,
                                 struct checkpoint_source *sources, int n)
{
    *s = (struct checkpoint_source){0};
    for (int k = 1; k < n; k++) TRY(check_same_model(&sources[0], &sources[k]));
    struct mean *m = calloc(1, sizeof *m);
    if (!m) return status_set(STATUS_NOMEM, "no memory for a mean");
    *m = (struct mean){.sources = sources, .n = n, .meta = *sources[n - 1].meta};
    m->meta.versions = describe(m);
    *s = (struct checkpoint_source){.name = "mean",
                                    .meta = &m->meta,
                                    .params = sources[0].params,
                                    .n_params = sources[0].n_params,
                                    .read = mean_read,
                                    .close = mean_close,
                                    .state = m};
    return STATUS_OK;
}
