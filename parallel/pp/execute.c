#include "parallel/pp/execute.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"

enum {
    IN_FLIGHT = 2,        /* messages of a kind */
    GRADIENT_BUFFERS = 4, /* two that come, two that go */
    SUM_PIECE = 1 << 20,  /* elements of pp_sum_ends at a time */
    TAG_SUM = 0,
    TAG_MESSAGES /* and behind it */
};

/* Requests of one kind of message, used in turn. */
struct queue {
    struct comm_request *requests[IN_FLIGHT];
    int64_t n_begun;
};

struct pp {
    struct comm *comm;
    const struct pp_schedule *schedule;
    int stage;
    int64_t width;
    enum dtype dtype;
    /* activations that come, by chunk and forward; that go; gradients, which come, are worked on
     * and go in one place */
    char *in[PP_MAX_CHUNKS];
    char *out;
    char *gradients;
    size_t own_bytes, all_bytes;      /* of one buffer */
    struct queue receive[2], send[2]; /* PP_FORWARD, PP_BACKWARD */
    struct comm_request *sum;
    float *sum_piece;
    int64_t piece; /* elements of it */
};

/* ---- life ------------------------------------------------------------------------------------ */

static int64_t words(int64_t elements, enum dtype t)
{
    return (elements * (int64_t)dtype_bytes(t) + 3) / 4;
}

static int64_t sum_piece(const struct pp_options *o)
{
    return o->max_sum < SUM_PIECE ? o->max_sum : SUM_PIECE;
}

static int in_buffers(const struct pp_schedule *s, int stage, int chunk)
{
    /* one more than are held, because the next comes while the last is in use */
    return pp_part(s, stage, chunk) == 0 ? 0 : s->stages[stage].slots[chunk] + 1;
}

static status_t open_queue(struct queue *q, const struct pp_options *o,
                           struct arena *arena)
{
    const int64_t n = words(o->max_own * o->width, o->dtype);
    for (int i = 0; i < IN_FLIGHT; i++)
        TRY(comm_request_create(&q->requests[i], o->comm, n, arena));
    return STATUS_OK;
}

static status_t open_all(struct pp *pp, const struct pp_options *o, struct arena *arena)
{
    for (int op = 0; op < 2; op++) {
        TRY(open_queue(&pp->receive[op], o, arena));
        TRY(open_queue(&pp->send[op], o, arena));
    }
    return comm_request_create(&pp->sum, o->comm, 2 * sum_piece(o), arena);
}

status_t pp_create(struct pp **pp, const struct pp_options *o, struct arena *arena)
{
    *pp = NULL;
    struct pp *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for a pipeline");
    const size_t element = dtype_bytes(o->dtype);
    made->comm = o->comm;
    made->schedule = o->schedule;
    made->stage = comm_rank(o->comm);
    made->width = o->width;
    made->dtype = o->dtype;
    made->own_bytes = arena_align((size_t)(o->max_own * o->width) * element);
    made->all_bytes = arena_align((size_t)(o->max_all * o->width) * element);
    for (int c = 0; c < o->schedule->n_chunks; c++)
        made->in[c] = arena_alloc(
            arena, made->own_bytes * (size_t)in_buffers(o->schedule, made->stage, c));
    made->out = arena_alloc(arena, made->own_bytes * IN_FLIGHT);
    made->gradients = arena_alloc(arena, made->all_bytes * GRADIENT_BUFFERS);
    made->piece = sum_piece(o);
    made->sum_piece = arena_floats(arena, made->piece);
    const status_t st = open_all(made, o, arena);
    if (st == STATUS_OK)
        *pp = made;
    else
        pp_destroy(&made);
    return st;
}

void pp_destroy(struct pp **pp)
{
    if (!*pp) return;
    for (int op = 0; op < 2; op++)
        for (int i = 0; i < IN_FLIGHT; i++) {
            comm_request_destroy(&(*pp)->receive[op].requests[i]);
            comm_request_destroy(&(*pp)->send[op].requests[i]);
        }
    comm_request_destroy(&(*pp)->sum);
    free(*pp);
    *pp = NULL;
}

size_t pp_host_bytes(const struct pp_options *o)
{
    const int64_t n = words(o->max_own * o->width, o->dtype);
    return 4 * IN_FLIGHT * comm_request_host_bytes(o->comm, n) +
           comm_request_host_bytes(o->comm, 2 * sum_piece(o));
}

/* ---- messages -------------------------------------------------------------------------------- */

/* The same on both ends: of what (op, micro) makes for part `to`. */
static int tag_of(const struct pp *pp, enum pp_op op, int micro, int to)
{
    return TAG_MESSAGES + (micro * pp_n_parts(pp->schedule) + to) % (1 << 18) * 2 +
           (int)op;
}

static void message(struct queue *q, int peer, bool send, const struct tensor *x, int tag)
{
    struct comm_request *r = q->requests[q->n_begun++ % IN_FLIGHT];
    const struct comm_message m = {
        .peer = peer, .send = send, .x = x->data, .t = x->dtype, .n = tensor_elements(x)};
    comm_wait(r);
    comm_start_messages(r, &m, 1, tag);
}

/* What has not come and gone moves on, where only the host moves it. */
static void move_on(struct pp *pp)
{
    if (!comm_needs_host(pp->comm)) return;
    for (int op = 0; op < 2; op++)
        for (int i = 0; i < IN_FLIGHT; i++) {
            comm_test(pp->receive[op].requests[i]);
            comm_test(pp->send[op].requests[i]);
        }
}

static void wait_all(struct queue *q)
{
    for (int i = 0; i < IN_FLIGHT; i++) comm_wait(q->requests[i]);
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* Where the stage is in its list. */
struct walk {
    struct pp *pp;
    const struct pp_step *step;
    const struct pp_list *list;
    int next; /* instruction whose input is not yet expected */
    int64_t n_gradients, n_gradients_next; /* backwards done, expected */
    int left[PP_OPS][PP_MAX_CHUNKS];       /* instructions not yet begun */
};

static struct tensor rows(const struct pp *pp, char *data, int64_t n)
{
    return tensor_2d(data, pp->dtype, n, pp->width);
}

static struct tensor input_buffer(const struct pp *pp, int chunk, int micro, int64_t own)
{
    const int n = in_buffers(pp->schedule, pp->stage, chunk);
    return n == 0 ? rows(pp, NULL, own)
                  : rows(pp, pp->in[chunk] + pp->own_bytes * (size_t)(micro % n), own);
}

static struct tensor gradient_buffer(const struct pp *pp, int64_t number, int64_t all)
{
    return rows(pp, pp->gradients + pp->all_bytes * (size_t)(number % GRADIENT_BUFFERS),
                all);
}

/* Begin to receive what the instruction at w->next needs. */
static void expect(struct walk *w)
{
    struct pp *pp = w->pp;
    if (w->next >= w->list->n) return;
    const struct pp_instruction *x = &w->list->items[w->next++];
    const int part = pp_part(pp->schedule, pp->stage, x->chunk);
    const int from = pp_from(pp->schedule, part, x->op);
    const struct model_input in = w->step->input(w->step->context, x->micro);
    struct tensor to =
        input_buffer(pp, x->chunk, x->micro, model_own_rows(w->step->model, in.B));
    if (x->op == PP_BACKWARD) {
        const struct tensor all = gradient_buffer(pp, w->n_gradients_next++,
                                                  model_all_rows(w->step->model, in.B));
        to = model_own(w->step->model, &all);
    }
    if (from < 0) return;
    message(&pp->receive[x->op], pp_stage_of(pp->schedule, from), false, &to,
            tag_of(pp, x->op, x->micro, part));
}

/* Wait for what was expected for an instruction of this kind before any other of it. */
static void take(struct queue *q, int64_t number)
{
    comm_wait(q->requests[number % IN_FLIGHT]);
}

static void send(struct walk *w, const struct pp_instruction *x, const struct tensor *y)
{
    struct pp *pp = w->pp;
    const int to = pp_to(pp->schedule, pp_part(pp->schedule, pp->stage, x->chunk), x->op);
    if (to < 0) return;
    message(&pp->send[x->op], pp_stage_of(pp->schedule, to), true, y,
            tag_of(pp, x->op, x->micro, to));
}

static void carry_out(struct walk *w, const struct pp_instruction *x, int64_t received[2])
{
    struct pp *pp = w->pp;
    struct model *model = w->step->model;
    const int part = pp_part(pp->schedule, pp->stage, x->chunk);
    const bool last = --w->left[x->op][x->chunk] == 0;
    struct model_pass p = {.chunk = x->chunk,
                           .slot = x->slot,
                           .weight_slot = x->weight_slot,
                           .in = w->step->input(w->step->context, x->micro),
                           .loss = w->step->loss,
                           .gradient_scale = w->step->gradient_scale};
    const int64_t own = model_own_rows(model, p.in.B),
                  all = model_all_rows(model, p.in.B);
    p.hooks = w->step->hooks(w->step->context, x->micro, x->chunk, x->op, last);
    if (pp_from(pp->schedule, part, x->op) >= 0)
        take(&pp->receive[x->op], received[x->op]++);
    if (x->op == PP_FORWARD) {
        p.x = input_buffer(pp, x->chunk, x->micro, own);
        p.y = rows(pp,
                   pp->out +
                       pp->own_bytes * (size_t)(pp->send[PP_FORWARD].n_begun % IN_FLIGHT),
                   own);
        /* the buffer's last message has left */
        comm_wait(
            pp->send[PP_FORWARD].requests[pp->send[PP_FORWARD].n_begun % IN_FLIGHT]);
        model_forward(model, &p);
        send(w, x, &p.y);
    } else if (x->op == PP_BACKWARD) {
        p.dx = gradient_buffer(pp, w->n_gradients++, all);
        model_backward(model, &p);
        const struct tensor dx = model_own(model, &p.dx);
        send(w, x, &dx);
    } else {
        model_weights(model, &p);
    }
}

void pp_run(struct pp *pp, const struct pp_step *step)
{
    struct walk w = {.pp = pp, .step = step, .list = &pp->schedule->stages[pp->stage]};
    int64_t received[2] = {pp->receive[0].n_begun, pp->receive[1].n_begun};
    for (int i = 0; i < w.list->n; i++)
        w.left[w.list->items[i].op][w.list->items[i].chunk]++;
    expect(&w);
    for (int i = 0; i < w.list->n; i++) {
        expect(&w); /* what the next instruction needs comes while this one runs */
        carry_out(&w, &w.list->items[i], received);
        move_on(pp);
    }
    for (int op = 0; op < 2; op++) wait_all(&pp->send[op]);
}

/* ---- forward only ---------------------------------------------------------------------------- */

void pp_infer(struct pp *pp, struct model *model, const struct model_input *in,
              struct nn_loss *loss, float *row_loss)
{
    const struct pp_schedule *s = pp->schedule;
    const int64_t own = model_own_rows(model, in->B);
    for (int c = 0; c < s->n_chunks; c++) {
        const int part = pp_part(s, pp->stage, c);
        const int from = pp_from(s, part, PP_FORWARD), to = pp_to(s, part, PP_FORWARD);
        struct queue *q = &pp->send[PP_FORWARD];
        struct model_pass p = {.chunk = c, .in = *in, .loss = loss};
        p.x = input_buffer(pp, c, 0, own);
        p.y = rows(pp, pp->out + pp->own_bytes * (size_t)(q->n_begun % IN_FLIGHT), own);
        if (from >= 0) {
            message(&pp->receive[PP_FORWARD], pp_stage_of(s, from), false, &p.x,
                    tag_of(pp, PP_FORWARD, 0, part));
            wait_all(&pp->receive[PP_FORWARD]);
        }
        comm_wait(q->requests[q->n_begun % IN_FLIGHT]);
        model_infer(model, &p, row_loss);
        if (to >= 0)
            message(q, pp_stage_of(s, to), true, &p.y, tag_of(pp, PP_FORWARD, 0, to));
    }
    wait_all(&pp->send[PP_FORWARD]);
}

/* ---- tied embedding and head ----------------------------------------------------------------- */

void pp_sum_ends(struct pp *pp, struct nn *nn, float *x, int64_t n)
{
    const int last = comm_size(pp->comm) - 1;
    if (n == 0 || last == 0) return;
    const int peer = pp->stage == 0 ? last : 0;
    CHECK(pp->stage == 0 || pp->stage == last);
    for (int64_t at = 0; at < n; at += pp->piece) {
        const int64_t m = n - at < pp->piece ? n - at : pp->piece;
        const struct comm_message both[2] = {
            {.peer = peer, .send = true, .x = x + at, .t = DTYPE_F32, .n = m},
            {.peer = peer, .x = pp->sum_piece, .t = DTYPE_F32, .n = m}};
        comm_start_messages(pp->sum, both, 2, TAG_SUM);
        comm_wait(pp->sum);
        struct tensor y = tensor_1d(x + at, DTYPE_F32, m);
        const struct tensor other = tensor_1d(pp->sum_piece, DTYPE_F32, m);
        nn_add(nn, &y, &other);
    }
}
