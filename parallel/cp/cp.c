/* The ring. */
#include "parallel/cp/cp.h"

#include <stdlib.h>

#include "core/log.h"

struct cp {
    struct comm *comm;
    int64_t T;
    struct comm_request *request; /* NULL while measuring */
};

/* Both ways, keys and values (in the compute type) and their gradients (fp32). */
static int64_t ring_words(const struct cp_options *o)
{
    const int64_t rows = o->max_B * cp_most_rows(o->T, comm_size(o->comm));
    const int64_t bytes = (int64_t)(dtype_bytes(o->dtype) + sizeof(float));
    return 2 * (rows * o->kv_width * bytes + 3) / 4;
}

status_t cp_create(struct cp **cp, const struct cp_options *o, struct arena *arena)
{
    *cp = NULL;
    struct cp *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for context parallelism");
    made->comm = o->comm;
    made->T = o->T;
    const status_t st =
        comm_request_create(&made->request, o->comm, ring_words(o), arena);
    if (st == STATUS_OK)
        *cp = made;
    else
        cp_destroy(&made);
    return st;
}

void cp_destroy(struct cp **cp)
{
    if (!*cp) return;
    comm_request_destroy(&(*cp)->request);
    free(*cp);
    *cp = NULL;
}

size_t cp_host_bytes(const struct cp_options *o)
{
    return comm_request_host_bytes(o->comm, ring_words(o));
}

int cp_size(const struct cp *cp)
{
    return cp ? comm_size(cp->comm) : 1;
}

int cp_rank(const struct cp *cp)
{
    return cp ? comm_rank(cp->comm) : 0;
}

/* ---- one turn of the ring ---------------------------------------------------------------- */

/* Whose keys are at hand in step s. */
static int source_of(const struct cp *cp, int s)
{
    return (cp_rank(cp) - s + cp_size(cp)) % cp_size(cp);
}

struct turn {
    struct comm_message messages[4];
    int n;
};

static void pass(struct turn *t, int peer, bool send, const struct tensor *x)
{
    if (!x->data) return;
    t->messages[t->n++] = (struct comm_message){
        .peer = peer, .send = send, .x = x->data, .t = x->dtype, .n = tensor_elements(x)};
}

/* `out` to the next rank, `in` from the one before. */
static void pass_on(struct turn *t, const struct cp *cp, const struct tensor *out,
                    const struct tensor *in)
{
    const int size = cp_size(cp);
    pass(t, (cp_rank(cp) + 1) % size, true, out);
    pass(t, (cp_rank(cp) + size - 1) % size, false, in);
}

static void begin(struct cp *cp, const struct turn *t, int tag)
{
    if (t->n) comm_start_messages(cp->request, t->messages, t->n, tag);
}

static void end(struct cp *cp)
{
    if (cp->request) comm_wait(cp->request);
}

/* ---- attention --------------------------------------------------------------------------- */

/* What forward and backward work with. */
struct ring {
    struct cp *cp;
    struct nn *nn;
    struct arena *arena;
    const struct nn_attention *a;
    const int32_t *spans;
    int64_t width; /* of the keys and values of a row */
    enum dtype dtype;
};

/* [max rows of a rank, width] */
static struct tensor take(const struct ring *r, enum dtype t, int64_t width)
{
    const int64_t rows = r->a->B * cp_most_rows(r->cp->T, cp_size(r->cp));
    void *data = arena_alloc(r->arena, (size_t)(rows * width) * dtype_bytes(t));
    return tensor_2d(data, t, rows, width);
}

/* The rows of x that the keys of step s fill. */
static struct tensor at_step(const struct ring *r, const struct tensor *x, int s)
{
    const int source = source_of(r->cp, s);
    return tensor_rows(x, 0, r->a->B * cp_rows(r->cp->T, cp_size(r->cp), source));
}

static struct nn_attention_part part_of(const struct ring *r, int s)
{
    const struct nn_attention *a = r->a;
    const int source = source_of(r->cp, s);
    const int64_t n = a->B * a->T;
    const int32_t *low = r->spans ? r->spans + source * 2 * n : NULL;
    return (struct nn_attention_part){.B = a->B,
                                      .H = a->H,
                                      .K = a->K,
                                      .D = a->D,
                                      .group = a->group,
                                      .first = a->first,
                                      .scale = a->scale,
                                      .Tq = a->T,
                                      .Tk = cp_rows(r->cp->T, cp_size(r->cp), source),
                                      .low = low,
                                      .high = low ? low + n : NULL};
}

static struct ring ring_of(struct cp *cp, struct nn *nn, struct arena *arena,
                           const struct tensor *qkv, const struct nn_attention *a,
                           const int32_t *spans)
{
    return (struct ring){.cp = cp,
                         .nn = nn,
                         .arena = arena,
                         .a = a,
                         .spans = spans,
                         .width = 2 * a->K * a->D,
                         .dtype = qkv->dtype};
}

/* This rank's keys and values, side by side. */
static void own_keys(const struct ring *r, struct tensor *kv, const struct tensor *qkv)
{
    struct tensor own = at_step(r, kv, 0);
    nn_copy_columns(r->nn, &own, 0, qkv, r->a->H * r->a->D, r->width);
}

void cp_attention_fwd(struct cp *cp, struct nn *nn, struct arena *arena, struct tensor *y,
                      struct tensor *lse, const struct tensor *qkv,
                      const struct nn_attention *a, const int32_t *spans)
{
    const struct ring r = ring_of(cp, nn, arena, qkv, a, spans);
    const int size = cp_size(cp);
    const size_t mark = arena_mark(arena);
    struct tensor kv[2] = {take(&r, r.dtype, r.width), take(&r, r.dtype, r.width)};
    struct tensor sum = *y; /* over the parts so far, fp32 */
    if (r.dtype != DTYPE_F32) {
        sum.data = arena_floats(arena, tensor_elements(y));
        sum.dtype = DTYPE_F32;
    }
    own_keys(&r, &kv[0], qkv);
    for (int s = 0; s < size; s++) {
        const struct tensor now = at_step(&r, &kv[s % 2], s);
        const struct nn_attention_part part = part_of(&r, s);
        struct turn turn = {.n = 0};
        if (s + 1 < size) {
            const struct tensor next = at_step(&r, &kv[(s + 1) % 2], s + 1);
            pass_on(&turn, cp, &now, &next);
        }
        begin(cp, &turn, 0);
        nn_attention_part_fwd(nn, &sum, lse, qkv, &now, &part, s == 0);
        end(cp);
    }
    if (r.dtype != DTYPE_F32) nn_cast(nn, y, &sum);
    arena_rewind(arena, mark);
}

void cp_attention_bwd(struct cp *cp, struct nn *nn, struct arena *arena,
                      struct tensor *dqkv, const struct tensor *dy,
                      const struct tensor *y, const struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *a,
                      const int32_t *spans)
{
    const struct ring r = ring_of(cp, nn, arena, qkv, a, spans);
    const int size = cp_size(cp);
    const int64_t HD = a->H * a->D;
    const size_t mark = arena_mark(arena);
    struct tensor kv[2] = {take(&r, r.dtype, r.width), take(&r, r.dtype, r.width)};
    struct tensor dkv[2] = {take(&r, DTYPE_F32, r.width), take(&r, DTYPE_F32, r.width)};
    struct tensor arrived = take(&r, DTYPE_F32, r.width);
    struct tensor dq = take(&r, DTYPE_F32, HD);
    dq = tensor_rows(&dq, 0, a->B * a->T);
    if (dq.data) device_zero(nn_device(nn), dq.data, tensor_bytes(&dq));
    own_keys(&r, &kv[0], qkv);
    /* in step s the gradients of what was at hand in step s - 1 go on, and those of what is at
     * hand now arrive from the rank that had it in step s - 1 */
    for (int s = 0; s < size; s++) {
        const struct tensor now = at_step(&r, &kv[s % 2], s);
        struct tensor d_now = at_step(&r, &dkv[s % 2], s);
        const struct tensor d_in = at_step(&r, &arrived, s);
        const struct nn_attention_part part = part_of(&r, s);
        struct turn turn = {.n = 0};
        if (s + 1 < size) {
            const struct tensor next = at_step(&r, &kv[(s + 1) % 2], s + 1);
            pass_on(&turn, cp, &now, &next);
        }
        if (s > 0) {
            const struct tensor d_out = at_step(&r, &dkv[(s - 1) % 2], s - 1);
            pass_on(&turn, cp, &d_out, &d_in);
        }
        begin(cp, &turn, 0);
        nn_attention_part_bwd(nn, &dq, &d_now, dy, y, lse, qkv, &now, &part);
        end(cp);
        if (s > 0) nn_add(nn, &d_now, &d_in);
    }
    struct tensor d_own = at_step(&r, &arrived, 0);
    const struct tensor d_out = at_step(&r, &dkv[(size - 1) % 2], size - 1);
    struct turn home = {.n = 0};
    pass_on(&home, cp, &d_out, &d_own);
    begin(cp, &home, 0);
    nn_copy_columns(nn, dqkv, 0, &dq, 0, HD);
    end(cp);
    nn_copy_columns(nn, dqkv, HD, &d_own, 0, r.width);
    arena_rewind(arena, mark);
}
