#include "work.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block.h"
#include "memory.h"

struct op {
    struct payload *payload; /* NULL: a mark, or done */
    int n_refs;
    bool begun, done;
    bool stalled;    /* said PENDING since anything was done */
    unsigned needed; /* serial number of the last wait that needs it */
    int manner;      /* of waiting for it; 0: nobody has */
    double done_ms;
    int n_before, n_undone; /* operations before it; those of them that are not done */
    struct op **before;     /* held until it is done */
    int n_behind, behind_capacity;
    struct op **behind; /* held until it is done */
};

static struct op **ready; /* held */
static int n_ready, ready_capacity;
static int n_live; /* added and not done */
static long n_run; /* operations that began to run, marks not counted */
static unsigned wait_serial;
static const char *running; /* name of the operation */
static cudaError_t failure;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- lock -------------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void work_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void work_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

/* ---- payloads and operations --------------------------------------------------------------------- */

static void *must(void *p)
{
    if (!p) emulation_fail("no memory for queued work");
    return p;
}

struct payload *payload_create(const char *name,
                               enum emulation_progress (*run)(void *context),
                               void (*release)(void *context), void *context)
{
    struct payload *const p = must(calloc(1, sizeof *p));
    *p = (struct payload){
        .name = name, .run = run, .release = release, .context = context, .n_refs = 1};
    return p;
}

void payload_drop(struct payload *p)
{
    if (!p || --p->n_refs > 0) return;
    if (p->release) p->release(p->context);
    free(p);
}

struct op *op_hold(struct op *o)
{
    if (o) o->n_refs++;
    return o;
}

void op_drop(struct op **o)
{
    struct op *const old = *o;
    *o = NULL;
    if (!old || --old->n_refs > 0) return;
    free(old->before); /* its entries went when it was done */
    free(old->behind);
    free(old);
}

bool op_done(const struct op *o)
{
    return !o || o->done;
}

double op_done_ms(const struct op *o)
{
    return o->done_ms;
}

static void push(struct op ***list, int *n, int *capacity, struct op *o)
{
    if (*n == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 4;
        *list = must(realloc(*list, (size_t)*capacity * sizeof **list));
    }
    (*list)[(*n)++] = op_hold(o);
}

struct op *work_add(struct payload *p, struct op *const *before, int n)
{
    struct op *const o = must(calloc(1, sizeof *o));
    o->payload = p;
    o->n_refs = 1;
    o->before = n ? must(calloc((size_t)n, sizeof(struct op *))) : NULL;
    for (int i = 0; i < n; i++) {
        if (op_done(before[i])) continue;
        o->before[o->n_before++] = op_hold(before[i]);
        o->n_undone++;
        push(&before[i]->behind, &before[i]->n_behind, &before[i]->behind_capacity, o);
    }
    n_live++;
    if (o->n_undone == 0) push(&ready, &n_ready, &ready_capacity, o);
    if (p && p->queued) p->queued(p->context);
    return o;
}

/* ---- running ------------------------------------------------------------------------------------- */

cudaError_t work_failure(void)
{
    return failure;
}

void work_set_failure(cudaError_t e)
{
    if (!failure) failure = e;
}

static void finish(int index)
{
    struct op *o = ready[index];
    ready[index] = ready[--n_ready];
    o->done = true;
    o->done_ms = now_ms();
    n_live--;
    for (int i = 0; i < o->n_before; i++) op_drop(&o->before[i]);
    o->n_before = 0;
    for (int i = 0; i < o->n_behind; i++) {
        struct op *const next = o->behind[i];
        if (--next->n_undone == 0) push(&ready, &n_ready, &ready_capacity, next);
        op_drop(&o->behind[i]);
    }
    o->n_behind = 0;
    for (int i = 0; i < n_ready; i++) ready[i]->stalled = false;
    payload_drop(o->payload);
    o->payload = NULL;
    op_drop(&o);
}

/* Does a fault keep the operation from running? */
static bool struck(const struct payload *p)
{
    const char *const ecc = emulation_fault("ecc");
    n_run++;
    if (ecc && n_run >= strtol(ecc, NULL, 10))
        work_set_failure(cudaErrorECCUncorrectable);
    if (emulation_fault_names("fault", p->name)) work_set_failure(cudaErrorLaunchFailure);
    return failure != cudaSuccess;
}

static enum emulation_progress run_payload(struct op *o)
{
    static const struct op *hung;
    const char *const hang = emulation_fault("hang");
    if (o == hung) return EMULATION_PENDING;
    if (!o->begun) {
        o->begun = true;
        if (struck(o->payload)) return EMULATION_PENDING;
        if (hang && n_run == strtol(hang, NULL, 10)) {
            hung = o;
            return EMULATION_PENDING;
        }
    }
    running = o->payload->name;
    const enum emulation_progress progress = o->payload->run(o->payload->context);
    running = NULL;
    return progress;
}

/* Run one ready operation; false: it is still pending. */
static bool run_one(int index)
{
    struct op *const o = ready[index];
    if (o->payload && run_payload(o) == EMULATION_PENDING) {
        o->stalled = true;
        return false;
    }
    finish(index);
    return true;
}

/* A random ready operation that has not stalled and is needed by the current wait or not, as asked;
 * -1: none. */
static int choose(bool needed)
{
    int found = -1;
    uint32_t n = 0;
    for (int i = 0; i < n_ready; i++) {
        if (ready[i]->stalled || (ready[i]->needed == wait_serial) != needed) continue;
        if (emulation_random(++n) == 0) found = i;
    }
    return found;
}

static void mark_needed(struct op *target)
{
    static struct op **stack;
    static int capacity;
    int n = 0;
    wait_serial++;
    if (!target) return;
    push(&stack, &n, &capacity, target);
    while (n > 0) {
        struct op *o = stack[--n];
        if (o->needed != wait_serial) {
            o->needed = wait_serial;
            for (int i = 0; i < o->n_before; i++) {
                if (!op_done(o->before[i])) push(&stack, &n, &capacity, o->before[i]);
            }
        }
        op_drop(&o);
    }
}

/* Everything waits for something outside: another process, or a fault. */
static void nap(void)
{
    const struct timespec t = {.tv_nsec = 20000};
    for (int i = 0; i < n_ready; i++) ready[i]->stalled = false;
    memory_close();
    work_unlock();
    nanosleep(&t, NULL);
    work_lock();
    memory_open();
}

enum { LAZY = 1, EAGER, ANY, MANNERS = 3 };

/* Run at most n operations for a wait for o (NULL: for everything); false: all that is ready has
 * stalled.  The manner of a wait stays what it is when the host asks again and again. */
static bool run_towards(struct op *o, uint32_t n)
{
    int any = ANY;
    int *const manner = o ? &o->manner : &any;
    if (*manner == 0) *manner = 1 + (int)emulation_random(MANNERS);
    mark_needed(o);
    while ((o ? !o->done : n_live > 0) && !failure && n-- > 0) {
        const bool needed = *manner == LAZY || (*manner == ANY && emulation_random(2));
        int i = choose(needed);
        if (i < 0) i = choose(!needed);
        if (i < 0) return false;
        run_one(i);
    }
    return true;
}

void work_wait(struct op *o)
{
    if (o ? o->done : n_live == 0) return;
    op_hold(o);
    memory_open();
    while ((o ? !o->done : n_live > 0) && !failure) {
        if (!run_towards(o, UINT32_MAX)) nap();
    }
    memory_close();
    op_drop(&o);
}

void work_some(struct op *o)
{
    const uint32_t much = emulation_random(4);
    if (much == 0 || n_ready == 0 || failure) return;
    op_hold(o);
    memory_open();
    for (int i = 0; i < n_ready; i++) ready[i]->stalled = false;
    run_towards(o, o && much == 3 ? UINT32_MAX : 1 + emulation_random(4));
    memory_close();
    op_drop(&o);
}

void work_describe(char *text, size_t bytes)
{
    *text = 0;
    if (!running) return;
    char where[96];
    block_describe(where, sizeof where);
    snprintf(text, bytes, "%s%s", running, where);
}
