#define _XOPEN_SOURCE 700 /* nftw */
#include "train/selfcheck.h"

#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "train/trainer.h"

const struct selfcheck_limits selfcheck_fp32 = {
    .loss = 2e-6, .norm = 1e-6, .gradient = 1e-9, .weight = 1e-7};

void selfcheck_release(struct selfcheck_trace *t)
{
    param_table_release(&t->whole);
    free(t->gradients);
    free(t->weights);
    *t = (struct selfcheck_trace){0};
}

/* ---- this rank's numbers, on the host -------------------------------------------------------- */

/* What the rank answers for: gradients and weights of each of zero's owned ranges. */
struct owned {
    struct checkpoint_range *ranges;
    int n;
    float *memory; /* [2, elements] */
};

static void owned_release(struct owned *o)
{
    free(o->ranges);
    free(o->memory);
    *o = (struct owned){0};
}

static status_t owned_take(struct owned *o, const struct trainer *t)
{
    int64_t elements = 0, at = 0;
    o->n = (int)zero_n_owned(t->zero);
    for (int i = 0; i < o->n; i++) elements += zero_owned(t->zero, i).count;
    o->ranges = calloc((size_t)o->n + 1, sizeof *o->ranges);
    o->memory = malloc((size_t)(2 * elements + 1) * sizeof *o->memory);
    if (!o->ranges || !o->memory)
        return status_set(STATUS_NOMEM, "no memory for %jd gradients and weights",
                          (intmax_t)elements);
    for (int i = 0; i < o->n; i++) {
        const struct zero_range r = zero_owned(t->zero, i);
        float *gradients = o->memory + at, *weights = o->memory + elements + at;
        o->ranges[i] = (struct checkpoint_range){.start = r.start,
                                                 .count = r.count,
                                                 .master = weights,
                                                 .exp_avg = gradients,
                                                 .exp_avg_sq = gradients};
        at += r.count;
    }
    return STATUS_OK;
}

static void copy_gradients(const struct owned *o, const struct trainer *t, double scale)
{
    for (int i = 0; i < o->n; i++) {
        const struct checkpoint_range *r = &o->ranges[i];
        device_copy_out(t->device, r->exp_avg, trainer_gradient(t, r->start),
                        (size_t)r->count * sizeof(float));
        for (int64_t k = 0; k < r->count; k++)
            r->exp_avg[k] = (float)((double)r->exp_avg[k] * scale);
    }
}

static void copy_weights(const struct owned *o, const struct trainer *t)
{
    for (int i = 0; i < o->n; i++)
        device_copy_out(t->device, o->ranges[i].master, zero_owned(t->zero, i).master,
                        (size_t)o->ranges[i].count * sizeof(float));
}

/* ---- from all ranks to rank 0 ---------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static status_t read_whole(struct selfcheck_trace *trace, const char *folder)
{
    const size_t n = (size_t)trace->whole.n_elements;
    struct checkpoint *ckpt = NULL;
    char path[PATH_MAX];
    trace->gradients = malloc(n * sizeof *trace->gradients);
    trace->weights = malloc(n * sizeof *trace->weights);
    if (!trace->gradients || !trace->weights)
        return status_set(STATUS_NOMEM, "no memory for the gradients of the whole model");
    file_join(path, sizeof path, folder, "step-00000001");
    TRY(checkpoint_open(&ckpt, path));
    const struct checkpoint_range all = {.count = trace->whole.n_elements,
                                         .master = trace->weights,
                                         .exp_avg = trace->gradients};
    const status_t st = checkpoint_read(ckpt, &trace->whole, &trace->whole, &all, 1);
    checkpoint_close(&ckpt);
    return st;
}

static status_t gather(struct selfcheck_trace *trace, const struct trainer *t,
                       const struct owned *o)
{
    static char none[] = "", empty[] = "{}";
    const struct checkpoint_meta meta = {
        .step = 1, .config = none, .versions = empty, .data = empty};
    const bool root = comm_rank(t->world) == 0;
    char folder[PATH_MAX];
    file_join(folder, sizeof folder, t->config->run_dir, "selfcheck");
    TRY(comm_agree(t->world, root ? file_make_dirs(folder) : STATUS_OK));
    status_t st =
        checkpoint_save(folder, t->world, &t->whole, &t->params, o->ranges, o->n, &meta);
    if (st == STATUS_OK)
        st = comm_agree(t->world, root ? read_whole(trace, folder) : STATUS_OK);
    if (root) {
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        rmdir(t->config->run_dir); /* stays if something else is in it */
    }
    return st;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void run_steps(struct selfcheck_trace *trace, struct trainer *t, struct owned *o,
                      int n_steps)
{
    struct step_stats s;
    trace->n_steps = n_steps;
    for (int i = 0; i < n_steps; i++) {
        train_gradients(t, &s);
        if (i == 0) copy_gradients(o, t, s.gradient_scale);
        train_update(t, &s);
        train_settle(t);
        if (i == 0) copy_weights(o, t);
        trace->loss[i] = s.loss;
        trace->norm[i] = s.grad_norm;
    }
    log_set_step(-1);
}

status_t selfcheck_layout(struct selfcheck_trace *trace, struct comm *world,
                          const struct config *c, int n_steps)
{
    CHECK(n_steps >= 1 && n_steps <= SELFCHECK_MAX_STEPS);
    struct config config = *c; /* borrows; the trainer sets the vocabulary */
    struct trainer t;
    struct owned o = {0};
    *trace = (struct selfcheck_trace){0};
    config.precision = CONFIG_PRECISION_FP32;
    config.wire = CONFIG_WIRE_FP32;
    config.checkpoint_async = false; /* nothing goes on meanwhile */
    config.span.schedule_step = 0;   /* its first steps are a run's */
    status_t st = trainer_init(&t, world, &config);
    if (st == STATUS_OK) st = trainer_start_fresh(&t);
    if (st == STATUS_OK) st = comm_agree(world, trainer_start_loader(&t));
    if (st == STATUS_OK)
        st = comm_agree(world, param_table_init(&trace->whole, &config.arch, NULL, 0));
    if (st == STATUS_OK) st = comm_agree(world, owned_take(&o, &t));
    if (st == STATUS_OK) {
        run_steps(trace, &t, &o, n_steps);
        st = gather(trace, &t, &o);
    }
    owned_release(&o);
    trainer_release(&t);
    if (st != STATUS_OK) selfcheck_release(trace);
    return st;
}

status_t selfcheck_alone(struct selfcheck_trace *trace, const struct config *c,
                         int n_steps)
{
    static char parts[] = "auto";
    struct comm *alone = NULL;
    struct config one = *c;
    one.dp = one.tp = one.cp = one.pp = 1;
    one.chunks = 1;
    one.pipeline = PP_1F1B;
    one.split = parts;
    one.zero = 0;
    one.recompute = CONFIG_RECOMPUTE_NONE;
    TRY(comm_alone(&alone));
    const bool loud = log_set_quiet(true);
    const status_t st = selfcheck_layout(trace, alone, &one, n_steps);
    log_set_quiet(loud);
    comm_destroy(&alone);
    return st;
}

/* ---- comparison ------------------------------------------------------------------------------ */

struct distance {
    double gradient, weight; /* NMSE */
};

static double nmse_of(double error, double size)
{
    return size > 0 ? error / size : error > 0 ? HUGE_VAL : 0;
}

static struct distance distance_of(const struct selfcheck_trace *got,
                                   const struct selfcheck_trace *want,
                                   const struct param *p)
{
    const float *a = got->gradients + p->offset, *b = want->gradients + p->offset;
    const float *v = got->weights + p->offset, *w = want->weights + p->offset;
    double error = 0, size = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const double d = (double)a[i] - (double)b[i];
        error += d * d;
        size += (double)b[i] * (double)b[i];
    }
    struct distance distance = {.gradient = nmse_of(error, size)};
    const double least = 1e-3 * sqrt(size / (double)p->n);
    error = size = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const double d = (double)v[i] - (double)w[i];
        if (fabs((double)b[i]) < least) continue;
        error += d * d;
        size += (double)w[i] * (double)w[i];
    }
    distance.weight = nmse_of(error, size);
    return distance;
}

static double relative(double a, double b)
{
    return fabs(a - b) / (fabs(b) > 0 ? fabs(b) : 1);
}

/* `x` is within `limit`, and a number. */
static bool within(double x, double limit)
{
    return x <= limit;
}

status_t selfcheck_compare(const struct selfcheck_trace *got,
                           const struct selfcheck_trace *want,
                           const struct selfcheck_limits *l, FILE *out)
{
    char first[256] = "";
    for (int i = 0; i < want->n_steps; i++) {
        const double loss = relative(got->loss[i], want->loss[i]);
        if (out)
            fprintf(out, "step %d: loss %.7f, one rank %.7f, apart %.1e\n", i + 1,
                    got->loss[i], want->loss[i], loss);
        if (!within(loss, l->loss) && !first[0])
            snprintf(first, sizeof first, "loss of step %d: %.9g, one rank %.9g", i + 1,
                     got->loss[i], want->loss[i]);
    }
    const double norm = relative(got->norm[0], want->norm[0]);
    if (out)
        fprintf(out,
                "gradient norm %.7f, one rank %.7f, apart %.1e\n\n"
                "NMSE of gradient, of updated weights, parameter\n",
                got->norm[0], want->norm[0], norm);
    if (!within(norm, l->norm) && !first[0])
        snprintf(first, sizeof first, "gradient norm: %.9g, one rank %.9g", got->norm[0],
                 want->norm[0]);
    for (int i = 0; i < want->whole.n_params; i++) {
        const struct param *p = &want->whole.params[i];
        const struct distance d = distance_of(got, want, p);
        const bool bad = !within(d.gradient, l->gradient) || !within(d.weight, l->weight);
        if (out)
            fprintf(out, "%.1e  %.1e  %s%s\n", d.gradient, d.weight, p->name,
                    bad ? "  DIFFERS" : "");
        if (bad && !first[0])
            snprintf(first, sizeof first, "%s: NMSE of gradient %.2g, of weights %.2g",
                     p->name, d.gradient, d.weight);
    }
    if (!first[0]) return STATUS_OK;
    return status_set(STATUS_MISMATCH, "this layout differs from one rank: %s", first);
}

/* ---- the command ------------------------------------------------------------------------------ */

/* Half the layers, but at least one a part of the pipeline; false if there are no fewer. */
static bool shrink(struct config *c, int64_t parts)
{
    static char automatic[] = "auto";
    const int64_t half = c->arch.n_layers / 2 > parts ? c->arch.n_layers / 2 : parts;
    if (half >= c->arch.n_layers) return false;
    c->arch.n_layers = half;
    c->split = automatic;
    return true;
}

/* What rank 0 gets by itself, with as many layers as it can hold. */
static status_t reference(struct selfcheck_trace *want, struct comm *world,
                          struct config *c)
{
    int sizes[MESH_AXES];
    TRY(comm_agree(world, layout_sizes(c, comm_size(world), sizes)));
    const bool root = comm_rank(world) == 0;
    const int64_t all = c->arch.n_layers, parts = sizes[MESH_PP] * c->chunks;
    for (;;) {
        const status_t mine = root ? selfcheck_alone(want, c, 1) : STATUS_OK;
        const status_t st = comm_agree(world, mine);
        if (st != STATUS_NOMEM || !shrink(c, parts)) {
            if (st == STATUS_OK && c->arch.n_layers < all)
                log_info("one rank cannot hold %jd layers: checked with %jd",
                         (intmax_t)all, (intmax_t)c->arch.n_layers);
            return st;
        }
    }
}

status_t selfcheck_run(struct comm *world, const struct config *c, FILE *out)
{
    struct selfcheck_trace got = {0}, want = {0};
    struct config config = *c;
    status_t st = reference(&want, world, &config);
    if (st == STATUS_OK) st = selfcheck_layout(&got, world, &config, 1);
    if (st == STATUS_OK)
        st = comm_agree(world, comm_rank(world) == 0
                                   ? selfcheck_compare(&got, &want, &selfcheck_fp32, out)
                                   : STATUS_OK);
    selfcheck_release(&got);
    selfcheck_release(&want);
    return st;
}
