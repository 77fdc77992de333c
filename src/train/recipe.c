#include "train/recipe.h"

#include <inttypes.h>

#include "core/log.h"

static bool alike(const struct recipe_group *g, const struct param *p)
{
    return g->kind == p->kind && g->init_mean == p->init_mean &&
           g->init_std == p->init_std;
}

static struct recipe_group *group_of(struct recipe *r, const struct config *c,
                                     const struct param *p)
{
    for (int i = 0; i < r->n_groups; i++)
        if (alike(&r->groups[i], p)) return &r->groups[i];
    CHECK(r->n_groups < RECIPE_MAX_GROUPS);
    struct recipe_group *g = &r->groups[r->n_groups++];
    *g = (struct recipe_group){
        .kind = p->kind,
        .init_mean = p->init_mean,
        .init_std = p->init_std,
        .init_cutoff = p->init_cutoff,
        .weight_decay = optim_decays(&c->optim, p->kind) ? c->optim.weight_decay : 0};
    return g;
}

status_t recipe_make(struct recipe *r, const struct config *c)
{
    struct param_table t;
    *r = (struct recipe){0};
    TRY(param_table_init(&t, &c->arch, NULL, 0));
    for (int i = 0; i < t.n_params; i++) {
        struct recipe_group *g = group_of(r, c, &t.params[i]);
        g->n_tensors++;
        g->n_parameters += t.params[i].n;
        r->n_parameters += t.params[i].n;
    }
    param_table_release(&t);
    return STATUS_OK;
}

double recipe_lr(const struct config *c, int64_t step)
{
    const int i = config_segment_at(c, step), last = c->n_stages - 1;
    if (last >= 0) c = &c->stages[i < last ? i : last];
    return c->optim.lr * schedule_factor(&c->schedule, step - c->span.schedule_step);
}

static int64_t tokens_of(const struct config *c)
{
    return c->span.steps * config_global_batch(c) * c->sequence_length;
}

static void print_steps(const struct config *c, FILE *out)
{
    int64_t tokens = c->n_stages > 0 ? 0 : tokens_of(c);
    for (int i = 0; i < c->n_stages; i++) tokens += tokens_of(&c->stages[i]);
    fprintf(out, "steps          %" PRId64 ", %" PRId64 " tokens\n", c->steps, tokens);
    for (int i = 0; i < c->n_stages; i++) {
        const struct config *s = &c->stages[i];
        fprintf(out,
                "  stage %-12s steps %" PRId64 " to %" PRId64 ", %" PRId64
                " sequences of %" PRId64 ", %" PRId64 " tokens\n",
                s->span.name, s->span.first_step, s->span.end_step - 1,
                config_global_batch(s), s->sequence_length, tokens_of(s));
    }
}

static void print_group(const struct recipe_group *g, FILE *out)
{
    static const char *const kinds[] = {[PARAM_MATRIX] = "matrix",
                                        [PARAM_EMBEDDING] = "embedding",
                                        [PARAM_NORM] = "norm",
                                        [PARAM_BIAS] = "bias"};
    fprintf(out, "  %-12s %" PRId64 " in %" PRId64 " tensors, ", kinds[g->kind],
            g->n_parameters, g->n_tensors);
    if (g->init_std == 0)
        fprintf(out, "all %g", g->init_mean);
    else
        fprintf(out, "normal of deviation %.9g", g->init_std);
    if (g->init_std != 0 && g->init_cutoff != 0)
        fprintf(out, " cut at %g", g->init_cutoff);
    fprintf(out, ", weight decay %g\n", g->weight_decay);
}

void recipe_print(const struct recipe *r, const struct config *c, const int64_t *steps,
                  int n, FILE *out)
{
    const int64_t batch = config_global_batch(c) * c->sequence_length;
    fprintf(out, "parameters     %" PRId64 "\n", r->n_parameters);
    for (int i = 0; i < r->n_groups; i++) print_group(&r->groups[i], out);
    fprintf(out,
            "batch          %" PRId64 " sequences of %" PRId64 ", %" PRId64 " tokens\n",
            config_global_batch(c), c->sequence_length, batch);
    print_steps(c, out);
    fprintf(out, "learning rate  AdamW, beta %g and %g, eps %g, clip %g\n",
            c->optim.beta1, c->optim.beta2, c->optim.eps, c->optim.clip);
    for (int i = 0; i < n; i++)
        fprintf(out, "  step %-12" PRId64 " %.9g\n", steps[i], recipe_lr(c, steps[i]));
}
