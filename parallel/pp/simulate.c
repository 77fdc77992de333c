#include "parallel/pp/simulate.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/log.h"

/* When instruction (op, micro, part) is done; < 0: not yet. */
struct board {
    const struct pp_schedule *s;
    double *done;
};

static double *at(const struct board *b, enum pp_op op, int micro, int part)
{
    return &b->done[((int64_t)op * b->s->n_micro + micro) * pp_n_parts(b->s) + part];
}

static status_t board_open(struct board *b, const struct pp_schedule *s)
{
    const size_t n = (size_t)PP_OPS * (size_t)s->n_micro * (size_t)pp_n_parts(s);
    *b = (struct board){.s = s, .done = malloc(n * sizeof *b->done)};
    if (!b->done) return status_set(STATUS_NOMEM, "no memory to simulate a schedule");
    for (size_t i = 0; i < n; i++) b->done[i] = -1;
    return STATUS_OK;
}

/* When everything that the instruction waits for is there; < 0: not yet. */
static double inputs_at(const struct board *b, const struct pp_instruction *x, int part,
                        double transfer)
{
    const struct pp_schedule *s = b->s;
    const int from = pp_from(s, part, x->op);
    double when = 0;
    if (x->op != PP_FORWARD) {
        const enum pp_op before = x->op == PP_BACKWARD ? PP_FORWARD : PP_BACKWARD;
        when = *at(b, before, x->micro, part);
        if (when < 0) return -1;
    }
    if (from < 0) return when;
    const double sent = *at(b, x->op, x->micro, from);
    if (sent < 0) return -1;
    const bool travels = pp_stage_of(s, from) != pp_stage_of(s, part);
    const double there = sent + (travels ? transfer : 0);
    return there > when ? there : when;
}

static double cost_of(const struct pp_schedule *s, const struct pp_costs *c, int stage,
                      enum pp_op op)
{
    double cost = c->op[op];
    if (op == PP_BACKWARD && s->kind != PP_ZERO_BUBBLE) cost += c->op[PP_WEIGHTS];
    return c->stage ? cost * c->stage[stage] : cost;
}

static status_t allocate(struct pp_simulation *sim, const struct pp_schedule *s)
{
    const size_t n = (size_t)s->n_stages;
    *sim = (struct pp_simulation){.times = calloc(n, sizeof *sim->times),
                                  .most_alive = calloc(n, sizeof *sim->most_alive)};
    bool ok = sim->times && sim->most_alive;
    for (int i = 0; ok && i < s->n_stages; i++) {
        sim->times[i] = calloc((size_t)s->stages[i].n + 1, sizeof **sim->times);
        ok = sim->times[i];
    }
    if (ok) return STATUS_OK;
    return status_set(STATUS_NOMEM, "no memory to simulate a schedule");
}

void pp_simulation_release(struct pp_simulation *sim, const struct pp_schedule *s)
{
    for (int i = 0; sim->times && i < s->n_stages; i++) free(sim->times[i]);
    free(sim->times);
    free(sim->most_alive);
    *sim = (struct pp_simulation){0};
}

static const char *op_name(enum pp_op op)
{
    static const char *const op_names[PP_OPS] = {
        [PP_FORWARD] = "forward", [PP_BACKWARD] = "backward", [PP_WEIGHTS] = "weights"};
    return op_names[op];
}

/* Everything is there once: as many instructions as there must be, and none twice. */
static status_t count(const struct pp_schedule *s)
{
    const int ops = s->kind == PP_ZERO_BUBBLE ? PP_OPS : PP_OPS - 1;
    for (int i = 0; i < s->n_stages; i++)
        if (s->stages[i].n != ops * s->n_micro * s->n_chunks)
            return status_set(
                STATUS_INTERNAL, "schedule %s: stage %d has %d instructions, not %d",
                pp_kind_name(s->kind), i, s->stages[i].n, ops * s->n_micro * s->n_chunks);
    return STATUS_OK;
}

static status_t stuck(const struct pp_schedule *s, const int *next)
{
    for (int i = 0; i < s->n_stages; i++) {
        if (next[i] == s->stages[i].n) continue;
        const struct pp_instruction *x = &s->stages[i].items[next[i]];
        return status_set(STATUS_INTERNAL,
                          "schedule %s, %d stages, %d chunks, %d micro-batches: stage %d "
                          "waits for ever before %s of micro-batch %d, chunk %d",
                          pp_kind_name(s->kind), s->n_stages, s->n_chunks, s->n_micro, i,
                          op_name(x->op), x->micro, x->chunk);
    }
    return STATUS_OK;
}

/* As many instructions of the stage as can be run now; true if there was one. */
static status_t advance(struct pp_simulation *sim, const struct board *b, int stage,
                        int *next, const struct pp_costs *c, bool *moved)
{
    const struct pp_list *l = &b->s->stages[stage];
    while (*next < l->n) {
        const struct pp_instruction *x = &l->items[*next];
        const int part = pp_part(b->s, stage, x->chunk);
        const double ready = inputs_at(b, x, part, c->transfer);
        if (ready < 0) return STATUS_OK;
        double *done = at(b, x->op, x->micro, part);
        if (*done >= 0)
            return status_set(STATUS_INTERNAL, "stage %d has %s of micro-batch %d twice",
                              stage, op_name(x->op), x->micro);
        const double free_at = *next ? sim->times[stage][*next - 1].end : 0;
        const double begin = ready > free_at ? ready : free_at;
        *done = begin + cost_of(b->s, c, stage, x->op);
        sim->times[stage][*next] = (struct pp_times){.begin = begin, .end = *done};
        if (*done > sim->makespan) sim->makespan = *done;
        ++*next;
        *moved = true;
    }
    return STATUS_OK;
}

static void measure(struct pp_simulation *sim, const struct pp_schedule *s)
{
    const enum pp_op last = s->kind == PP_ZERO_BUBBLE ? PP_WEIGHTS : PP_BACKWARD;
    double busy = 0;
    for (int i = 0; i < s->n_stages; i++) {
        int alive = 0;
        for (int k = 0; k < s->stages[i].n; k++) {
            const enum pp_op op = s->stages[i].items[k].op;
            busy += sim->times[i][k].end - sim->times[i][k].begin;
            if (op == PP_FORWARD) alive++;
            if (alive > sim->most_alive[i]) sim->most_alive[i] = alive;
            if (op == last) alive--;
        }
    }
    sim->bubble = 1 - busy / (sim->makespan * s->n_stages);
}

status_t pp_simulate(struct pp_simulation *sim, const struct pp_schedule *s,
                     const struct pp_costs *costs)
{
    struct board b = {0};
    int *next = calloc((size_t)s->n_stages, sizeof *next);
    status_t st = allocate(sim, s);
    if (st == STATUS_OK && !next)
        st = status_set(STATUS_NOMEM, "no memory to simulate a schedule");
    if (st == STATUS_OK) st = board_open(&b, s);
    if (st == STATUS_OK) st = count(s);
    for (bool moved = true; st == STATUS_OK && moved;) {
        moved = false;
        for (int i = 0; st == STATUS_OK && i < s->n_stages; i++)
            st = advance(sim, &b, i, &next[i], costs, &moved);
    }
    if (st == STATUS_OK) st = stuck(s, next);
    if (st == STATUS_OK) measure(sim, s);
    free(next);
    free(b.done);
    return st;
}
