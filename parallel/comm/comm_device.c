/* Which transport carries the large vectors of a device: choice, and the library's lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "parallel/comm/comm_host.h"

static const double SETUP_SECONDS = 120; /* unless comm_set_timeout says otherwise */
/* The comm knows more about a wait than the device does, so it speaks first. */
static const double DEVICE_MORE_SECONDS = 5;

enum { WARM_ELEMENTS = 256 };

/* ---- who has which device ------------------------------------------------------------------- */

struct seat {
    char host[64]; /* of this boot of this machine, whatever a container calls it */
    char name[64]; /* what people call it */
    char id[32];
};

/* The first two ranks that share a device; false if each has its own.  The same on all ranks. */
static bool find_sharing(struct comm *world, const struct device *d, char *text,
                         size_t bytes)
{
    struct seat mine = {.host = ""}, *seats = malloc((size_t)world->size * sizeof *seats);
    if (!seats) die("no memory for the devices of %d ranks", world->size);
    struct device_info info;
    device_describe(d, &info);
    comm_boot_id(mine.host, sizeof mine.host);
    gethostname(mine.name, sizeof mine.name - 1);
    memcpy(mine.id, info.id, sizeof mine.id);
    comm_gather_all(world, &mine, sizeof mine, seats);
    bool sharing = false;
    for (int a = 0; a < world->size && !sharing; a++)
        for (int b = a + 1; b < world->size && !sharing; b++) {
            sharing = strcmp(seats[a].host, seats[b].host) == 0 &&
                      strcmp(seats[a].id, seats[b].id) == 0;
            if (sharing)
                snprintf(text, bytes, "ranks %d and %d share GPU %s of %s", a, b,
                         seats[a].id, seats[a].name);
        }
    free(seats);
    return sharing;
}

/* ---- the library's lines -------------------------------------------------------------------- */

/* Ask until what was begun on c's line is ready on all ranks, or has failed on one: then on all.
 * What was begun is a mark in the device's queue, or (NULL) a call of the library. */
static status_t all_ready(struct comm *c, const char *what, struct device_mark *mark,
                          status_t st)
{
    enum { READY, WORKING, FAILED };
    struct comm *world = c->world;
    const double limit =
        world->timeout_seconds > 0 ? world->timeout_seconds : SETUP_SECONDS;
    const double end = clock_seconds() + limit;
    for (;;) {
        bool ready = false;
        if (st == STATUS_OK) st = world->library->progress(c->line, &ready);
        if (mark && ready) ready = device_mark_done(mark);
        if (st == STATUS_OK && !ready && clock_seconds() > end)
            st = status_set(STATUS_COMM, "%s: %s took longer than %g s",
                            world->library->name, what, limit);
        int64_t worst = st != STATUS_OK ? FAILED : ready ? READY : WORKING;
        comm_max_i64(world, &worst, 1);
        if (worst == READY) return STATUS_OK;
        if (worst == FAILED) return comm_agree(world, st);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

static status_t check_sum(const struct comm *c, const float *x)
{
    const float want = (float)c->size * (float)(c->size + 1) / 2;
    for (int i = 0; i < WARM_ELEMENTS; i++)
        if (x[i] != want)
            return status_set(STATUS_COMM,
                              "%s: the sum of 1 to %d came out as %g, not %g: transfers "
                              "between GPUs are broken (NCCL_P2P_DISABLE=1 avoids them)",
                              c->world->library->name, c->size, (double)x[i],
                              (double)want);
    return STATUS_OK;
}

/* The first operation sets connections up; do it now, in the same order on all ranks, and look at
 * what it gives.  x: WARM_ELEMENTS in device memory.  Agreed. */
static status_t warm(struct comm *c, float *x, struct device_mark *done)
{
    struct device *d = c->device;
    float host[WARM_ELEMENTS];
    const struct comm_job job = {
        .kind = COMM_KIND_ALL_REDUCE, .x = x, .t = DTYPE_F32, .n = WARM_ELEMENTS};
    for (int i = 0; i < WARM_ELEMENTS; i++) host[i] = (float)(c->rank + 1);
    device_copy_in(d, x, host, sizeof host);
    TRY(all_ready(c, "a first all-reduce", NULL,
                  c->world->library->start(c->line, &job)));
    device_mark_set(done, DEVICE_COMM);
    TRY(all_ready(c, "a first all-reduce", done, STATUS_OK));
    device_copy_out(d, host, x, sizeof host);
    return comm_agree(c->world, check_sum(c, host));
}

/* The line that was begun becomes c's.  Agreed; without success c has none. */
static status_t adopt(struct comm *c, void *line, status_t st)
{
    struct comm *world = c->world;
    struct device_mark *done = NULL;
    void *x = NULL;
    const size_t bytes = WARM_ELEMENTS * sizeof(float);
    c->line = line;
    st = all_ready(c, "making a communicator", NULL, st);
    if (st == STATUS_OK) {
        st = device_alloc(c->device, bytes, "a first all-reduce", &x);
        if (st == STATUS_OK) st = device_mark_create(&done, c->device);
        st = comm_agree(world, st);
    }
    if (st == STATUS_OK) st = warm(c, x, done);
    if (st != STATUS_OK && line) {
        world->library->abort(
            line); /* before the memory goes that it may be working on */
        c->line = NULL;
    }
    device_mark_destroy(&done);
    device_free(c->device, &x, bytes);
    return st;
}

static status_t open_world(struct comm *world)
{
    char id[COMM_LIBRARY_ID_BYTES] = {0};
    void *line = NULL;
    TRY(comm_agree(world, world->rank == 0 ? world->library->make_id(id) : STATUS_OK));
    comm_broadcast(world, id, sizeof id, 0);
    const status_t st =
        world->library->open(&line, world->device, id, world->rank, world->size);
    return adopt(world, line, st);
}

/* ---- choice --------------------------------------------------------------------------------- */

/* Can NCCL be used?  Agreed; the sentence is the same on all ranks. */
static status_t find_library(struct comm *world, const struct device *d)
{
    const char *version = "";
    char sharing[256];
    status_t st = STATUS_OK;
    world->library = device_symbol(d, "comm_nccl_ops");
    if (!world->library)
        st = status_set(STATUS_COMM, "this build's plug-in for %s has no NCCL in it",
                        device_name(d));
    else
        st = world->library->load(&version);
    TRY(comm_agree(world, st));
    if (find_sharing(world, d, sharing, sizeof sharing))
        return status_set(STATUS_COMM, "%s; NCCL needs one for each rank", sharing);
    TRY(open_world(world));
    snprintf(world->why, sizeof world->why, "every rank has a GPU of its own; %s",
             version);
    return STATUS_OK;
}

static void watch(void *world)
{
    comm_watch(world);
}

void comm_set_timeout(struct comm *c, double seconds)
{
    CHECK(seconds >= 0);
    c->timeout_seconds = seconds;
    if (c->world == c && c->device)
        device_set_watch(c->device, seconds > 0 ? seconds + DEVICE_MORE_SECONDS : 0,
                         watch, c);
}

void comm_leave_device(struct comm *world)
{
    CHECK(world->world == world);
    CHECK(!world->requests); /* comm_request_destroy comes first */
    comm_close_line(world);
    if (world->device) device_set_watch(world->device, 0, NULL, NULL);
    if (world->shares) device_set_shared(world->shares, false);
    comm_host_close(world);
    comm_unmap_all(world);
    world->shares = NULL;
    world->device = NULL;
    world->library = NULL;
    world->ops = &comm_exchange_ops;
}

/* c's ranks read each other's memory if all can. */
static void share(struct comm *c, const char **why)
{
    comm_host_open(c, why);
    const bool all = c->host && c->host->n_near == c->size;
    c->ops = all ? &comm_shared_ops : &comm_exchange_ops;
}

/* Within a host; what spans several still goes over MPI. */
static void share_memory(struct comm *world, struct device *dev)
{
    const char *why;
    world->shares = dev;
    device_set_shared(dev, true);
    share(world, &why);
    snprintf(world->why, sizeof world->why, "%s", why);
}

status_t comm_use_device(struct comm *world, struct device *dev, enum comm_transport t,
                         const char **why)
{
    CHECK(world->world == world);
    comm_leave_device(world);
    *why = world->why;
    if (!dev || device_is_host(dev)) {
        if (t == COMM_TRANSPORT_NCCL)
            return comm_agree(
                world, status_set(STATUS_COMM,
                                  "NCCL needs a GPU for each rank; the device is %s "
                                  "(auto and mpi work)",
                                  dev ? device_name(dev) : "cpu"));
        if (t == COMM_TRANSPORT_AUTO && dev && world->size > 1)
            share_memory(world, dev);
        else
            snprintf(world->why, sizeof world->why, "vectors are in host memory");
        return STATUS_OK;
    }
    world->device = dev;
    comm_set_timeout(world, world->timeout_seconds);
    world->ops = &comm_staged_ops;
    if (world->size == 1 || t == COMM_TRANSPORT_MPI) {
        snprintf(world->why, sizeof world->why, "%s",
                 world->size == 1 ? "there is one rank" : "as asked for");
        return STATUS_OK;
    }
    const status_t st = find_library(world, dev);
    if (st == STATUS_OK) {
        world->ops = &comm_queued_ops;
    } else if (t == COMM_TRANSPORT_AUTO) {
        world->library = NULL;
        snprintf(world->why, sizeof world->why, "%s", status_message());
        return STATUS_OK;
    } else {
        comm_leave_device(world);
    }
    return st;
}

status_t comm_join_device(struct comm *c, int colour, bool over_library)
{
    struct comm *world = c->world;
    const char *why;
    c->device = world->device;
    c->ops = world->ops;
    if (world->shares && c->size > 1) {
        share(c, &why);
        return STATUS_OK;
    }
    if (!over_library && c->ops == &comm_queued_ops) {
        c->ops = &comm_staged_ops;
        return STATUS_OK;
    }
    /* lines that are as long as the world are the world's, those of one rank need none; an axis is
     * as long everywhere, so all ranks agree */
    if (world->ops != &comm_queued_ops || c->size == 1 || c->size == world->size)
        return STATUS_OK;
    void *line = NULL;
    const status_t st =
        world->library->split(&line, world->line, colour, c->rank, c->size);
    return adopt(c, line, st);
}

void comm_close_line(struct comm *c)
{
    if (c->line) c->world->library->close(c->line);
    c->line = NULL;
}
