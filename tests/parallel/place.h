/* place - where the vectors of a communication test live and what carries them.
 *
 *   for (struct place p = {0}; place_next(&p);) { ... vector_in(&p, ...) ... }
 *
 * The loop runs over both transports: on the CPU shared memory and MPI, with
 * $YOKE_TEST_DEVICE=cuda MPI and NCCL.  On the emulated device it runs over many orders of its
 * queues, too: what is queued runs as late or as early as events permit. */
#pragma once

#include <stdio.h>

#include "harness/harness.h"

enum { PLACE_SEEDS = 20, PLACE_MAX_VECTORS = 512 };

struct place {
    uint64_t n_seeds; /* of the emulated device; 0: PLACE_SEEDS */
    struct device *device;
    enum comm_transport transport;
    uint64_t seed; /* from 1 */
    bool large;    /* vectors may be: not on the emulated device, where all is slow */
    int n_vectors;
    struct place_vector {
        void *x, *host;
        size_t bytes;
    } vectors[PLACE_MAX_VECTORS];
};

static inline void place_forget_vectors(struct place *p)
{
    device_wait(p->device);
    while (p->n_vectors > 0) {
        struct place_vector *v = &p->vectors[--p->n_vectors];
        device_free(p->device, &v->x, v->bytes);
        device_free_host(p->device, &v->host, v->bytes);
    }
}

static inline void place_leave(struct place *p)
{
    const char *why;
    place_forget_vectors(p);
    ASSERT_OK(comm_use_device(test_world(), NULL, COMM_TRANSPORT_AUTO, &why));
    test_device_close(&p->device);
}

/* The function of the emulated device that starts another order; NULL: a real one. */
static inline void (*place_set_seed(const struct place *p))(uint64_t)
{
    void (*set)(uint64_t) = NULL;
    const void *symbol = device_symbol(p->device, "emulation_set_seed");
    memcpy(&set, &symbol, sizeof set);
    return set;
}

static inline bool place_enter(struct place *p, enum comm_transport t)
{
    const char *why;
    struct comm *world = test_world();
    ASSERT_OK(test_device_open(&p->device));
    p->transport = t;
    p->seed = 1;
    p->large = !place_set_seed(p);
    const status_t st = comm_use_device(world, p->device, t, &why);
    const bool may_share = t == COMM_TRANSPORT_NCCL && !place_set_seed(p);
    if (st != STATUS_OK && may_share && strstr(status_message(), "share GPU")) {
        print_message("not over NCCL: %s\n", status_message());
        place_leave(p);
        return false;
    }
    ASSERT_OK(st);
    return true;
}

static inline bool place_next(struct place *p)
{
    const bool cpu = strcmp(test_device_name(), "cpu") == 0;
    const enum comm_transport other = cpu ? COMM_TRANSPORT_AUTO : COMM_TRANSPORT_NCCL;
    if (!p->device) return place_enter(p, COMM_TRANSPORT_MPI);
    place_forget_vectors(p);
    if (place_set_seed(p) && p->seed < (p->n_seeds ? p->n_seeds : PLACE_SEEDS)) {
        place_set_seed(p)(++p->seed);
        return true;
    }
    const bool more = p->transport == COMM_TRANSPORT_MPI;
    place_leave(p);
    return more && place_enter(p, other);
}

/* A vector in device memory that will hold these bytes, but does not yet: the copy is only
 * queued.  Freed with place_forget_vectors, at the latest at the end of the place's turn. */
static inline void *vector_in(struct place *p, const void *numbers, size_t bytes)
{
    assert_true(p->n_vectors < PLACE_MAX_VECTORS);
    struct place_vector *v = &p->vectors[p->n_vectors++];
    *v = (struct place_vector){.bytes = bytes + 1};
    ASSERT_OK(device_alloc_shared(p->device, v->bytes, "a test", &v->x));
    ASSERT_OK(device_alloc_host(p->device, v->bytes, "a test", &v->host));
    if (bytes) memcpy(v->host, numbers, bytes);
    device_queue_copy_in(p->device, DEVICE_COMPUTE, v->x, v->host, bytes);
    return v->x;
}

/* What it holds behind all that is in the compute queue. */
static inline void *vector_out(struct place *p, const void *x, size_t bytes)
{
    void *host = test_alloc(bytes + 1);
    if (bytes) device_copy_out(p->device, host, x, bytes);
    return host;
}

/* A request with room for n, and the memory it asked for. */
static inline struct comm_request *request_for(struct comm *c, int64_t n)
{
    struct arena measure = arena_measure();
    struct comm_request *r = NULL;
    ASSERT_OK(comm_request_create(&r, c, n, &measure));
    assert_null(r);
    struct arena real =
        arena_over(test_alloc(measure.peak_bytes), arena_align(measure.peak_bytes));
    ASSERT_OK(comm_request_create(&r, c, n, &real));
    assert_non_null(r);
    assert_int_equal(real.peak_bytes, measure.peak_bytes);
    return r;
}
