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
    int32_t *slots; /* [n] of the period */
    int64_t
        length; /* of the period: MIXTURE_PERIOD without the common factor of the slots */
    uint32_t *period; /* [length] */
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

/* Equal weights or a single source need no long period. */
static int64_t reduce(int32_t *slots, int n)
{
    int32_t factor = MIXTURE_PERIOD;
    for (int k = 0; k < n; k++)
        for (int32_t b = slots[k], rest; b != 0; b = rest) { /* Euclid */
            rest = factor % b;
            factor = b;
        }
    for (int k = 0; k < n; k++) slots[k] /= factor;
    return MIXTURE_PERIOD / factor;
}

/* ---- their order: earliest deadline first ----------------------------------------------- */

struct order {
    const struct mixture *m;
    int32_t *placed;   /* [n] copies laid out so far */
    int32_t *waiting;  /* [length] first source whose next copy may start there */
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
    const int64_t j = o->placed[source], c = o->m->slots[source], P = o->m->length;
    if (j == c) return;
    const int64_t release = j * P / c;
    o->deadline[source] = ((j + 1) * P + c - 1) / c;
    o->next[source] = o->waiting[release];
    o->waiting[release] = source;
}

static void lay_out(struct order *o)
{
    const struct mixture *m = o->m;
    for (int64_t at = 0; at < m->length; at++) o->waiting[at] = NONE;
    for (int32_t k = 0; k < m->n; k++) announce(o, k);
    for (int64_t at = 0; at < m->length; at++) {
        for (int32_t k = o->waiting[at]; k != NONE; k = o->next[k]) heap_push(o, k);
        CHECK(o->n_heap > 0);
        const int32_t source = heap_pop(o);
        CHECK(at < o->deadline[source]);
        m->period[at] = (uint32_t)source << COUNT_BITS | (uint32_t)o->placed[source]++;
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

static status_t no_memory(int n)
{
    return status_set(STATUS_NOMEM, "no memory for a mixture of %d sources", n);
}

static status_t count_slots(struct mixture *m, const double *weights)
{
    double *rest = malloc((size_t)m->n * sizeof *rest);
    m->slots = malloc((size_t)m->n * sizeof *m->slots);
    const bool ok = rest && m->slots;
    if (ok) {
        apportion(weights, m->n, rest, m->slots);
        m->length = reduce(m->slots, m->n);
    }
    free(rest);
    return ok ? STATUS_OK : no_memory(m->n);
}

static status_t order_slots(struct mixture *m)
{
    const size_t n = (size_t)m->n, length = (size_t)m->length;
    m->period = malloc(length * sizeof *m->period);
    struct order o = {.m = m,
                      .placed = calloc(n, sizeof *o.placed),
                      .waiting = malloc(length * sizeof *o.waiting),
                      .next = malloc(n * sizeof *o.next),
                      .heap = malloc(n * sizeof *o.heap),
                      .deadline = malloc(n * sizeof *o.deadline)};
    const bool ok = m->period && o.placed && o.waiting && o.next && o.heap && o.deadline;
    if (ok) lay_out(&o);
    free(o.placed);
    free(o.waiting);
    free(o.next);
    free(o.heap);
    free(o.deadline);
    return ok ? STATUS_OK : no_memory(m->n);
}

status_t mixture_create(struct mixture **m, const double *weights, int n)
{
    *m = NULL;
    TRY(check_weights(weights, n));
    struct mixture *x = calloc(1, sizeof *x);
    if (!x) return no_memory(n);
    x->n = n;
    status_t st = count_slots(x, weights);
    if (st == STATUS_OK) st = order_slots(x);
    if (st == STATUS_OK)
        *m = x;
    else
        mixture_destroy(&x);
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
    return m->slots[source] * (MIXTURE_PERIOD / m->length);
}

void mixture_at(const struct mixture *m, int64_t i, int *source, int64_t *nth)
{
    CHECK(i >= 0);
    const uint32_t slot = m->period[i % m->length];
    *source = (int)(slot >> COUNT_BITS);
    *nth = i / m->length * m->slots[*source] + (slot & (MIXTURE_PERIOD - 1));
}
