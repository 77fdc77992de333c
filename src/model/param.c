#include "model/param.h"

#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/rng.h"
#include "model/names.h"

/* Groups of neighbours start on a cache line; inside a group there are no gaps. */
enum { GROUP_ALIGN = ARENA_ALIGN_BYTES / 4 };
/* A block has at most so many parameters. */
enum { BLOCK_PARAMS = 20 };

struct builder {
    struct param_table *t;
    const struct arch *a;
    struct shard shard;
    struct shard_widths widths;
    int capacity, index;   /* of params; parameters of the whole model so far */
    int64_t global_offset; /* in the flat buffer of the whole model */
    int64_t align;         /* of units */
    char prefix[64];
    bool held;  /* the part of the model at hand is this rank's */
    bool owned; /* and no other pipeline stage has it too */
};

/* What of a parameter is here: local rows (and columns) are these of the global tensor. */
struct cut {
    struct {
        int64_t first, count;
        bool owned;
    } rows[PARAM_MAX_SLICES];
    int n_rows;
    int64_t first_col, cols; /* cols < 0: all */
};

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static void start_group(struct builder *b)
{
    b->global_offset = round_up(b->global_offset, GROUP_ALIGN);
    b->t->n_elements = round_up(b->t->n_elements, GROUP_ALIGN);
}

static void start_unit(struct builder *b)
{
    struct param_table *t = b->t;
    b->global_offset = round_up(b->global_offset, GROUP_ALIGN);
    t->n_elements = round_up(t->n_elements, b->align);
    t->unit[t->n_units] = t->n_elements;
    t->replicated[t->n_units++] = (struct param_span){t->n_elements, t->n_elements};
}

static struct cut whole(const struct builder *b)
{
    struct cut c = {.n_rows = 1, .cols = -1};
    c.rows[0].count = -1; /* all */
    c.rows[0].owned = b->shard.tp_rank == 0;
    return c;
}

static struct cut some_rows(int64_t first, int64_t count)
{
    struct cut c = {.n_rows = 1, .cols = -1};
    c.rows[0].first = first;
    c.rows[0].count = count;
    c.rows[0].owned = true;
    return c;
}

static struct cut some_cols(int64_t first, int64_t count)
{
    struct cut c = {.n_rows = 1, .first_col = first, .cols = count};
    c.rows[0].count = -1;
    c.rows[0].owned = true;
    return c;
}

/* Of `c`, to which rows [first, first + count) are added. */
static void more_rows(struct cut *c, int64_t first, int64_t count, bool owned)
{
    if (count == 0) return;
    CHECK(c->n_rows < PARAM_MAX_SLICES);
    c->rows[c->n_rows].first = first;
    c->rows[c->n_rows].count = count;
    c->rows[c->n_rows++].owned = owned;
}

/* Rows of the kv heads held here, behind row `base`: the first of them may be another's. */
static void add_kv_rows(const struct builder *b, struct cut *c, int64_t base)
{
    const struct shard_widths *w = &b->widths;
    const int64_t D = b->a->head_size;
    int64_t others = 0; /* heads that a lower rank answers for */
    bool shared;
    while (others < w->kv_heads &&
           shard_kv_owner(b->a, b->shard.tp_size, w->first_kv_head + others, &shared) !=
               b->shard.tp_rank)
        others++;
    more_rows(c, base + w->first_kv_head * D, others * D, false);
    more_rows(c, base + (w->first_kv_head + others) * D, (w->kv_heads - others) * D,
              true);
}

static void describe_slices(struct param *p, const struct cut *c, bool owned)
{
    p->local[1] = c->cols < 0 ? p->shape[1] : c->cols;
    for (int i = 0; i < c->n_rows; i++) {
        const int64_t rows = c->rows[i].count < 0 ? p->shape[0] : c->rows[i].count;
        p->slices[p->n_slices++] =
            (struct param_slice){.local_row = p->local[0],
                                 .row = c->rows[i].first,
                                 .rows = rows,
                                 .col = c->first_col,
                                 .owned = owned && c->rows[i].owned};
        p->local[0] += rows;
    }
    p->n = p->local[0] * p->local[1];
}

static void add(struct builder *b, const char *name, const char *suffix,
                enum param_kind kind, int64_t rows, int64_t cols, double mean, double std,
                const struct cut *c)
{
    struct param p = {.kind = kind,
                      .n_dims = cols > 0 ? 2 : 1,
                      .shape = {rows, cols > 0 ? cols : 1},
                      .offset = b->t->n_elements,
                      .index = b->index++,
                      .global_offset = b->global_offset,
                      .init_mean = mean,
                      .init_std = std,
                      .init_cutoff = b->a->init_cutoff};
    b->global_offset += p.shape[0] * p.shape[1];
    if (!b->held) return;
    const int n = snprintf(p.name, sizeof p.name, "%s%s%s", b->prefix, name, suffix);
    CHECK(n > 0 && (size_t)n < sizeof p.name);
    describe_slices(&p, c, b->owned);
    CHECK(b->t->n_params < b->capacity);
    b->t->params[b->t->n_params++] = p;
    b->t->n_elements += p.n;
    b->t->n_real += p.n;
}

/* All that was added to the unit so far is on every tensor-parallel rank. */
static void end_replicated(struct builder *b)
{
    if (b->held) b->t->replicated[b->t->n_units - 1].high = b->t->n_elements;
}

static void add_matrix(struct builder *b, const char *name, int64_t out, int64_t in,
                       struct cut c)
{
    add(b, name, ".weight", PARAM_MATRIX, out, in, 0, arch_init_std(b->a, false), &c);
}

/* A matrix that writes into the residual stream. */
static void add_residual(struct builder *b, const char *name, int64_t out, int64_t in,
                         struct cut c)
{
    add(b, name, ".weight", PARAM_MATRIX, out, in, 0, arch_init_std(b->a, true), &c);
}

static void add_bias(struct builder *b, const char *name, int64_t n, struct cut c)
{
    add(b, name, ".bias", PARAM_BIAS, n, 0, 0, 0, &c);
}

static void add_norm(struct builder *b, const char *name)
{
    const struct cut c = whole(b);
    start_group(b);
    add(b, name, ".weight", PARAM_NORM, b->a->hidden, 0, 1, 0, &c);
    if (b->a->norm != ARCH_LAYERNORM) return;
    start_group(b);
    add(b, name, ".bias", PARAM_NORM, b->a->hidden, 0, 0, 0, &c);
}

/* q, k and v as one matrix. */
static struct cut fused_qkv(const struct builder *b)
{
    const struct shard_widths *w = &b->widths;
    const int64_t D = b->a->head_size, Q = b->a->n_heads * D, KV = b->a->n_kv_heads * D;
    struct cut c = some_rows(w->first_head * D, w->heads * D);
    add_kv_rows(b, &c, Q);
    add_kv_rows(b, &c, Q + KV);
    return c;
}

static void add_qkv(struct builder *b, const struct names *n)
{
    const struct arch *a = b->a;
    const struct shard_widths *w = &b->widths;
    const int64_t C = a->hidden, D = a->head_size, Q = a->n_heads * D,
                  KV = a->n_kv_heads * D;
    const struct cut q = some_rows(w->first_head * D, w->heads * D);
    struct cut kv = {.cols = -1};
    add_kv_rows(b, &kv, 0);
    start_group(b);
    if (n->qkv) {
        add_matrix(b, n->qkv, Q + 2 * KV, C, fused_qkv(b));
        start_group(b);
        if (a->qkv_bias) add_bias(b, n->qkv, Q + 2 * KV, fused_qkv(b));
        return;
    }
    add_matrix(b, n->q, Q, C, q);
    add_matrix(b, n->k, KV, C, kv);
    add_matrix(b, n->v, KV, C, kv);
    if (a->qkv_bias) {
        start_group(b);
        add_bias(b, n->q, Q, q);
        add_bias(b, n->k, KV, kv);
        add_bias(b, n->v, KV, kv);
    }
    if (a->qk_norm) {
        start_group(b);
        add(b, n->q_norm, ".weight", PARAM_NORM, Q, 0, 1, 0, &q);
        add(b, n->k_norm, ".weight", PARAM_NORM, KV, 0, 1, 0, &kv);
    }
}

static void add_mlp(struct builder *b, const struct names *n)
{
    const struct arch *a = b->a;
    const struct shard_widths *w = &b->widths;
    const struct cut rows = some_rows(w->first_ffn, w->ffn);
    start_group(b);
    if (n->gate) add_matrix(b, n->gate, a->ffn, a->hidden, rows);
    add_matrix(b, n->up, a->ffn, a->hidden, rows);
    if (a->mlp_bias) {
        start_group(b);
        if (n->gate) add_bias(b, n->gate, a->ffn, rows);
        add_bias(b, n->up, a->ffn, rows);
    }
    start_group(b);
    add_residual(b, n->down, a->hidden, a->ffn, some_cols(w->first_ffn, w->ffn));
}

static void add_block(struct builder *b, const struct names *n)
{
    const struct arch *a = b->a;
    const struct shard_widths *w = &b->widths;
    const int64_t C = a->hidden, D = a->head_size;
    add_norm(b, n->norm1);
    add_norm(b, n->norm2);
    if (a->out_bias) {
        start_group(b);
        add_bias(b, n->out, C, whole(b));
    }
    if (a->mlp_bias) {
        start_group(b);
        add_bias(b, n->down, C, whole(b));
    }
    end_replicated(b);
    add_qkv(b, n);
    start_group(b);
    add_residual(b, n->out, C, a->n_heads * D,
                 some_cols(w->first_head * D, w->heads * D));
    add_mlp(b, n);
}

/* Which chunk of this rank holds the layer; -1: none. */
static int chunk_of(const struct builder *b, int64_t layer)
{
    for (int c = 0; c < b->shard.n_chunks; c++) {
        int64_t first, end;
        shard_layers(&b->shard, b->a, c, &first, &end);
        if (layer >= first && layer < end) return c;
    }
    return -1;
}

/* A tied head on another stage than the embedding has a copy of it.  Its unit is as long as on the
 * embedding's own stage, so that both are cut into the same slices. */
static void add_embeddings(struct builder *b)
{
    const struct arch *a = b->a;
    const bool first = shard_has_embedding(&b->shard, 0);
    const bool last = shard_has_head(&b->shard, b->shard.n_chunks - 1);
    const struct cut rows = some_rows(b->widths.first_token, b->widths.vocab);
    const struct cut all = whole(b);
    start_unit(b);
    b->held = first || (last && a->tied_embeddings);
    b->owned = first;
    add(b, names_of(a)->embedding, ".weight", PARAM_EMBEDDING, a->vocab_size, a->hidden,
        0, arch_init_std(a, false), &rows);
    if (a->position != ARCH_LEARNED) return;
    start_group(b);
    if (b->held && !first) b->t->n_elements += a->max_positions * a->hidden;
    b->held = first;
    b->t->replicated[0] = (struct param_span){b->t->n_elements, b->t->n_elements};
    add(b, names_of(a)->positions, ".weight", PARAM_EMBEDDING, a->max_positions,
        a->hidden, 0, arch_init_std(a, false), &all);
    end_replicated(b);
}

static void add_all(struct builder *b)
{
    const struct arch *a = b->a;
    const struct names *n = names_of(a);
    add_embeddings(b);
    b->owned = true;
    for (int64_t l = 0; l < a->n_layers; l++) {
        b->held = chunk_of(b, l) >= 0;
        if (b->held)
            start_unit(b);
        else
            start_group(b);
        snprintf(b->prefix, sizeof b->prefix, n->block, (intmax_t)l);
        add_block(b, n);
    }
    b->prefix[0] = '\0';
    b->held = shard_has_head(&b->shard, b->shard.n_chunks - 1);
    start_unit(b);
    add_norm(b, n->final_norm);
    end_replicated(b);
    if (!a->tied_embeddings) {
        start_group(b);
        add_matrix(b, n->head, a->vocab_size, a->hidden,
                   some_rows(b->widths.first_token, b->widths.vocab));
    }
    b->t->n_elements = round_up(b->t->n_elements, b->align);
    b->t->unit[b->t->n_units] = b->t->n_elements;
}

/* Slices that this rank answers for, joined across gaps, which are zero. */
static status_t list_owned(struct param_table *t)
{
    t->owned = calloc((size_t)t->n_params * PARAM_MAX_SLICES + 1, sizeof *t->owned);
    if (!t->owned) return status_set(STATUS_NOMEM, "no memory for the parameter table");
    bool joined = false;
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        for (int k = 0; k < p->n_slices; k++) {
            const struct param_slice *s = &p->slices[k];
            const int64_t low = p->offset + s->local_row * p->local[1];
            if (s->owned && !joined)
                t->owned[t->n_owned++] = (struct param_span){low, low};
            joined = s->owned;
            if (joined) t->owned[t->n_owned - 1].high = low + s->rows * p->local[1];
        }
    }
    return STATUS_OK;
}

status_t param_table_init(struct param_table *t, const struct arch *a,
                          const struct shard *s, int64_t align)
{
    TRY(arch_check(a));
    struct builder b = {.t = t,
                        .a = a,
                        .shard = s ? *s : shard_whole(),
                        .capacity = (int)(a->n_layers * BLOCK_PARAMS + 8),
                        .align = align > 0 ? align : GROUP_ALIGN};
    CHECK(b.align % GROUP_ALIGN == 0);
    TRY(shard_check(a, b.shard.tp_size));
    b.widths = shard_widths(a, b.shard.tp_rank, b.shard.tp_size);
    const size_t units = (size_t)a->n_layers + 3;
    *t = (struct param_table){.params = calloc((size_t)b.capacity, sizeof *t->params),
                              .unit = calloc(units, sizeof *t->unit),
                              .replicated = calloc(units, sizeof *t->replicated)};
    status_t st = STATUS_OK;
    if (!t->params || !t->unit || !t->replicated) {
        st = status_set(STATUS_NOMEM, "no memory for the parameter table");
    } else {
        add_all(&b);
        CHECK(s || t->n_real == arch_parameters(a));
        st = list_owned(t);
    }
    if (st != STATUS_OK) param_table_release(t);
    return st;
}

void param_table_release(struct param_table *t)
{
    free(t->owned);
    free(t->replicated);
    free(t->unit);
    free(t->params);
    *t = (struct param_table){0};
}

int param_find(const struct param_table *t, const char *name)
{
    for (int i = 0; i < t->n_params; i++)
        if (strcmp(t->params[i].name, name) == 0) return i;
    return -1;
}

void param_units(const struct param_table *t, float *flat, float **unit)
{
    for (int u = 0; u < t->n_units; u++) unit[u] = flat + t->unit[u];
}

struct param_run param_run_at(const struct param *p, int64_t local)
{
    const int64_t C = p->local[1], row = local / C, col = local % C;
    const struct param_slice *s = p->slices;
    while (row >= s->local_row + s->rows) s++;
    const int64_t rows = s->local_row + s->rows - row;
    return (struct param_run){.global = (s->row + row - s->local_row) * p->shape[1] +
                                        s->col + col,
                              .n = C == p->shape[1] ? rows * C - col : C - col};
}

/* Normal numbers of index [first, first + n), drawn again until they are within the cutoff. */
static void draw(const struct param *p, uint64_t seed, uint64_t first, int64_t n,
                 float *x)
{
    rng_normal(rng_key(seed, "init", p->name), first, x, n);
    if (p->init_cutoff == 0) return;
    const float most = (float)p->init_cutoff;
    for (int64_t i = 0; i < n; i++)
        for (uint64_t again = 1; fabsf(x[i]) > most; again++)
            rng_normal(rng_key(seed + again, "init again", p->name), first + (uint64_t)i,
                       x + i, 1);
}

/* x[0..n) = initial values of local elements [first, first + n) */
static void init_block(const struct param *p, uint64_t seed, int64_t first, int64_t n,
                       float *x)
{
    const float mean = (float)p->init_mean, std = (float)p->init_std;
    for (int64_t i = 0; i < n;) {
        const struct param_run run = param_run_at(p, first + i);
        const int64_t m = run.n < n - i ? run.n : n - i;
        draw(p, seed, (uint64_t)run.global, m, x + i);
        i += m;
    }
    for (int64_t i = 0; i < n; i++) x[i] = mean + std * x[i];
}

static void init_part(const struct param *p, uint64_t seed, int64_t first, int64_t n,
                      float *x)
{
    if (p->init_std == 0) {
        for (int64_t i = 0; i < n; i++) x[i] = (float)p->init_mean;
        return;
    }
    enum { BLOCK = 1 << 14 };
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t m = n - start < BLOCK ? n - start : BLOCK;
        init_block(p, seed, first + start, m, x + start);
    }
}

void param_init_values(const struct param_table *t, uint64_t seed, int64_t start,
                       int64_t count, float *flat)
{
    memset(flat, 0, (size_t)count * sizeof *flat);
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        const int64_t lo = p->offset > start ? p->offset : start;
        const int64_t end = p->offset + p->n,
                      hi = end < start + count ? end : start + count;
        if (lo < hi) init_part(p, seed, lo - p->offset, hi - lo, flat + (lo - start));
    }
}
