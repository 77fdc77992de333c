#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "config/config.h"

static const char help[] =
    "usage: yoke diff [--tensors] A B\n\n"
    "Compare two checkpoints: where in the run they are, what data and program they come "
    "from, the\n"
    "configuration key by key, and every tensor of weights and moments, whatever the "
    "layouts "
    "they\n"
    "were written with.  A and B are checkpoints, run folders (the newest checkpoint) or "
    "packed\n"
    "files.  Exit code 0: equal, bit by bit; 1: different.\n\n"
    "  --tensors   compare tensors only\n";

enum { DIFFERENT = 1 }; /* exit code, as of cmp and diff */

/* ---- what a checkpoint says ----------------------------------------------------------------- */

static void say(void *context, const char *key, const char *before, const char *now)
{
    int64_t *n = context;
    if ((*n)++ == 0) printf("configuration\n");
    printf("  %-28s %s -> %s\n", key, before ? before : "-", now ? now : "-");
}

static void compare_integer(const char *name, int64_t a, int64_t b, int64_t *n)
{
    if (a == b) return;
    printf("%-15s %" PRId64 " -> %" PRId64 "\n", name, a, b);
    ++*n;
}

static void compare_text(const char *name, const char *a, const char *b, int64_t *n)
{
    if (strcmp(a, b) == 0) return;
    printf("%-15s %s\n%15s %s\n", name, a, "->", b);
    ++*n;
}

static status_t compare_meta(const struct checkpoint_meta *a,
                             const struct checkpoint_meta *b, int64_t *n)
{
    int64_t keys = 0;
    compare_integer("step", a->step, b->step, n);
    compare_integer("next sample", a->next_sample, b->next_sample, n);
    compare_integer("data since step", a->data_step, b->data_step, n);
    compare_integer("tokens", a->tokens, b->tokens, n);
    compare_integer("skipped steps", a->skipped_steps, b->skipped_steps, n);
    compare_integer("rollbacks", a->rollbacks, b->rollbacks, n);
    compare_integer("seed", (int64_t)a->seed, (int64_t)b->seed, n);
    compare_text("data", a->data, b->data, n);
    compare_text("versions", a->versions, b->versions, n);
    TRY(config_compare(a->config, b->config, say, &keys));
    *n += keys;
    return STATUS_OK;
}

/* ---- tensors -------------------------------------------------------------------------------- */

struct difference {
    int64_t elements; /* whose bits differ */
    double largest;   /* |a - b| */
    double relative;  /* |a - b| / |a|, Euclidean */
};

static struct difference compare_values(const float *a, const float *b, int64_t n)
{
    struct difference d = {0};
    double sum = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) d.elements++;
        const double gap = fabs((double)a[i] - (double)b[i]);
        if (!(gap <= d.largest)) d.largest = gap; /* not finite counts as large */
        sum += gap * gap;
        scale += (double)a[i] * (double)a[i];
    }
    d.relative = sum > 0 ? sqrt(sum / scale) : 0;
    return d;
}

struct comparison {
    struct checkpoint_source a, b;
    float *x, *y; /* room for a tensor */
    int64_t room, n_different;
};

static status_t make_room(struct comparison *c, int64_t n)
{
    if (n <= c->room) return STATUS_OK;
    free(c->x);
    free(c->y);
    c->x = malloc((size_t)n * sizeof *c->x);
    c->y = malloc((size_t)n * sizeof *c->y);
    c->room = c->x && c->y ? n : 0;
    return c->room ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for a tensor");
}

static void print_difference(struct comparison *c, enum checkpoint_kind kind,
                             const char *name, int64_t n, const struct difference *d)
{
    if (c->n_different++ == 0)
        printf("tensors%61s %11s %11s\n", "differ in", "at most", "relative");
    printf("  %-10s %-40s %*" PRId64 " of %" PRId64 " %11.3g %11.3g\n",
           checkpoint_kind_name[kind], name, 8, d->elements, n, d->largest, d->relative);
}

/* Parameter i of a. */
static status_t compare_param(struct comparison *c, int i)
{
    const struct checkpoint_param *p = &c->a.params[i];
    const int k = checkpoint_source_find(&c->b, p->name);
    const int64_t n = checkpoint_param_elements(p);
    if (k < 0 || memcmp(p->shape, c->b.params[k].shape, sizeof p->shape) != 0) {
        printf("  %s: %s\n", p->name, k < 0 ? "only in A" : "of different shape in B");
        c->n_different++;
        return STATUS_OK;
    }
    TRY(make_room(c, n));
    for (int kind = 0; kind < CHECKPOINT_KINDS; kind++) {
        TRY(c->a.read(&c->a, i, (enum checkpoint_kind)kind, c->x));
        TRY(c->b.read(&c->b, k, (enum checkpoint_kind)kind, c->y));
        const struct difference d = compare_values(c->x, c->y, n);
        if (d.elements > 0)
            print_difference(c, (enum checkpoint_kind)kind, p->name, n, &d);
    }
    return STATUS_OK;
}

static status_t compare_tensors(struct comparison *c)
{
    for (int i = 0; i < c->a.n_params; i++) TRY(compare_param(c, i));
    for (int i = 0; i < c->b.n_params; i++) {
        if (checkpoint_source_find(&c->a, c->b.params[i].name) >= 0) continue;
        printf("  %s: only in B\n", c->b.params[i].name);
        c->n_different++;
    }
    printf("%" PRId64 " of %d tensors differ\n", c->n_different,
           CHECKPOINT_KINDS * c->a.n_params);
    return STATUS_OK;
}

static status_t diff(char *const paths[2], bool tensors_only, bool *equal)
{
    struct comparison c = {0};
    int64_t n = 0;
    status_t st = checkpoint_source_open(&c.a, paths[0]);
    if (st == STATUS_OK) st = checkpoint_source_open(&c.b, paths[1]);
    if (st == STATUS_OK) {
        printf("A %s\nB %s\n", c.a.name, c.b.name);
        if (!tensors_only) st = compare_meta(c.a.meta, c.b.meta, &n);
    }
    if (st == STATUS_OK) st = compare_tensors(&c);
    *equal = n == 0 && c.n_different == 0;
    free(c.x);
    free(c.y);
    checkpoint_source_close(&c.b);
    checkpoint_source_close(&c.a);
    return st;
}

int cmd_diff(int argc, char **argv)
{
    static const struct option options[] = {
        {"tensors", no_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool tensors_only = false, equal;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("diff", argv);
        tensors_only = true;
    }
    if (argc - optind != 2) return cli_usage("diff", "give two checkpoints");
    const status_t st = diff(argv + optind, tensors_only, &equal);
    if (st != STATUS_OK) return cli_exit(st, NULL);
    return equal ? 0 : DIFFERENT;
}
