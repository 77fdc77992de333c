#include "data/mixture.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/log.h"

/* A slot holds its source in the upper bits and the count inside the period in the lower. */
enum { COUNT_BITS = 20, NONE = -1 };
_Static_assert(MIXTURE_PERIOD == 1 << COUNT_BITS, "a count must fit its bits");
_Static_assert(MIXTURE_MAX_SOURCES == 1 << (32 - COUNT_BITS),
               "a source must fit its bits");

struct mixture {
    int n;
    int32_t *slots;   /* [n] per period */
    uint32_t *period; /* [MIXTURE_PERIOD] */
};

/* ---- whole numbers of slots ------------------------------------------------------------- */

static int largest(const double *x, int n)
{
    int best = 0;
    for (int k = 1; k < n; k++)
        if (x[k] > x[best]) best = k;
    return best;
}

/* Largest remainder, but nobody is rounded to nothing.  `rest` [n] is room to work in. */
static void apportion(const double *weights, int n, double *rest, int32_t *slots)
{
    const double top = weights[largest(weights, n)]; /* no overflow in the sum */
    double sum = 0;
    for (int k = 0; k < n; k++) sum += weights[k] / top;
    int64_t left = MIXTURE_PERIOD;
    for (int k = 0; k < n; k++) {
        const double share = weights[k] / top / sum * MIXTURE_PERIOD;
        slots[k] = share < 1 ? 1 : (int32_t)share;
        rest[k] = share - slots[k];
        left -= slots[k];
    }
    for (; left > 0; left--) {
        const int k = largest(rest, n);
        slots[k]++;
        rest[k] -= 1;
    }
    for (; left < 0; left++) { /* the tiny ones were rounded up: the largest pays */
        int most = 0;
        for (int k = 1; k < n; k++)
            if (slots[k] > slots[most]) most = k;
        slots[most]--;
    }
}

/* ---- their order: earliest deadline first ----------------------------------------------- */

struct order {
    const int32_t *slots;
    int32_t *placed;   /* [n] copies laid out so far */
    int32_t *waiting;  /* [MIXTURE_PERIOD] first source whose next copy may start there */
    int32_t *next;     /* [n] the next one in that list */
    int32_t *heap;     /* [n] sources that may go now, soonest deadline on top */
    int64_t *deadline; /* [n] of the next copy */
    int n_heap;
};

static bool sooner(const struct order *o, int32_t a, int32_t b)
{
    return o->deadline[a] < o->deadline[b] || (o->deadline[a] == o->deadline[b] && a < b);
}

static void heap_push(struct order *o, int32_t source)
{
    int at = o->n_heap++;
    while (at > 0 && sooner(o, source, o->heap[(at - 1) / 2])) {
        o->heap[at] = o->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    o->heap[at] = source;
}

static int32_t heap_pop(struct order *o)
{
    const int32_t top = o->heap[0], moved = o->heap[--o->n_heap];
    int at = 0;
    for (int child = 1; child < o->n_heap; child = 2 * at + 1) {
        if (child + 1 < o->n_heap && sooner(o, o->heap[child + 1], o->heap[child]))
            child++;
        if (!sooner(o, o->heap[child], moved)) break;
        o->heap[at] = o->heap[child];
        at = child;
    }
    o->heap[at] = moved;
    return top;
}

/* The window of slots for the next copy of `source`. */
static void announce(struct order *o, int32_t source)
{
    const int64_t j = o->placed[source], c = o->slots[source];
    if (j == c) return;
    const int64_t release = j * MIXTURE_PERIOD / c;
    o->deadline[source] = ((j + 1) * MIXTURE_PERIOD + c - 1) / c;
    o->next[source] = o->waiting[release];
    o->waiting[release] = source;
}

static void lay_out(struct order *o, int n, uint32_t *period)
{
    for (int64_t at = 0; at < MIXTURE_PERIOD; at++) o->waiting[at] = NONE;
    for (int32_t k = 0; k < n; k++) announce(o, k);
    for (int64_t at = 0; at < MIXTURE_PERIOD; at++) {
        for (int32_t k = o->waiting[at]; k != NONE; k = o->next[k]) heap_push(o, k);
        CHECK(o->n_heap > 0);
        const int32_t source = heap_pop(o);
        CHECK(at < o->deadline[source]);
        period[at] = (uint32_t)source << COUNT_BITS | (uint32_t)o->placed[source]++;
        announce(o, source);
    }
}

/* ---- interface -------------------------------------------------------------------------- */

static status_t check_weights(const double *weights, int n)
{
    if (n < 1 || n > MIXTURE_MAX_SOURCES)
        return status_set(STATUS_CONFIG, "a mixture of %d sources: 1 to %d are possible",
                          n, MIXTURE_MAX_SOURCES);
    for (int k = 0; k < n; k++)
        if (!isfinite(weights[k]) || weights[k] <= 0)
            return status_set(
                STATUS_CONFIG,
                "source %d of the mixture: weight %g must be a finite number above 0",
                k + 1, weights[k]);
    return STATUS_OK;
}

status_t mixture_create(struct mixture **m, const double *weights, int n)
{
    *m = NULL;
    TRY(check_weights(weights, n));
    const size_t count = (size_t)n;
    struct mixture *x = calloc(1, sizeof *x);
    double *rest = malloc(count * sizeof *rest);
    struct order o = {.placed = calloc(count, sizeof *o.placed),
                      .waiting = malloc(MIXTURE_PERIOD * sizeof *o.waiting),
                      .next = malloc(count * sizeof *o.next),
                      .heap = malloc(count * sizeof *o.heap),
                      .deadline = malloc(count * sizeof *o.deadline)};
    status_t st = STATUS_OK;
    if (x) {
        x->n = n;
        x->slots = malloc(count * sizeof *x->slots);
        x->period = malloc(MIXTURE_PERIOD * sizeof *x->period);
    }
    if (!x || !x->slots || !x->period || !rest || !o.placed || !o.waiting || !o.next ||
        !o.heap || !o.deadline) {
        st = status_set(STATUS_NOMEM, "no memory for a mixture of %d sources", n);
        goto out;
    }
    apportion(weights, n, rest, x->slots);
    o.slots = x->slots;
    lay_out(&o, n, x->period);
    *m = x;
    x = NULL;
out:
    mixture_destroy(&x);
    free(rest);
    free(o.placed);
    free(o.waiting);
    free(o.next);
    free(o.heap);
    free(o.deadline);
    return st;
}

void mixture_destroy(struct mixture **m)
{
    if (!*m) return;
    free((*m)->slots);
    free((*m)->period);
    free(*m);
    *m = NULL;
}

int64_t mixture_slots(const struct mixture *m, int source)
{
    CHECK(source >= 0 && source < m->n);
    return m->slots[source];
}

void mixture_at(const struct mixture *m, int64_t i, int *source, int64_t *nth)
{
    CHECK(i >= 0);
    const uint32_t slot = m->period[i % MIXTURE_PERIOD];
    *source = (int)(slot >> COUNT_BITS);
    *nth = i / MIXTURE_PERIOD * m->slots[*source] + (slot & (MIXTURE_PERIOD - 1));
}
