#include "parallel/dp/dp.h"

#include <stdlib.h>

#include "core/log.h"

/* Buckets under way at a time; each costs staging.  Measured on 2 ranks of one host, 124 million
 * elements, 56 calls of dp_ready: with buckets of 4 to 25 MiB, dp_finish still had to wait for
 * most of the traffic with 1, for a quarter of it with 2, and for less than a twentieth with
 * 4. */
enum { IN_FLIGHT_MAX = 4 };

/* One operation on every bucket of a buffer, in order: [0, n_done) are done, [n_done,
 * n_started) under way, [n_started, n_final) may begin. */
struct pass {
    enum comm_op op;
    float *x; /* NULL: no pass is going on */
    int64_t n_final, n_started, n_done;
};

struct dp {
    struct comm *comm;
    struct dp_buckets buckets;
    enum comm_op op;
    int n_requests;
    struct comm_request *requests[IN_FLIGHT_MAX]; /* bucket k uses k mod n_requests */
    struct pass backward;
    int64_t low; /* as last said by dp_ready */
};

status_t dp_create(struct dp **dp, struct comm *c, int64_t n_elements,
                   int64_t bucket_elements, enum comm_op op, struct arena *arena)
{
    const int size = comm_size(c);
    CHECK(op == COMM_REDUCE_SCATTER || op == COMM_ALL_REDUCE);
    CHECK(n_elements == dp_padded_elements(n_elements, size));
    CHECK(bucket_elements > 0);
    *dp = NULL;
    struct dp *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for gradient buckets");
    made->comm = c;
    made->op = op;
    if (bucket_elements > n_elements) bucket_elements = n_elements > 0 ? n_elements : 1;
    made->buckets =
        dp_buckets_make(n_elements, dp_padded_elements(bucket_elements, size));
    made->n_requests = made->buckets.n_buckets < IN_FLIGHT_MAX
                           ? (int)made->buckets.n_buckets
                           : IN_FLIGHT_MAX;
    for (int i = 0; i < made->n_requests; i++) {
        const status_t st = comm_request_create(&made->requests[i], c,
                                                made->buckets.bucket_elements, arena);
        if (st != STATUS_OK) {
            dp_destroy(&made);
            return st;
        }
    }
    *dp = made;
    return STATUS_OK;
}

void dp_destroy(struct dp **dp)
{
    if (!*dp) return;
    for (int i = 0; i < (*dp)->n_requests; i++) comm_request_destroy(&(*dp)->requests[i]);
    free(*dp);
    *dp = NULL;
}

static struct comm_request *request_of(const struct dp *dp, int64_t bucket)
{
    return dp->requests[bucket % dp->n_requests];
}

/* Begin what may begin and has a request free. */
static void start_buckets(struct dp *dp, struct pass *p)
{
    while (p->n_started < p->n_final && p->n_started - p->n_done < dp->n_requests) {
        int64_t start, end;
        dp_bucket(&dp->buckets, p->n_started, &start, &end);
        comm_start_op(request_of(dp, p->n_started), p->op, p->x + start, end - start,
                      (int)(p->n_started % dp->n_requests));
        p->n_started++;
    }
}

/* Move on all that is under way, without waiting. */
static void move_buckets(struct dp *dp, struct pass *p)
{
    start_buckets(dp, p);
    for (int64_t k = p->n_done; k < p->n_started; k++) {
        if (comm_test(request_of(dp, k)) && k == p->n_done) {
            p->n_done++;
            start_buckets(dp, p);
        }
    }
}

/* All buckets are final: end the pass. */
static void finish_buckets(struct dp *dp, struct pass *p)
{
    p->n_final = dp->buckets.n_buckets;
    start_buckets(dp, p);
    while (p->n_done < p->n_started) {
        comm_wait(request_of(dp, p->n_done));
        p->n_done++;
        start_buckets(dp, p);
    }
    p->x = NULL;
}

void dp_begin(struct dp *dp, float *grads)
{
    CHECK(!dp->backward.x && grads);
    dp->backward = (struct pass){.op = dp->op, .x = grads};
    dp->low = dp->buckets.n_elements;
}

void dp_ready(struct dp *dp, int64_t low)
{
    CHECK(dp->backward.x);
    CHECK(low >= 0 && low <= dp->low);
    dp->low = low;
    dp->backward.n_final = dp_buckets_behind(&dp->buckets, low);
    move_buckets(dp, &dp->backward);
}

void dp_finish(struct dp *dp)
{
    CHECK(dp->backward.x);
    finish_buckets(dp, &dp->backward);
}

void dp_gather(struct dp *dp, float *params)
{
    CHECK(!dp->backward.x); /* the requests are in use until dp_finish */
    if (dp->op == COMM_ALL_REDUCE) return;
    struct pass p = {.op = COMM_ALL_GATHER, .x = params};
    finish_buckets(dp, &p);
}

int64_t dp_n_owned(const struct dp *dp)
{
    return dp->buckets.n_buckets;
}

void dp_owned(const struct dp *dp, int64_t i, int64_t *start, int64_t *count)
{
    int64_t first, end;
    dp_bucket(&dp->buckets, dp->buckets.n_buckets - 1 - i, &first, &end);
    comm_slice(end - first, comm_size(dp->comm), comm_rank(dp->comm), start, count);
    *start += first;
}

int64_t dp_n_elements(const struct dp *dp)
{
    return dp->buckets.n_elements;
}

enum comm_op dp_op(const struct dp *dp)
{
    return dp->op;
}
