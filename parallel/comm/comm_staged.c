/* Large vectors in a device's memory, exchanged over MPI through page-locked host memory.
 *
 * In the device's DEVICE_COMM queue: what others need of the vector is copied out, behind all that
 * was in the compute queue; when that is done the host exchanges (comm_exchange.c); what others
 * have sent is copied in.  Several ranks may share one device.  Vectors of several requests
 * overlap: one is copied while another is exchanged. */
#include <stdlib.h>

#include "core/log.h"
#include "parallel/comm/comm_impl.h"

enum stage { STAGE_OUT, STAGE_EXCHANGE, STAGE_IN };

struct staged {
    struct comm_exchange *exchange;
    char *host; /* the vector (or messages), then what the exchange needs */
    size_t host_bytes;
    struct device_mark *copied; /* out, or in */
    enum stage stage;
};

/* A part of the vector and its place in host memory. */
struct span {
    char *x, *host;
    size_t bytes;
};

struct spans {
    int n;
    struct span at[COMM_MAX_MESSAGES];
};

static size_t vector_bytes(int64_t max_n)
{
    /* every message begins on a boundary of its own */
    return arena_align((size_t)max_n * sizeof(float)) +
           (size_t)COMM_MAX_MESSAGES * ARENA_ALIGN_BYTES;
}

static size_t host_bytes(const struct comm *c, int64_t max_n)
{
    return vector_bytes(max_n) + comm_exchange_staging_bytes(c, max_n);
}

static void add_part(struct spans *s, const struct comm_request *r, int64_t first,
                     int64_t count)
{
    if (count == 0) return;
    const struct staged *g = r->state;
    const size_t element = dtype_bytes(r->job.t), offset = (size_t)first * element;
    s->at[s->n++] = (struct span){.x = (char *)r->job.x + offset,
                                  .host = g->host + offset,
                                  .bytes = (size_t)count * element};
}

static void add_messages(struct spans *s, const struct comm_request *r, bool out)
{
    const struct staged *g = r->state;
    size_t offset = 0;
    for (int i = 0; i < r->job.n_messages; i++) {
        const struct comm_message *m = &r->job.messages[i];
        const size_t bytes = (size_t)m->n * dtype_bytes(m->t);
        if (m->send == out && bytes)
            s->at[s->n++] =
                (struct span){.x = m->x, .host = g->host + offset, .bytes = bytes};
        offset += arena_align(bytes);
    }
}

/* What others need of this rank's vector. */
static struct spans spans_out(const struct comm_request *r)
{
    const struct comm_job *job = &r->job;
    struct spans s = {0};
    int64_t first, count;
    comm_job_slice(job, r->c->size, r->c->rank, &first, &count);
    if (job->kind == COMM_KIND_MESSAGES)
        add_messages(&s, r, true);
    else if (job->kind == COMM_KIND_ALL_GATHER)
        add_part(&s, r, first, count);
    else if (job->kind != COMM_KIND_BROADCAST || job->root == r->c->rank)
        add_part(&s, r, 0, job->n);
    return s;
}

/* What this rank gets. */
static struct spans spans_in(const struct comm_request *r)
{
    const struct comm_job *job = &r->job;
    struct spans s = {0};
    int64_t first, count;
    comm_job_slice(job, r->c->size, r->c->rank, &first, &count);
    if (job->kind == COMM_KIND_MESSAGES) {
        add_messages(&s, r, false);
    } else if (job->kind == COMM_KIND_REDUCE_SCATTER) {
        add_part(&s, r, first, count);
    } else if (job->kind == COMM_KIND_ALL_GATHER) {
        add_part(&s, r, 0, first);
        add_part(&s, r, first + count, job->n - first - count);
    } else if (job->kind != COMM_KIND_BROADCAST || job->root != r->c->rank) {
        add_part(&s, r, 0, job->n);
    }
    return s;
}

static struct comm_job job_on_host(const struct comm_request *r)
{
    const struct staged *g = r->state;
    struct comm_job job = r->job;
    job.x = g->host;
    size_t offset = 0;
    for (int i = 0; i < job.n_messages; i++) {
        struct comm_message *m = &job.messages[i];
        m->x = g->host + offset;
        offset += arena_align((size_t)m->n * dtype_bytes(m->t));
    }
    return job;
}

static void begin(struct comm_request *r)
{
    struct staged *g = r->state;
    struct device *d = r->c->device;
    const struct spans out = spans_out(r);
    device_order(d, DEVICE_COMPUTE, DEVICE_COMM);
    for (int i = 0; i < out.n; i++)
        device_queue_copy_out(d, DEVICE_COMM, out.at[i].host, out.at[i].x,
                              out.at[i].bytes);
    /* set even without a copy: what the last operation copies in must have left host memory */
    device_mark_set(g->copied, DEVICE_COMM);
    g->stage = STAGE_OUT;
}

static void copy_in(struct comm_request *r)
{
    struct staged *g = r->state;
    const struct spans in = spans_in(r);
    for (int i = 0; i < in.n; i++)
        device_queue_copy_in(r->c->device, DEVICE_COMM, in.at[i].x, in.at[i].host,
                             in.at[i].bytes);
    device_mark_set(g->copied, DEVICE_COMM);
}

static bool advance(struct comm_request *r, bool wait)
{
    struct staged *g = r->state;
    if (g->stage == STAGE_OUT) {
        if (wait)
            device_mark_wait(g->copied);
        else if (!device_mark_done(g->copied))
            return false;
        const struct comm_job job = job_on_host(r);
        comm_exchange_begin(g->exchange, &job);
        g->stage = STAGE_EXCHANGE;
    }
    if (g->stage == STAGE_EXCHANGE) {
        if (!comm_exchange_advance(g->exchange, wait)) return false;
        copy_in(r);
        g->stage = STAGE_IN;
    }
    if (!wait) return device_mark_done(g->copied);
    device_mark_order(g->copied, DEVICE_COMPUTE);
    return true;
}

static void release(struct comm_request *r)
{
    struct staged *g = r->state;
    void *host = g->host;
    device_mark_destroy(&g->copied);
    comm_exchange_destroy(&g->exchange);
    device_free_host(r->c->device, &host, g->host_bytes);
    free(g);
    r->state = NULL;
}

static void request_close(struct comm_request *r)
{
    struct staged *g = r->state;
    device_mark_wait(g->copied); /* the last copy in still reads host memory */
    release(r);
}

static status_t request_open(struct comm_request *r, void *from_arena)
{
    (void)from_arena;
    struct staged *g = calloc(1, sizeof *g);
    if (!g) return status_set(STATUS_NOMEM, "no memory for a communication request");
    r->state = g;
    void *host = NULL;
    g->host_bytes = host_bytes(r->c, r->max_n);
    status_t st = device_alloc_host(r->c->device, g->host_bytes,
                                    "staging between device and network", &host);
    g->host = host;
    if (st == STATUS_OK)
        st = comm_exchange_create(&g->exchange, r->c, r->max_n,
                                  g->host + vector_bytes(r->max_n));
    if (st == STATUS_OK) st = device_mark_create(&g->copied, r->c->device);
    if (st != STATUS_OK) release(r);
    return st;
}

const struct comm_ops comm_staged_ops = {
    .name = "mpi, staged",
    .in_flight = 4,
    .needs_host = true,
    .host_bytes = host_bytes,
    .request_open = request_open,
    .request_close = request_close,
    .begin = begin,
    .advance = advance,
};
