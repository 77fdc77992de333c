#include "data/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"

enum { MESSAGE_BYTES = 2048 };

/* A ring: batch number k of this rank lies in slot k % n_slots.  Those in [taken, made) are
 * ready; taken - 1 is in the consumer's hands until it asks for the next. */
struct loader {
    struct loader_options o;
    int64_t sequences, n_slots;
    void *memory;
    struct batch *slots; /* [n_slots] */

    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t filled, emptied;
    int64_t made, taken;
    bool stop;
    status_t failure; /* of the thread, with its sentence */
    char message[MESSAGE_BYTES];
    double wait_seconds;
};

/* ---- the plan --------------------------------------------------------------------------- */

static int64_t share_begin(const struct loader_options *o, int rank)
{
    return o->global_batch * rank / o->size;
}

int64_t loader_sequences(const struct loader_options *o)
{
    return share_begin(o, o->rank + 1) - share_begin(o, o->rank);
}

int64_t loader_micro_batches(const struct loader_options *o)
{
    return (loader_sequences(o) + o->micro_batch - 1) / o->micro_batch;
}

/* Micro-batch number k since the start: *B sequences from global sample [returned] on. */
static int64_t plan(const struct loader *l, int64_t k, int64_t *B)
{
    const int64_t m = l->o.micro_batch, a_step = loader_micro_batches(&l->o);
    const int64_t step = k / a_step, done = k % a_step * m, left = l->sequences - done;
    *B = left < m ? left : m;
    return l->o.first_sample + step * l->o.global_batch + share_begin(&l->o, l->o.rank) +
           done;
}

/* ---- memory ----------------------------------------------------------------------------- */

static int64_t slot_count(const struct loader_options *o)
{
    return (int64_t)o->ahead + 1;
}

/* Also run over an arena without memory, to measure; `slots` may be NULL then. */
static void lay_out(struct arena *a, const struct loader_options *o, struct batch *slots)
{
    const int64_t sequences = loader_sequences(o);
    const int64_t most = o->micro_batch < sequences ? o->micro_batch : sequences;
    const size_t bytes = (size_t)(most * o->T) * sizeof(int32_t);
    for (int64_t i = 0; i < slot_count(o); i++) {
        struct batch b = {.T = o->T};
        b.tokens = arena_alloc(a, bytes);
        b.targets = arena_alloc(a, bytes);
        b.positions = arena_alloc(a, bytes);
        b.doc_start = arena_alloc(a, bytes);
        if (slots) slots[i] = b;
    }
}

size_t loader_bytes(const struct loader_options *o)
{
    struct arena a = arena_measure();
    lay_out(&a, o, NULL);
    return arena_align(a.peak_bytes);
}

static status_t allocate(struct loader *l)
{
    const size_t bytes = loader_bytes(&l->o);
    l->slots = calloc((size_t)l->n_slots, sizeof *l->slots);
    l->memory = aligned_alloc(ARENA_ALIGN_BYTES, bytes);
    if (!l->slots || !l->memory)
        return status_set(STATUS_NOMEM, "no memory for %zu bytes of batches", bytes);
    struct arena a = arena_over(l->memory, bytes);
    lay_out(&a, &l->o, l->slots);
    return STATUS_OK;
}

/* ---- the thread ------------------------------------------------------------------------- */

static bool stopped(struct loader *l)
{
    pthread_mutex_lock(&l->lock);
    const bool stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    return stop;
}

/* Looks for a stop between sequences, so that destroy never waits for a whole batch. */
static status_t fill(struct loader *l, int64_t k)
{
    struct batch *b = &l->slots[k % l->n_slots];
    const int64_t first = plan(l, k, &b->B);
    b->n_targets = 0;
    for (int64_t row = 0; row < b->B && !stopped(l); row++)
        TRY(sampler_fill(l->o.sampler, first + row, b, row));
    return STATUS_OK;
}

static void *run(void *argument)
{
    struct loader *l = argument;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->failure == STATUS_OK) {
        const int64_t in_hand = l->taken > 0 ? 1 : 0;
        if (l->made - l->taken + in_hand == l->n_slots) {
            pthread_cond_wait(&l->emptied, &l->lock);
            continue;
        }
        const int64_t k = l->made;
        pthread_mutex_unlock(&l->lock);
        const status_t st = fill(l, k);
        pthread_mutex_lock(&l->lock);
        l->failure = st;
        if (st == STATUS_OK)
            l->made++;
        else
            snprintf(l->message, sizeof l->message, "%s", status_message());
        pthread_cond_signal(&l->filled);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals are for the training loop: none may be delivered to this thread. */
static status_t start(struct loader *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&l->thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return status_set(STATUS_INTERNAL, "cannot start the loader's thread: %s",
                          strerror(error));
    return STATUS_OK;
}

/* ---- interface -------------------------------------------------------------------------- */

static void release(struct loader *l)
{
    pthread_cond_destroy(&l->filled);
    pthread_cond_destroy(&l->emptied);
    pthread_mutex_destroy(&l->lock);
    free(l->memory);
    free(l->slots);
    free(l);
}

status_t loader_create(struct loader **l, const struct loader_options *o)
{
    CHECK(o->size >= 1 && o->rank >= 0 && o->rank < o->size);
    CHECK(o->global_batch >= o->size && o->micro_batch >= 1);
    CHECK(o->T >= 1 && o->ahead >= 1 && o->first_sample >= 0);
    *l = NULL;
    struct loader *x = calloc(1, sizeof *x);
    if (!x) return status_set(STATUS_NOMEM, "no memory for the loader");
    x->o = *o;
    x->sequences = loader_sequences(o);
    x->n_slots = slot_count(o);
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->filled, NULL);
    pthread_cond_init(&x->emptied, NULL);
    status_t st = allocate(x);
    if (st == STATUS_OK) st = start(x);
    if (st == STATUS_OK)
        *l = x;
    else
        release(x);
    return st;
}

void loader_destroy(struct loader **l)
{
    if (!*l) return;
    struct loader *x = *l;
    pthread_mutex_lock(&x->lock);
    x->stop = true;
    pthread_cond_signal(&x->emptied);
    pthread_mutex_unlock(&x->lock);
    pthread_join(x->thread, NULL);
    release(x);
    *l = NULL;
}

status_t loader_next(struct loader *l, const struct batch **b)
{
    *b = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->made == l->taken && l->failure == STATUS_OK) {
        const double begin = clock_seconds();
        while (l->made == l->taken && l->failure == STATUS_OK)
            pthread_cond_wait(&l->filled, &l->lock);
        l->wait_seconds += clock_seconds() - begin;
    }
    const bool ready = l->made > l->taken;
    if (ready) {
        *b = &l->slots[l->taken % l->n_slots];
        l->taken++;
        pthread_cond_signal(&l->emptied);
    }
    pthread_mutex_unlock(&l->lock);
    /* once the thread has failed it writes no more, so its sentence may be read here */
    return ready ? STATUS_OK : status_set(l->failure, "%s", l->message);
}

double loader_wait_seconds(struct loader *l)
{
    pthread_mutex_lock(&l->lock);
    const double waited = l->wait_seconds;
    l->wait_seconds = 0;
    pthread_mutex_unlock(&l->lock);
    return waited;
}
