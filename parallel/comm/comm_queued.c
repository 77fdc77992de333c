/* Large vectors by a library that works in the device's own queue.
 *
 * begin hands the job over; it runs in DEVICE_COMM behind all that was in the compute queue.
 * comm_wait only orders the compute queue behind it, so the host never waits here.  What goes
 * wrong later, on this rank or another, is seen by comm_watch, which every wait of the host (for
 * the device: device_set_watch; for other ranks: comm_wait_more) calls again and again. */
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "parallel/comm/comm_impl.h"

static status_t request_open(struct comm_request *r, void *from_arena)
{
    (void)from_arena;
    struct device_mark *mark = NULL;
    TRY(device_mark_create(&mark, r->c->device));
    struct comm *world = r->c->world;
    r->state = mark;
    r->next = world->requests;
    world->requests = r;
    return STATUS_OK;
}

static void request_close(struct comm_request *r)
{
    struct device_mark *mark = r->state;
    struct comm_request **at = &r->c->world->requests;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    device_mark_destroy(&mark);
}

void *comm_line(const struct comm *c)
{
    return c->line ? c->line : c->world->line;
}

static _Noreturn void failed(struct comm *c, const char *operation, int64_t n)
{
    c->world->library->abort(comm_line(c));
    die_with(STATUS_COMM, "%s of %lld elements by %s failed on rank %d of %d: %s",
             operation, (long long)n, c->world->library->name, c->rank, c->size,
             status_message());
}

void comm_library_accepted(struct comm *c, const char *operation, int64_t n)
{
    struct comm_wait w = comm_wait_begin(c, operation, n);
    for (bool ready = false; !ready;) {
        if (c->world->library->progress(comm_line(c), &ready) != STATUS_OK)
            failed(c, operation, n);
        if (!ready) comm_wait_more(&w);
    }
}

static void begin(struct comm_request *r)
{
    struct comm *c = r->c;
    const char *name = comm_kind_name(r->job.kind);
    const int64_t n = comm_job_elements(&r->job);
    device_order(c->device, DEVICE_COMPUTE, DEVICE_COMM);
    if (n > 0) {
        if (c->world->library->start(comm_line(c), &r->job) != STATUS_OK)
            failed(c, name, n);
        /* only then is the work in the queue, and a mark lies behind it */
        comm_library_accepted(c, name, n);
    }
    device_mark_set(r->state, DEVICE_COMM);
    r->begun = clock_seconds();
}

static bool advance(struct comm_request *r, bool wait)
{
    if (!wait) return device_mark_done(r->state);
    device_mark_order(r->state, DEVICE_COMPUTE);
    return true;
}

const struct comm_ops comm_queued_ops = {
    .name = "nccl",
    /* A request costs an event; and the host is far ahead of the device, so that what is not begun
     * when its turn has come is queued behind work that came much later. */
    .in_flight = 1024,
    .request_open = request_open,
    .request_close = request_close,
    .begin = begin,
    .advance = advance,
};

/* The request whose work was queued first, of those not done; NULL: none. */
static struct comm_request *oldest_in_queue(struct comm *world)
{
    struct comm_request *oldest = NULL;
    for (struct comm_request *r = world->requests; r; r = r->next)
        if ((!oldest || r->begun < oldest->begun) && !device_mark_done(r->state))
            oldest = r;
    return oldest;
}

void comm_watch(struct comm *world)
{
    struct comm_wait *w = &world->watching;
    const struct comm_request *r = oldest_in_queue(world);
    if (!r || r != world->watched || r->begun != world->watched_begun) {
        /* a wait for work of this rank alone never takes too long here (the device has a limit of
         * its own), but other ranks may ask */
        const double next_look = w->next_look;
        *w = r ? comm_wait_begin(r->c, comm_kind_name(r->job.kind),
                                 comm_job_elements(&r->job))
               : comm_wait_begin(world, "work of its own device", 0);
        w->next_look = next_look;
        world->watched = r;
        world->watched_begun = r ? r->begun : 0;
    }
    bool ready;
    if (r && world->library->progress(comm_line(r->c), &ready) != STATUS_OK)
        failed(r->c, w->operation, w->n);
    comm_wait_look(w);
}
