/* @timeout 120
 * Every schedule for up to 16 stages, 64 micro-batches and 4 chunks: nobody waits for ever, nothing
 * is done twice or too early, bubbles are as published and activations within their bound. */
#include "harness/harness.h"

#include <math.h>

#include "parallel/pp/simulate.h"
#include "parallel/pp/split.h"
#include "parallel/pp/timeline.h"

enum { MAX_STAGES = 16, MAX_MICRO = 64, MAX_CHUNKS = 4 };

/* Forward, gradient of the input and of the weights cost the same. */
static const struct pp_costs equal = {.op = {1, 1, 1}};

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* Time that a stage is idle, in the same units, where the published formula gives it; < 0: it does
 * not.  GPipe and 1F1B: (p - 1)(F + B + W); interleaved: a v-th of that, if p divides m
 * (arXiv:2104.04473, section 2.2); ZB-H1: (p - 1)(F + B - W) from m = p on (arXiv:2401.10241, table
 * 1). */
static double idle_of(enum pp_kind kind, int p, int v, int m)
{
    if (kind == PP_ZERO_BUBBLE) return m >= p ? p - 1 : -1;
    if (v == 1) return 3.0 * (p - 1);
    return m % p == 0 ? 3.0 * (p - 1) : -1; /* v chunks a stage: each costs a v-th */
}

/* Micro-batches times chunks that stage s may hold. */
static int alive_of(enum pp_kind kind, int p, int v, int m, int s)
{
    if (kind == PP_GPIPE) return m;
    if (kind == PP_ZERO_BUBBLE) return min(m, p);
    if (v == 1) return min(m, p - s);
    return min(m * v, 2 * (p - 1 - s) + (v - 1) * p + 1);
}

static bool takes_slot(const struct pp_schedule *s, const struct pp_instruction *x)
{
    return x->op == (s->kind == PP_ZERO_BUBBLE ? PP_WEIGHTS : PP_BACKWARD);
}

/* No two micro-batches are in one slot at a time, and a chunk's last instruction comes before that of
 * the chunk in front of it. */
static void check_lists(const struct pp_schedule *s)
{
    for (int stage = 0; stage < s->n_stages; stage++) {
        const struct pp_list *l = &s->stages[stage];
        int holder[MAX_CHUNKS][MAX_MICRO], last[MAX_CHUNKS];
        bool alive[MAX_MICRO] = {false};
        memset(holder, -1, sizeof holder);
        for (int i = 0; i < l->n; i++) {
            const struct pp_instruction *x = &l->items[i];
            int *slot = &holder[x->chunk][x->slot];
            assert_true(x->slot >= 0 && x->slot < l->slots[x->chunk]);
            if (x->op == PP_FORWARD) {
                assert_int_equal(*slot, -1);
                *slot = x->micro;
            }
            assert_int_equal(*slot, x->micro);
            if (takes_slot(s, x)) *slot = -1;
            last[x->chunk] = i;
            for (int m = 0; m < s->n_micro; m++) /* the window tells them apart */
                if (alive[m] && m != x->micro)
                    assert_true((m - x->micro) % l->window != 0);
            alive[x->micro] = true;
            bool more = false;
            for (int k = i + 1; k < l->n && !more; k++)
                more = l->items[k].micro == x->micro;
            alive[x->micro] = more;
        }
        for (int c = 1; c < s->n_chunks; c++) assert_true(last[c] < last[c - 1]);
    }
}

/* Instruction i of the stage takes what was sent for it one instruction earlier, and a message is
 * off its sender's hands when the receiver has come so far: does everybody get to the end with one
 * message on the way in each direction? */
static bool ends_with_one_message(const struct pp_schedule *s)
{
    int next[MAX_STAGES] = {0},
        taken[MAX_STAGES][2]; /* place where the last one is taken */
    int to_stage[MAX_STAGES][2];
    static bool done[2][MAX_MICRO][MAX_STAGES * MAX_CHUNKS];
    memset(done, 0, sizeof done);
    memset(to_stage, -1, sizeof to_stage);
    for (bool moved = true; moved;) {
        moved = false;
        for (int stage = 0; stage < s->n_stages; stage++) {
            if (next[stage] == s->stages[stage].n) continue;
            const struct pp_instruction *x = &s->stages[stage].items[next[stage]];
            const int part = pp_part(s, stage, x->chunk);
            const int from = pp_from(s, part, x->op), to = pp_to(s, part, x->op);
            if (from >= 0 && !done[x->op][x->micro][from]) continue;
            if (to >= 0) {
                const int receiver = to_stage[stage][x->op];
                if (receiver >= 0 && next[receiver] + 1 < taken[stage][x->op]) continue;
                const struct pp_list *l = &s->stages[pp_stage_of(s, to)];
                int place = 0;
                while (l->items[place].op != x->op || l->items[place].micro != x->micro ||
                       l->items[place].chunk != pp_chunk_of(s, to))
                    place++;
                to_stage[stage][x->op] = pp_stage_of(s, to);
                taken[stage][x->op] = place;
            }
            if (x->op != PP_WEIGHTS) done[x->op][x->micro][part] = true;
            next[stage]++;
            moved = true;
        }
    }
    for (int stage = 0; stage < s->n_stages; stage++)
        if (next[stage] < s->stages[stage].n) return false;
    return true;
}

static void check(enum pp_kind kind, int p, int v, int m)
{
    struct pp_schedule s;
    struct pp_simulation sim;
    ASSERT_OK(pp_schedule_build(&s, kind, p, v, m));
    ASSERT_OK(pp_simulate(&sim, &s, &equal));
    const double idle = idle_of(kind, p, v, m);
    if (idle >= 0 && fabs(sim.makespan - 3.0 * m * v - idle) > 1e-9)
        fail_msg("%s p %d v %d m %d: idle %g, not %g", pp_kind_name(kind), p, v, m,
                 sim.makespan - 3.0 * m * v, idle);
    if (idle >= 0) assert_true(fabs(sim.bubble - idle / (3.0 * m * v + idle)) < 1e-9);
    for (int stage = 0; stage < p; stage++)
        if (sim.most_alive[stage] > alive_of(kind, p, v, m, stage))
            fail_msg("%s p %d v %d m %d: stage %d holds %d", pp_kind_name(kind), p, v, m,
                     stage, sim.most_alive[stage]);
    if (m <= 12 || m == MAX_MICRO) {
        check_lists(&s);
        assert_true(ends_with_one_message(&s));
    }
    pp_simulation_release(&sim, &s);
    pp_schedule_release(&s);
}

TEST(every_schedule_ends_in_the_published_time_and_memory)
{
    for (int kind = 0; kind < PP_KINDS; kind++)
        for (int p = 1; p <= MAX_STAGES; p++)
            for (int v = 1; v <= (kind == PP_INTERLEAVED && p > 1 ? MAX_CHUNKS : 1); v++)
                for (int m = 1; m <= MAX_MICRO; m++) check((enum pp_kind)kind, p, v, m);
}

TEST(chunks_that_make_no_sense_are_refused)
{
    struct pp_schedule s;
    ASSERT_REFUSED(pp_schedule_build(&s, PP_1F1B, 4, 2, 8), STATUS_CONFIG,
                   "parallel.chunks: 2 with parallel.schedule 1f1b");
    pp_schedule_release(&s);
    ASSERT_REFUSED(pp_schedule_build(&s, PP_INTERLEAVED, 1, 2, 8), STATUS_CONFIG,
                   "valid: 1");
    pp_schedule_release(&s);
}

TEST(the_simulator_finds_what_is_wrong)
{
    struct pp_schedule s;
    struct pp_simulation sim;
    ASSERT_OK(pp_schedule_build(&s, PP_1F1B, 3, 1, 4));
    struct pp_instruction *items = s.stages[1].items, keep = items[0];
    const int n = s.stages[1].n;
    items[0] = items[n - 1]; /* the last backward first: it waits for its own forward */
    items[n - 1] = keep;
    ASSERT_REFUSED(pp_simulate(&sim, &s, &equal), STATUS_INTERNAL, "waits for ever");
    pp_simulation_release(&sim, &s);
    items[n - 1] = items[0];
    items[0] = keep;
    items[1] = keep; /* forward of micro-batch 0 twice */
    ASSERT_REFUSED(pp_simulate(&sim, &s, &equal), STATUS_INTERNAL, "twice");
    pp_simulation_release(&sim, &s);
    s.stages[1].n--;
    ASSERT_REFUSED(pp_simulate(&sim, &s, &equal), STATUS_INTERNAL, "instructions");
    pp_simulation_release(&sim, &s);
    pp_schedule_release(&s);
}

/* ---- layers ---------------------------------------------------------------------------------- */

static double worst_part(const double *costs, const int64_t *first, int parts,
                         double head)
{
    double worst = 0;
    for (int i = 0; i < parts; i++) {
        double cost = i == parts - 1 ? head : 0;
        for (int64_t l = first[i]; l < first[i + 1]; l++) cost += costs[l];
        worst = fmax(worst, cost);
    }
    return worst;
}

/* Of all ways to cut, by trying them. */
static double best_cut(const double *costs, int n, int parts, double head)
{
    if (parts == 1) {
        const int64_t first[] = {0, n};
        return worst_part(costs, first, 1, head);
    }
    double best = HUGE_VAL, front = 0;
    for (int k = 1; k <= n - parts + 1; k++) {
        front += costs[k - 1];
        best = fmin(best, fmax(front, best_cut(costs + k, n - k, parts - 1, head)));
    }
    return best;
}

TEST(layers_are_cut_as_evenly_as_can_be)
{
    double costs[11];
    for (int n = 1; n <= 11; n++)
        for (int parts = 1; parts <= n; parts++)
            for (int head = 0; head <= 4; head++) {
                int64_t first[12];
                for (int l = 0; l < n; l++) costs[l] = 1 + (l * 7 + n) % 3;
                pp_split(costs, n, 0, head, parts, first);
                assert_int_equal(first[0], 0);
                assert_int_equal(first[parts], n);
                for (int i = 0; i < parts; i++) assert_true(first[i] < first[i + 1]);
                const double want = best_cut(costs, n, parts, head);
                assert_true(fabs(worst_part(costs, first, parts, head) - want) < 1e-9);
            }
}

TEST(a_list_of_stages_must_fit)
{
    int64_t first[5];
    ASSERT_OK(pp_split_parse("4,4, 3", 11, 3, first));
    assert_int_equal(first[1], 4);
    assert_int_equal(first[2], 8);
    assert_int_equal(first[3], 11);
    static const char *const bad[] = {
        "",      "4,4",    "4,4,4", "4,4,3,", "4,4,2,1",
        "0,8,3", "-1,9,3", "4;4;3", "4,4,x",  "99999999999,1,1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_REFUSED(pp_split_parse(bad[i], 11, 3, first), STATUS_CONFIG,
                       "valid: auto, or 3 numbers");
}

/* ---- pictures -------------------------------------------------------------------------------- */

TEST(a_timeline_shows_every_instruction)
{
    struct pp_schedule s;
    struct pp_simulation sim;
    char *text = NULL, *svg = NULL;
    size_t bytes = 0;
    const struct pp_costs costs = {.op = {3, 3, 3}};
    ASSERT_OK(pp_schedule_build(&s, PP_ZERO_BUBBLE, 2, 1, 2));
    ASSERT_OK(pp_simulate(&sim, &s, &costs));
    FILE *f = open_memstream(&text, &bytes);
    pp_timeline_text(f, &s, &sim, 1);
    fclose(f);
    assert_non_null(strstr(text, "stage 0  F0-F1-...B0-W0-B1-W1-\n"));
    assert_non_null(strstr(text, "stage 1  ...F0-B0-F1-B1-W0-W1-\n"));
    f = open_memstream(&svg, &bytes);
    pp_timeline_svg(f, &s, &sim);
    fclose(f);
    int bars = 0;
    for (const char *p = svg; (p = strstr(p, "<title>")); p++) bars++;
    assert_int_equal(bars, 12);
    assert_non_null(strstr(svg, "</svg>"));
    free(text);
    free(svg);
    pp_simulation_release(&sim, &s);
    pp_schedule_release(&s);
}
