/* One operand is cut into blocks that stay in the second-level cache once they are packed; a block is
 * one thread's.  The panels of the other operand pass by, each packed when it is due, if the kernel needs
 * that, while the lines of the next come in.  What passes is the operand that is the cheaper to pack,
 * since that is done once for each block; what is kept is packed once a share.  Threads take shares as
 * they come, the last ones smaller: cores are not equally fast where other programs use them too. */
#include <omp.h>

#include "nn/matmul_tiles.h"

enum {
    KEPT_ROWS = 640,     /* of a block, most */
    PASSING = 768,       /* rows for which sums are kept between the parts of the sum */
    FEW = 2 * GEMM_SIDE, /* rows of a block that are too few to be shared out further */
    SHARES = 4, /* of a thread, least, where a share has this many passing rows: */
    WORTH = 512,
    HALVED = 256 /* with more passing rows a thread's last share comes in halves */
};

/* The operand `kept` in blocks, and for each the other's rows in parts; and how the sum is cut. */
struct plan {
    const struct gemm_operand *kept, *passing;
    int64_t n_kept, n_passing; /* their rows */
    bool first_passes;
    int64_t kept_rows, passing_rows, depth; /* of a part, most */
    int64_t blocks, parts;
    int64_t cuts; /* into which each of the last parts, one a thread, is cut once more */
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Rows of each of so many parts, in whole panels. */
static int64_t part_rows(int64_t n, int64_t parts)
{
    return ceil_div(ceil_div(n, parts), GEMM_SIDE) * GEMM_SIDE;
}

/* Depends on the threads in who does what, not in the order of any sum. */
static struct plan plan_of(const struct product *p, const struct gemm_kernel *kernel,
                           int threads)
{
    CHECK(p->m > 0 && p->n > 0 && p->k > 0);
    struct plan t = {.first_passes = !p->a.deep};
    t.kept = t.first_passes ? &p->b : &p->a, t.n_kept = t.first_passes ? p->n : p->m;
    t.passing = t.first_passes ? &p->a : &p->b;
    t.n_passing = t.first_passes ? p->m : p->n;
    /* steps are as long as panels wide */
    t.depth = part_rows(p->k, ceil_div(p->k, kernel->depth));
    const int64_t panel = t.depth / GEMM_STEP * kernel->step_bytes;
    const int64_t fit = attention_min(kernel->block_bytes / panel * GEMM_SIDE, KEPT_ROWS);
    const int64_t most = ceil_div(t.n_kept, FEW);
    t.blocks = ceil_div(ceil_div(t.n_kept, fit), threads) * threads;
    if (t.blocks > most) t.blocks = most;
    t.kept_rows = part_rows(t.n_kept, t.blocks);
    t.blocks = ceil_div(t.n_kept, t.kept_rows);
    t.parts = t.depth < p->k ? ceil_div(t.n_passing, PASSING) : 1;
    if (t.blocks * t.parts < threads) t.parts = ceil_div(threads, t.blocks);
    while (t.blocks * t.parts < SHARES * threads && t.n_passing >= 2 * t.parts * WORTH)
        t.parts *= 2;
    t.passing_rows = part_rows(t.n_passing, t.parts);
    t.parts = ceil_div(t.n_passing, t.passing_rows);
    t.cuts = threads > 1 && t.passing_rows > HALVED ? 2 : 1;
    return t;
}

/* The operand from row i and number k along the sum on. */
static struct gemm_operand from(const struct gemm_operand *o, int64_t i, int64_t k)
{
    struct gemm_operand part = *o;
    part.x = (const elem *)o->x + (o->deep ? k * o->ld + i : i * o->ld + k);
    return part;
}

/* While panel number `call` of a block is multiplied: two rows of a panel that will be read, or as
 * many lines of its columns.  NULL: there is none. */
static struct gemm_ahead ahead_of(const struct gemm_operand *next, int64_t call,
                                  int64_t steps)
{
    struct gemm_ahead ahead = {.x = {NULL, NULL}};
    if (!next || call >= GEMM_SIDE / 2) return ahead;
    const int64_t row = next->ld * (int64_t)sizeof(elem);
    const int64_t apart = next->deep ? steps * row : row;
    ahead.x[0] = (const char *)next->x + 2 * call * apart;
    ahead.x[1] = ahead.x[0] + apart;
    ahead.step = next->deep ? row : GEMM_STEP * (int64_t)sizeof(elem);
    return ahead;
}

/* One thread's room. */
struct room {
    float *sums; /* of a block and a part, 32 x 32 at a time */
    char *kept, *passing;
};

enum { SUMS = PASSING * KEPT_ROWS };

static struct room room_at(const struct gemm_kernel *kernel, float *x)
{
    struct room r = {.sums = x, .kept = (char *)(x + SUMS)};
    r.passing = r.kept + kernel->block_bytes;
    return r;
}

int64_t NN_CPU(matmul_tiles_floats)(const struct gemm_kernel *kernel)
{
    const int64_t panel = kernel->depth / GEMM_STEP * kernel->step_bytes;
    return SUMS + (kernel->block_bytes + panel) / (int64_t)sizeof(float);
}

/* Where a piece of work begins in both operands, and along the sum. */
struct piece {
    int64_t kept, kept_end, passing, passing_end, k, depth;
    bool last;
};

/* What sums meet on their way out: have it by then. */
static void expect(const struct product *p, int64_t i, int64_t j, int64_t rows,
                   int64_t cols)
{
    enum { WRITE = 1 };
    const struct product_end *end = p->end;
    const int64_t bytes = (int64_t)dtype_bytes(p->c->dtype);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = (i + r) * p->c->shape[1] + j;
        for (int64_t b = 0; b < cols * bytes; b += GEMM_LINE) {
            __builtin_prefetch((const char *)p->c->data + at * bytes + b, WRITE);
            if (end->residual) __builtin_prefetch((const char *)(end->residual + at) + b);
            if (end->gelu) __builtin_prefetch((const char *)(end->gelu + at) + b, WRITE);
        }
    }
}

/* All panels of the block meet the one that passes. */
static void multiply_panel(const struct gemm_kernel *kernel, const struct product *p,
                           const struct plan *t, const struct piece *w, int64_t s,
                           const struct room *room, const struct gemm_rows *passing,
                           const struct gemm_operand *next)
{
    const int64_t steps = ceil_div(w->depth, GEMM_STEP);
    const int64_t rows = attention_min(GEMM_SIDE, w->passing_end - s);
    for (int64_t r = w->kept; r < w->kept_end; r += GEMM_SIDE) {
        const int64_t call = (r - w->kept) / GEMM_SIDE;
        const char *panel = room->kept + call * steps * kernel->step_bytes;
        const struct gemm_rows kept = gemm_packed_rows(kernel, panel);
        const bool whole = w->k == 0 && w->last;
        float *sums = room->sums;
        if (!whole)
            sums += (s - w->passing) * t->kept_rows + call * GEMM_SIDE * GEMM_SIDE;
        const int64_t cols = attention_min(GEMM_SIDE, w->kept_end - r);
        const struct gemm_ahead ahead = ahead_of(next, call, steps);
        if (w->last && t->first_passes) expect(p, s, r, rows, cols);
        if (w->last && !t->first_passes) expect(p, r, s, cols, rows);
        kernel->multiply(sums, t->first_passes ? passing : &kept,
                         t->first_passes ? panel : passing->x, steps, w->k > 0,
                         t->first_passes, &ahead);
        if (!w->last) continue;
        if (t->first_passes)
            NN_CPU(write_block)(p, s, r, sums, GEMM_SIDE, rows, cols);
        else
            NN_CPU(write_block)(p, r, s, sums, GEMM_SIDE, cols, rows);
    }
}

/* The panel that passes from row s on, packed unless the kernel takes it as it is. */
static struct gemm_rows passing_rows(const struct gemm_kernel *kernel,
                                     const struct plan *t, const struct piece *w,
                                     int64_t s, const struct room *room)
{
    const struct gemm_operand o = from(t->passing, s, w->k);
    const int64_t rows = w->passing_end - s;
    if (t->first_passes && kernel->takes_rows && rows >= GEMM_SIDE &&
        w->depth % GEMM_STEP == 0)
        return (struct gemm_rows){o.x, o.ld, GEMM_STEP};
    gemm_pack(kernel, room->passing, &o, rows, w->depth, !t->first_passes);
    return gemm_packed_rows(kernel, room->passing);
}

/* A block and a part of what passes, in one part of the sum. */
static void multiply_part(const struct gemm_kernel *kernel, const struct product *p,
                          const struct plan *t, const struct piece *w,
                          const struct room *room)
{
    const int64_t steps = ceil_div(w->depth, GEMM_STEP);
    for (int64_t r = w->kept; r < w->kept_end; r += GEMM_SIDE) {
        const struct gemm_operand o = from(t->kept, r, w->k);
        char *panel = room->kept + (r - w->kept) / GEMM_SIDE * steps * kernel->step_bytes;
        gemm_pack(kernel, panel, &o, w->kept_end - r, w->depth, t->first_passes);
    }
    for (int64_t s = w->passing; s < w->passing_end; s += GEMM_SIDE) {
        const struct gemm_operand next = from(t->passing, s + GEMM_SIDE, w->k);
        const struct gemm_rows passing = passing_rows(kernel, t, w, s, room);
        multiply_panel(kernel, p, t, w, s, room, &passing,
                       s + GEMM_SIDE < w->passing_end ? &next : NULL);
    }
}

/* Piece number i, of which those behind the first `whole` are cut further. */
static struct piece piece_of(const struct plan *t, int64_t i, int64_t whole)
{
    const int64_t k = i < whole ? i : whole + (i - whole) / t->cuts;
    struct piece w = {.kept = k / t->parts * t->kept_rows,
                      .passing = k % t->parts * t->passing_rows};
    w.kept_end = attention_min(w.kept + t->kept_rows, t->n_kept);
    w.passing_end = attention_min(w.passing + t->passing_rows, t->n_passing);
    if (i < whole) return w;
    const int64_t rows = part_rows(t->passing_rows, t->cuts);
    w.passing = attention_min(w.passing + (i - whole) % t->cuts * rows, w.passing_end);
    w.passing_end = attention_min(w.passing + rows, w.passing_end);
    return w;
}

void NN_CPU(matmul_tiles)(int threads, const struct gemm_kernel *kernel,
                          const struct product *p, float *room)
{
    const struct plan t = plan_of(p, kernel, threads);
    const int64_t floats = NN_CPU(matmul_tiles_floats)(kernel);
    const int64_t pieces = t.blocks * t.parts;
    const int64_t whole = pieces - attention_min(threads, pieces);
    const int64_t all = whole + (pieces - whole) * t.cuts;
#pragma omp parallel num_threads(threads)
    {
        const struct room mine = room_at(kernel, room + omp_get_thread_num() * floats);
        kernel->begin();
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < all; i++) {
            struct piece w = piece_of(&t, i, whole);
            if (w.passing == w.passing_end) continue;
            for (; w.k < p->k; w.k += t.depth) {
                w.depth = attention_min(t.depth, p->k - w.k);
                w.last = w.k + w.depth == p->k;
                multiply_part(kernel, p, &t, &w, &mine);
            }
        }
        kernel->end();
    }
}
