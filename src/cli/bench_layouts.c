/* What each axis of a layout costs: whole training steps of a model of 50 million parameters under
 * mpirun, on random tokens, with the time from the start of each operation to its end, and how much
 * of that the host spends on it: moving, adding or waiting.  The rest is hidden. */
#include <stdio.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/log.h"
#include "train/trainer.h"

enum { AXES = 4, WARM_UP = 1 };

static const char *const axis_names[AXES] = {"tp", "cp", "pp", "dp+cp"};

static struct comm *axis_of(const struct layout *l, int axis)
{
    struct comm *const comms[AXES] = {l->tp, l->cp, l->pp, l->data};
    return comms[axis];
}

/* Of one layout, a step: medians are not needed, the sums are. */
struct figures {
    double step, inside[AXES], busy[AXES];
    uint64_t bytes[AXES];
};

static void measure(struct figures *f, struct trainer *t, int64_t steps)
{
    struct step_stats s;
    struct comm_stats before[AXES];
    for (int i = 0; i < WARM_UP; i++) train_step(t, &s);
    comm_barrier(t->world);
    for (int k = 0; k < AXES; k++) before[k] = comm_stats(axis_of(&t->layout, k));
    const double start = clock_seconds();
    for (int64_t i = 0; i < steps; i++) train_step(t, &s);
    train_settle(t);
    const double n = (double)steps;
    f->step = (clock_seconds() - start) / n;
    for (int k = 0; k < AXES; k++) {
        const struct comm_stats now = comm_stats(axis_of(&t->layout, k));
        f->inside[k] = (now.seconds - before[k].seconds) / n;
        f->busy[k] = (now.busy_seconds - before[k].busy_seconds) / n;
        f->bytes[k] = (now.bytes_sent - before[k].bytes_sent) / (uint64_t)steps;
    }
}

/* One row: rank 0's numbers, which stand for those of others to within their shares. */
static void print_row(const char *layout, const struct figures *f)
{
    printf("%-34s %8.3f s", layout, f->step);
    for (int k = 0; k < AXES; k++) {
        if (f->bytes[k] == 0) continue;
        const double hidden = f->busy[k] > 0 ? 1 - f->inside[k] / f->busy[k] : 0;
        printf("  %s %.1f MB, %.3f s, takes %.3f s (%.0f %% hidden)", axis_names[k],
               (double)f->bytes[k] * 1e-6, f->busy[k], f->inside[k],
               100 * (hidden > 0 ? hidden : 0));
    }
    printf("\n");
    fflush(stdout);
}

static status_t run(struct comm *world, const struct bench_options *o, const char *folder,
                    const char *layout)
{
    struct config c;
    struct trainer t;
    struct figures f;
    TRY(bench_model_config(&c, o, folder, layout));
    c.checkpoint_async = false; /* nothing is saved */
    status_t st = trainer_init(&t, world, &c);
    if (st == STATUS_OK) st = trainer_start_fresh(&t);
    if (st == STATUS_OK) st = comm_agree(world, trainer_start_loader(&t));
    if (st == STATUS_OK) measure(&f, &t, o->steps);
    log_set_step(-1);
    trainer_release(&t);
    config_release(&c);
    if (st == STATUS_OK && comm_rank(world) == 0) print_row(layout, &f);
    return st;
}

/* Each axis alone, and two of them together where there are ranks for it. */
static status_t run_all(struct comm *world, const struct bench_options *o,
                        const char *folder)
{
    static const char *const alone[] = {"dp: %d", "dp: %d, zero: 2",
                                        "tp: %d", "cp: %d",
                                        "pp: %d", "pp: %d, schedule: zero_bubble"};
    static const char *const both[] = {"tp: 2, dp: %d", "tp: 2, pp: %d", "pp: 2, dp: %d",
                                       "cp: 2, dp: %d"};
    const int ranks = comm_size(world);
    char layout[128];
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        snprintf(layout, sizeof layout, alone[i], ranks);
        TRY(run(world, o, folder, layout));
    }
    for (size_t i = 0; ranks >= 4 && ranks % 2 == 0 && i < sizeof both / sizeof *both;
         i++) {
        snprintf(layout, sizeof layout, both[i], ranks / 2);
        TRY(run(world, o, folder, layout));
    }
    return STATUS_OK;
}

status_t bench_layouts(struct comm *world, const struct bench_options *o)
{
    char folder[PATH_MAX];
    TRY(bench_make_folder(world, o->folder, &bench_model_tokens, folder));
    if (comm_rank(world) == 0)
        printf(
            "46.9 M parameters, %d x %d tokens a step, %d ranks x %jd threads; of each "
            "axis, a step: sent by rank 0, time under way, of which it takes of the "
            "host\n",
            BENCH_MODEL_BATCH, BENCH_MODEL_TOKENS, comm_size(world),
            (intmax_t)o->threads);
    const bool loud = log_set_quiet(true);
    const status_t st = run_all(world, o, folder);
    log_set_quiet(loud);
    bench_remove_folder(world, folder);
    return st;
}
