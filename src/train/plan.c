#include "train/plan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/log.h"
#include "data/token_file.h"
#include "train/layout.h"

static status_t find_vocabulary(struct config *c)
{
    struct token_file *f = NULL;
    struct token_file_list list;
    const struct data_source *source = &c->train.items[0];
    if (c->arch.vocab_size > 0) return STATUS_OK;
    const bool exists = token_file_list(&list, source->path) == STATUS_OK;
    token_file_list_release(&list);
    if (!exists) return STATUS_OK;
    TRY(token_file_open_with(&f, source->path, &source->file));
    c->arch.vocab_size = token_file_info(f)->vocab_size;
    token_file_close(&f);
    return STATUS_OK;
}

enum { MOST_RANKS = 1 << 24 };

static int64_t segment_ranks(const struct config *c)
{
    const int64_t axes[] = {c->dp, c->cp, c->tp, c->pp};
    int64_t ranks = 1;
    for (int i = 0; i < 4; i++)
        if (axes[i] > 1 && ranks < MOST_RANKS) ranks *= axes[i];
    return ranks;
}

int plan_fewest_ranks(struct config *run)
{
    int64_t ranks = 1;
    for (int i = 0; i < config_n_segments(run) && ranks < MOST_RANKS; i++) {
        const int64_t n = segment_ranks(config_segment(run, i)), before = ranks;
        while (ranks % n != 0 && ranks < MOST_RANKS) ranks += before; /* both divide it */
    }
    return ranks < MOST_RANKS ? (int)ranks : MOST_RANKS;
}

/* How much dearer each stage is than the average. */
static status_t weigh(const struct pp_schedule *s, const int64_t *first_layer,
                      const struct config *c, double *stage)
{
    const int n = s->n_stages, n_parts = n * s->n_chunks;
    double *parts = malloc((size_t)n_parts * sizeof *parts), all = 0;
    if (!parts) return status_set(STATUS_NOMEM, "no memory for a plan");
    layout_costs(c, n_parts, first_layer, parts);
    for (int i = 0; i < n; i++) stage[i] = 0;
    for (int i = 0; i < n_parts; i++) {
        stage[pp_stage_of(s, i)] += parts[i];
        all += parts[i];
    }
    for (int i = 0; i < n; i++) stage[i] *= n / all;
    free(parts);
    return STATUS_OK;
}

static status_t simulate(struct pp_simulation *simulation, const struct pp_schedule *s,
                         const int64_t *first_layer, const struct config *c)
{
    double *stage = calloc((size_t)s->n_stages, sizeof *stage);
    if (!stage) return status_set(STATUS_NOMEM, "no memory for a plan");
    const struct pp_costs costs = {.op = {1, 1, 1}, .stage = stage};
    status_t st = weigh(s, first_layer, c, stage);
    if (st == STATUS_OK) st = pp_simulate(simulation, s, &costs);
    free(stage);
    return st;
}

status_t plan_make(struct plan *p, struct config *c, int ranks)
{
    *p = (struct plan){0};
    TRY(find_vocabulary(c));
    TRY(layout_settle(c, ranks, p->sizes));
    const int pp = p->sizes[MESH_PP];
    p->n_parts = pp * (int)c->chunks;
    p->first_layer = calloc((size_t)p->n_parts + 1, sizeof *p->first_layer);
    if (!p->first_layer) return status_set(STATUS_NOMEM, "no memory for a plan");
    TRY(layout_split(c, p->n_parts, p->first_layer));
    const struct loader_options share = {.global_batch = config_global_batch(c),
                                         .micro_batch = c->micro_batch,
                                         .T = c->sequence_length,
                                         .size = p->sizes[MESH_DP],
                                         .ahead = 1};
    p->micro_batches = loader_micro_batches(&share);
    TRY(pp_schedule_build(&p->schedule, (enum pp_kind)c->pipeline, pp, (int)c->chunks,
                          (int)p->micro_batches));
    return simulate(&p->simulation, &p->schedule, p->first_layer, c);
}

void plan_release(struct plan *p)
{
    if (p->schedule.stages) pp_simulation_release(&p->simulation, &p->schedule);
    pp_schedule_release(&p->schedule);
    free(p->first_layer);
    *p = (struct plan){0};
}

void plan_log_idle(const struct config *c, const struct pp_schedule *s,
                   const int64_t *first_layer)
{
    struct pp_simulation simulation = {0};
    const bool few = s->n_micro < LAYOUT_BUSY * s->n_stages;
    if (simulate(&simulation, s, first_layer, c) == STATUS_OK)
        log_info("pipeline: %s, idle %.1f %%%s%s%s", pp_kind_name(s->kind),
                 100 * simulation.bubble,
                 few ? "; more micro-batches a step would make it less: " : "",
                 few && c->micro_batch > 1 ? "a smaller train.micro_batch or " : "",
                 few ? "a larger batch" : "");
    pp_simulation_release(&simulation, s);
}

void plan_print(const struct plan *p, const struct config *c, FILE *out)
{
    const int *s = p->sizes;
    if (c->span.name)
        fprintf(out,
                "stage %s: steps %" PRId64 " to %" PRId64 " of %" PRId64 ", %" PRId64
                " sequences of %" PRId64 " tokens, learning rate up to %g%s\n",
                c->span.name, c->span.first_step, c->span.end_step - 1, c->steps,
                config_global_batch(c), c->sequence_length, c->optim.lr,
                c->span.data_step == c->span.first_step ? ", data from its beginning"
                                                        : "");
    fprintf(out, "ranks: %d = dp %d x cp %d x tp %d x pp %d\n",
            s[MESH_DP] * s[MESH_CP] * s[MESH_TP] * s[MESH_PP], s[MESH_DP], s[MESH_CP],
            s[MESH_TP], s[MESH_PP]);
    fprintf(out, "micro-batches: %" PRId64 " of up to %" PRId64 " sequences a step\n",
            p->micro_batches, c->micro_batch);
    fprintf(out, "schedule: %s, %" PRId64 " chunk%s a stage, idle %.1f %%\n",
            pp_kind_name(p->schedule.kind), c->chunks, c->chunks == 1 ? "" : "s",
            100 * p->simulation.bubble);
    for (int i = 0; i < p->n_parts; i++)
        fprintf(out, "part %d on stage %d: layers %" PRId64 " to %" PRId64 "%s%s\n", i,
                pp_stage_of(&p->schedule, i), p->first_layer[i],
                p->first_layer[i + 1] - 1, i == 0 ? ", embedding" : "",
                i == p->n_parts - 1 ? ", norm and head" : "");
}
