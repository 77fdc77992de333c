#include "data/text_pipeline.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/log.h"

enum slot_state { SLOT_EMPTY, SLOT_FULL, SLOT_TAKEN, SLOT_DONE };

struct slot {
    struct text_batch batch;
    enum slot_state state;
};

/* Batch number i lies in slots[i % n_slots]; the three counters only grow. */
struct run {
    const struct text_pipeline *plan;
    struct slot *slots;
    int64_t n_slots;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t n_read, n_taken, n_finished;
    bool end_of_text;
    status_t status; /* the first failure, with its sentence */
    char message[2048];
};

struct thread {
    struct run *run;
    int number;
    pthread_t id;
    bool started;
};

static void fail(struct run *r, status_t st)
{
    pthread_mutex_lock(&r->lock);
    if (r->status == STATUS_OK) {
        r->status = st;
        strncpy(r->message, status_message(), sizeof r->message - 1);
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static bool has_failed(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    const bool failed = r->status != STATUS_OK;
    pthread_mutex_unlock(&r->lock);
    return failed;
}

static void set_state(struct run *r, struct slot *s, enum slot_state state)
{
    pthread_mutex_lock(&r->lock);
    s->state = state;
    if (state == SLOT_FULL) r->n_read++;
    if (state == SLOT_EMPTY) r->n_finished++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* The next slot to read into, or NULL when the run has failed. */
static struct slot *wait_for_empty(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    struct slot *s = &r->slots[r->n_read % r->n_slots];
    while (r->status == STATUS_OK && s->state != SLOT_EMPTY)
        pthread_cond_wait(&r->changed, &r->lock);
    if (r->status != STATUS_OK) s = NULL;
    pthread_mutex_unlock(&r->lock);
    if (s) {
        s->batch.bytes = 0;
        s->batch.n_parts = 0;
        s->batch.ids.n = s->batch.loss.n = 0;
    }
    return s;
}

static status_t reserve(struct text_batch *b, size_t bytes)
{
    if (b->bytes + bytes > b->capacity) {
        const size_t larger = b->bytes + bytes + TEXT_BATCH_BYTES;
        char *text = realloc(b->text, larger);
        if (!text)
            return status_set(STATUS_NOMEM, "no memory for %zu bytes of text", larger);
        b->text = text;
        b->capacity = larger;
    }
    if (b->n_parts == b->parts_capacity) {
        const int64_t larger = 2 * b->parts_capacity + 64;
        struct text_part *parts = realloc(b->parts, (size_t)larger * sizeof *parts);
        if (!parts) return status_set(STATUS_NOMEM, "no memory for a batch of text");
        b->parts = parts;
        b->parts_capacity = larger;
    }
    return STATUS_OK;
}

/* Spread one document over batches, from *slot on, which is NULL when a new one is due. */
static status_t add_document(struct run *r, const struct text_document *d,
                             struct slot **slot)
{
    const struct text_pipeline *p = r->plan;
    const uint64_t hash = hash_xxh3(d->text, d->bytes);
    for (size_t at = 0; at < d->bytes;) {
        if (!*slot) *slot = wait_for_empty(r);
        if (!*slot) return STATUS_OK; /* failed elsewhere */
        struct text_batch *b = &(*slot)->batch;
        const size_t left = d->bytes - at;
        const size_t room = TEXT_BATCH_BYTES - b->bytes;
        const size_t n =
            left <= room ? left : p->cut(p->context, d->text + at, left, room);
        TRY(reserve(b, n));
        memcpy(b->text + b->bytes, d->text + at, n);
        b->parts[b->n_parts++] = (struct text_part){.offset = b->bytes,
                                                    .bytes = n,
                                                    .document_hash = hash,
                                                    .document_bytes = d->bytes,
                                                    .is_last = at + n == d->bytes,
                                                    .path = d->path,
                                                    .line = d->line};
        b->bytes += n;
        at += n;
        if (b->bytes < TEXT_BATCH_BYTES) continue;
        set_state(r, *slot, SLOT_FULL);
        *slot = NULL;
    }
    return STATUS_OK;
}

static void *read_text(void *argument)
{
    struct run *r = ((struct thread *)argument)->run;
    struct slot *slot = NULL;
    struct text_document d;
    status_t st;
    while ((st = text_next(r->plan->text, &d)) == STATUS_OK && d.bytes > 0) {
        st = add_document(r, &d, &slot);
        if (st != STATUS_OK || has_failed(r)) break;
    }
    if (st != STATUS_OK) {
        fail(r, st);
        return NULL;
    }
    if (slot) set_state(r, slot, SLOT_FULL);
    pthread_mutex_lock(&r->lock);
    r->end_of_text = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- working and finishing --------------------------------------------------------------- */

static struct slot *wait_for_full(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->status == STATUS_OK && r->n_taken == r->n_read && !r->end_of_text)
        pthread_cond_wait(&r->changed, &r->lock);
    struct slot *s = NULL;
    if (r->status == STATUS_OK && r->n_taken < r->n_read) {
        s = &r->slots[r->n_taken++ % r->n_slots];
        s->state = SLOT_TAKEN;
    }
    pthread_mutex_unlock(&r->lock);
    return s;
}

static void *work_on_text(void *argument)
{
    const struct thread *t = argument;
    struct run *r = t->run;
    struct slot *s;
    while ((s = wait_for_full(r))) {
        const status_t st = r->plan->work(r->plan->context, t->number, &s->batch);
        if (st != STATUS_OK) {
            fail(r, st);
            break;
        }
        set_state(r, s, SLOT_DONE);
    }
    return NULL;
}

static struct slot *wait_for_done(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    struct slot *s = &r->slots[r->n_finished % r->n_slots];
    while (r->status == STATUS_OK && s->state != SLOT_DONE &&
           !(r->end_of_text && r->n_finished == r->n_read))
        pthread_cond_wait(&r->changed, &r->lock);
    if (r->status != STATUS_OK || s->state != SLOT_DONE) s = NULL;
    pthread_mutex_unlock(&r->lock);
    return s;
}

static void finish_text(struct run *r)
{
    struct slot *s;
    while ((s = wait_for_done(r))) {
        if (r->plan->finish) {
            const status_t st = r->plan->finish(r->plan->context, &s->batch);
            if (st != STATUS_OK) {
                fail(r, st);
                return;
            }
        }
        set_state(r, s, SLOT_EMPTY);
    }
}

/* ---- the run ----------------------------------------------------------------------------- */

static void start(struct run *r, struct thread *t, int number, void *(*body)(void *))
{
    *t = (struct thread){.run = r, .number = number};
    const int rc = pthread_create(&t->id, NULL, body, t);
    t->started = rc == 0;
    if (rc != 0)
        fail(r, status_set(STATUS_NOMEM, "cannot start a thread: %s", strerror(rc)));
}

status_t text_pipeline_run(const struct text_pipeline *p)
{
    CHECK(p->n_threads >= 1);
    struct run r = {.plan = p, .n_slots = 2 * (int64_t)p->n_threads + 2};
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.changed, NULL);
    r.slots = calloc((size_t)r.n_slots, sizeof *r.slots);
    struct thread *threads = calloc((size_t)p->n_threads + 1, sizeof *threads);
    if (!r.slots || !threads) {
        fail(&r, status_set(STATUS_NOMEM, "no memory for %d threads", p->n_threads));
    } else {
        start(&r, &threads[p->n_threads], 0, read_text);
        for (int i = 0; i < p->n_threads; i++) start(&r, &threads[i], i, work_on_text);
        finish_text(&r);
        for (int i = 0; i <= p->n_threads; i++)
            if (threads[i].started) pthread_join(threads[i].id, NULL);
    }
    for (int64_t i = 0; r.slots && i < r.n_slots; i++) {
        free(r.slots[i].batch.text);
        free(r.slots[i].batch.parts);
        token_list_release(&r.slots[i].batch.ids);
        token_list_release(&r.slots[i].batch.loss);
    }
    free(r.slots);
    free(threads);
    pthread_cond_destroy(&r.changed);
    pthread_mutex_destroy(&r.lock);
    return r.status == STATUS_OK ? STATUS_OK : status_set(r.status, "%s", r.message);
}
