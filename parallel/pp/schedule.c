#include "parallel/pp/schedule.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/log.h"

static const char *const names[PP_KINDS] = {[PP_GPIPE] = "gpipe",
                                            [PP_1F1B] = "1f1b",
                                            [PP_INTERLEAVED] = "interleaved",
                                            [PP_ZERO_BUBBLE] = "zero_bubble"};

const char *pp_kind_name(enum pp_kind kind)
{
    return names[kind];
}

/* ---- who is where ---------------------------------------------------------------------------- */

int pp_part(const struct pp_schedule *s, int stage, int chunk)
{
    return chunk * s->n_stages + stage;
}

int pp_stage_of(const struct pp_schedule *s, int part)
{
    return part % s->n_stages;
}

int pp_chunk_of(const struct pp_schedule *s, int part)
{
    return part / s->n_stages;
}

int pp_n_parts(const struct pp_schedule *s)
{
    return s->n_stages * s->n_chunks;
}

int pp_from(const struct pp_schedule *s, int part, enum pp_op op)
{
    if (op == PP_WEIGHTS) return -1;
    if (op == PP_FORWARD) return part - 1;
    return part + 1 < pp_n_parts(s) ? part + 1 : -1;
}

int pp_to(const struct pp_schedule *s, int part, enum pp_op op)
{
    if (op == PP_WEIGHTS) return -1;
    return pp_from(s, part, op == PP_FORWARD ? PP_BACKWARD : PP_FORWARD);
}

/* ---- generators ------------------------------------------------------------------------------ */

static void put(struct pp_list *l, enum pp_op op, int micro, int chunk)
{
    l->items[l->n++] = (struct pp_instruction){
        .op = op, .micro = micro, .chunk = chunk, .weight_slot = -1};
}

static void gpipe(struct pp_list *l, int n_micro)
{
    for (int m = 0; m < n_micro; m++) put(l, PP_FORWARD, m, 0);
    for (int m = 0; m < n_micro; m++) put(l, PP_BACKWARD, m, 0);
}

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* Number k of the forwards (backwards) of a stage: groups of n_stages micro-batches go through one
 * chunk after the other, backwards from the last. */
static struct pp_instruction nth(const struct pp_schedule *s, int k, enum pp_op op)
{
    const int group = s->n_stages * s->n_chunks, chunk = k % group / s->n_stages;
    return (struct pp_instruction){.op = op,
                                   .micro = k / group * s->n_stages + k % s->n_stages,
                                   .chunk = op == PP_FORWARD ? chunk
                                                             : s->n_chunks - 1 - chunk};
}

static void put_nth(struct pp_list *l, const struct pp_schedule *s, int k, enum pp_op op)
{
    const struct pp_instruction i = nth(s, k, op);
    if (i.micro < s->n_micro) put(l, op, i.micro, i.chunk);
}

/* Made for a multiple of n_stages micro-batches; those that are not there are left out, which takes
 * nothing from what the others wait for. */
static void interleaved(struct pp_list *l, const struct pp_schedule *s, int stage)
{
    const int p = s->n_stages, groups = (s->n_micro + p - 1) / p;
    const int all = groups * p * s->n_chunks;
    const int warm = s->n_chunks == 1
                         ? p - 1 - stage
                         : min(all, 2 * (p - 1 - stage) + (s->n_chunks - 1) * p);
    for (int k = 0; k < warm; k++) put_nth(l, s, k, PP_FORWARD);
    for (int k = 0; k < all; k++) {
        if (warm + k < all) put_nth(l, s, warm + k, PP_FORWARD);
        put_nth(l, s, k, PP_BACKWARD);
    }
}

/* 1F1B, in which stage s makes the gradients of weights s backwards late. */
static void zero_bubble(struct pp_list *l, const struct pp_schedule *s, int stage)
{
    const int warm = min(s->n_micro, s->n_stages - 1 - stage);
    int late = 0;
    for (int m = 0; m < warm; m++) put(l, PP_FORWARD, m, 0);
    for (int m = 0; m < s->n_micro; m++) {
        if (warm + m < s->n_micro) put(l, PP_FORWARD, warm + m, 0);
        put(l, PP_BACKWARD, m, 0);
        if (m >= stage) put(l, PP_WEIGHTS, late++, 0);
    }
    while (late < s->n_micro) put(l, PP_WEIGHTS, late++, 0);
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Numbers in use: the lowest free one is taken. */
struct pool {
    bool *used;
    int most;
};

static int take(struct pool *p)
{
    int i = 0;
    while (p->used[i]) i++;
    p->used[i] = true;
    if (i + 1 > p->most) p->most = i + 1;
    return i;
}

/* Of one chunk: held[m] and later[m] = slots of micro-batch m. */
struct chunk_slots {
    struct pool kept, weights;
    int *held, *later;
};

static void assign(struct pp_list *l, int chunk, struct chunk_slots *c, bool splits)
{
    for (int i = 0; i < l->n; i++) {
        struct pp_instruction *x = &l->items[i];
        if (x->chunk != chunk) continue;
        if (x->op == PP_FORWARD) c->held[x->micro] = take(&c->kept);
        if (x->op == PP_BACKWARD && splits) c->later[x->micro] = take(&c->weights);
        x->slot = c->held[x->micro];
        if (splits && x->op != PP_FORWARD) x->weight_slot = c->later[x->micro];
        const bool last = x->op == (splits ? PP_WEIGHTS : PP_BACKWARD);
        if (last) c->kept.used[x->slot] = false;
        if (last && splits) c->weights.used[x->weight_slot] = false;
    }
    l->slots[chunk] = c->kept.most;
    l->weight_slots[chunk] = c->weights.most;
}

static status_t assign_slots(struct pp_list *l, const struct pp_schedule *s)
{
    const size_t n = (size_t)s->n_micro;
    struct chunk_slots c = {.held = calloc(n, sizeof *c.held),
                            .later = calloc(n, sizeof *c.later)};
    c.kept.used = calloc(2 * n, sizeof *c.kept.used);
    status_t st = STATUS_OK;
    if (!c.held || !c.later || !c.kept.used)
        st = status_set(STATUS_NOMEM, "no memory for a pipeline schedule");
    if (st == STATUS_OK) {
        c.weights.used = c.kept.used + n;
        for (int k = 0; k < s->n_chunks; k++) {
            c.kept.most = c.weights.most = 0;
            assign(l, k, &c, s->kind == PP_ZERO_BUBBLE);
        }
    }
    free(c.held);
    free(c.later);
    free(c.kept.used);
    return st;
}

/* How far the micro-batches on their way may be apart: from the first instruction of one to its
 * last. */
static status_t find_window(struct pp_list *l, int n_micro)
{
    int *left = calloc((size_t)n_micro, sizeof *left);
    if (!left) return status_set(STATUS_NOMEM, "no memory for a pipeline schedule");
    for (int i = 0; i < l->n; i++) left[l->items[i].micro]++;
    int oldest = 0, newest = -1;
    for (int i = 0; i < l->n; i++) {
        const int m = l->items[i].micro;
        if (m > newest) newest = m;
        if (newest - oldest + 1 > l->window) l->window = newest - oldest + 1;
        left[m]--;
        while (oldest < n_micro && left[oldest] == 0) oldest++;
    }
    free(left);
    return STATUS_OK;
}

/* ---- build ----------------------------------------------------------------------------------- */

status_t pp_check(enum pp_kind kind, int n_stages, int n_chunks)
{
    CHECK(kind >= 0 && kind < PP_KINDS && n_stages >= 1 && n_chunks >= 1);
    const int most = kind == PP_INTERLEAVED && n_stages > 1 ? PP_MAX_CHUNKS : 1;
    if (n_chunks <= most) return STATUS_OK;
    return status_set(
        STATUS_CONFIG,
        "parallel.chunks: %d with parallel.schedule %s and %d stage%s; valid: "
        "1%s",
        n_chunks, names[kind], n_stages, n_stages == 1 ? "" : "s",
        n_stages > 1 ? ", or schedule interleaved" : "");
}

static status_t build_stage(struct pp_schedule *s, int stage)
{
    struct pp_list *l = &s->stages[stage];
    l->items =
        calloc((size_t)s->n_micro * (size_t)s->n_chunks * PP_OPS, sizeof *l->items);
    if (!l->items) return status_set(STATUS_NOMEM, "no memory for a pipeline schedule");
    switch (s->kind) {
    case PP_GPIPE:
        gpipe(l, s->n_micro);
        break;
    case PP_ZERO_BUBBLE:
        zero_bubble(l, s, stage);
        break;
    default: /* with one chunk it is 1F1B */
        interleaved(l, s, stage);
    }
    TRY(assign_slots(l, s));
    return find_window(l, s->n_micro);
}

status_t pp_schedule_build(struct pp_schedule *s, enum pp_kind kind, int n_stages,
                           int n_chunks, int n_micro)
{
    *s = (struct pp_schedule){0};
    TRY(pp_check(kind, n_stages, n_chunks));
    CHECK(n_micro >= 1);
    *s = (struct pp_schedule){.kind = kind,
                              .n_stages = n_stages,
                              .n_chunks = n_chunks,
                              .n_micro = n_micro,
                              .stages = calloc((size_t)n_stages, sizeof *s->stages)};
    if (!s->stages) return status_set(STATUS_NOMEM, "no memory for a pipeline schedule");
    for (int stage = 0; stage < n_stages; stage++) TRY(build_stage(s, stage));
    return STATUS_OK;
}

void pp_schedule_release(struct pp_schedule *s)
{
    for (int i = 0; s->stages && i < s->n_stages; i++) free(s->stages[i].items);
    free(s->stages);
    *s = (struct pp_schedule){0};
}
