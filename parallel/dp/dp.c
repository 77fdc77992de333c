#include "parallel/dp/dp.h"

#include <stdlib.h>

#include "core/log.h"

/* One operation on every bucket of a buffer, one after the other: [0, n_done) are done, [n_done,
 * n_started) under way, [n_started, n_final) may begin. */
struct pass {
    enum comm_op op;
    bool from_start; /* of the buffer: the last bucket is the first of this pass */
    char *x;         /* NULL: no pass is going on */
    enum dtype t;
    int64_t n_final, n_started, n_done;
};

struct dp {
    struct comm *comm;
    struct dp_buckets buckets;
    enum comm_op op;
    int n_requests;
    struct comm_request *
        *requests; /* [n_requests]; bucket k of a pass uses k mod n_requests */
    struct pass backward, gather; /* never both */
    int64_t low;                  /* as last said by dp_ready */
    int64_t high;                 /* as last said by dp_gather_ready */
    dp_reduced *reduced;          /* hears of the buckets of backward */
    void *reduced_context;
};

status_t dp_create(struct dp **dp, struct comm *c, struct dp_buckets buckets,
                   enum comm_op op, struct arena *arena)
{
    CHECK(op == COMM_REDUCE_SCATTER || op == COMM_ALL_REDUCE);
    CHECK(buckets.n_elements == dp_padded_elements(buckets.n_elements, comm_size(c)));
    CHECK(buckets.bucket_elements ==
          dp_padded_elements(buckets.bucket_elements, comm_size(c)));
    *dp = NULL;
    struct dp *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for gradient buckets");
    made->comm = c;
    made->op = op;
    made->buckets = buckets;
    made->n_requests = comm_in_flight(c);
    if (made->n_requests > made->buckets.n_buckets)
        made->n_requests = (int)made->buckets.n_buckets;
    made->requests = calloc((size_t)made->n_requests + 1, sizeof *made->requests);
    status_t st = STATUS_OK;
    if (!made->requests) st = status_set(STATUS_NOMEM, "no memory for gradient buckets");
    for (int i = 0; st == STATUS_OK && i < made->n_requests; i++)
        st = comm_request_create(&made->requests[i], c, made->buckets.bucket_elements,
                                 arena);
    if (st == STATUS_OK)
        *dp = made;
    else
        dp_destroy(&made);
    return st;
}

void dp_destroy(struct dp **dp)
{
    if (!*dp) return;
    for (int i = 0; (*dp)->requests && i < (*dp)->n_requests; i++)
        comm_request_destroy(&(*dp)->requests[i]);
    free((*dp)->requests);
    free(*dp);
    *dp = NULL;
}

static struct comm_request *request_of(const struct dp *dp, int64_t k)
{
    return dp->requests[k % dp->n_requests];
}

static void bucket_of(const struct dp *dp, const struct pass *p, int64_t k,
                      int64_t *start, int64_t *end)
{
    const int64_t bucket = p->from_start ? dp->buckets.n_buckets - 1 - k : k;
    dp_bucket(&dp->buckets, bucket, start, end);
}

/* Begin what may begin and has a request free. */
static void start_buckets(struct dp *dp, struct pass *p)
{
    while (p->n_started < p->n_final && p->n_started - p->n_done < dp->n_requests) {
        int64_t start, end;
        bucket_of(dp, p, p->n_started, &start, &end);
        comm_start_op(request_of(dp, p->n_started), p->op,
                      p->x + (size_t)start * dtype_bytes(p->t), p->t, end - start,
                      (int)(p->n_started % dp->n_requests));
        p->n_started++;
    }
}

/* The oldest bucket under way is done. */
static void count_done(struct dp *dp, struct pass *p)
{
    int64_t start, end;
    bucket_of(dp, p, p->n_done++, &start, &end);
    if (p == &dp->backward && dp->reduced) dp->reduced(dp->reduced_context, start, end);
}

/* Move on all that is under way, without waiting; what moves by itself is only asked after. */
static void move_buckets(struct dp *dp, struct pass *p)
{
    start_buckets(dp, p);
    for (int64_t k = p->n_done; k < p->n_started; k++) {
        const bool done = comm_test(request_of(dp, k));
        if (!done && !comm_needs_host(dp->comm)) return;
        if (done && k == p->n_done) {
            count_done(dp, p);
            start_buckets(dp, p);
        }
    }
}

/* The first `n` buckets of the pass, all of them final, are done. */
static void wait_buckets(struct dp *dp, struct pass *p, int64_t n)
{
    while (p->n_done < n) {
        start_buckets(dp, p);
        comm_wait(request_of(dp, p->n_done));
        count_done(dp, p);
    }
    start_buckets(dp, p);
}

static void finish_buckets(struct dp *dp, struct pass *p)
{
    p->n_final = dp->buckets.n_buckets;
    wait_buckets(dp, p, p->n_final);
    p->x = NULL;
}

/* ---- gradients ----------------------------------------------------------------------------- */

void dp_set_reduced(struct dp *dp, dp_reduced *reduced, void *context)
{
    CHECK(!dp->backward.x);
    dp->reduced = reduced;
    dp->reduced_context = context;
}

void dp_begin(struct dp *dp, float *grads)
{
    CHECK(!dp->backward.x && grads);
    CHECK(!dp->gather.x); /* its requests are in use until dp_gather_finish */
    dp->backward = (struct pass){.op = dp->op, .x = (char *)grads, .t = DTYPE_F32};
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

/* ---- weights ------------------------------------------------------------------------------- */

void dp_gather_begin(struct dp *dp, void *params, enum dtype t)
{
    CHECK(!dp->gather.x && params);
    CHECK(!dp->backward.x); /* its requests are in use until dp_finish */
    if (dp->op == COMM_ALL_REDUCE) return;
    dp->gather =
        (struct pass){.op = COMM_ALL_GATHER, .from_start = true, .x = params, .t = t};
    dp->high = 0;
}

void dp_gather_ready(struct dp *dp, int64_t high)
{
    struct pass *p = &dp->gather;
    if (!p->x) return;
    CHECK(high >= dp->high && high <= dp->buckets.n_elements);
    dp->high = high;
    for (; p->n_final < dp->buckets.n_buckets; p->n_final++) {
        int64_t start, count;
        dp_owned(dp, p->n_final, &start, &count);
        if (start + count > high) break;
    }
    move_buckets(dp, p);
}

void dp_gather_need(struct dp *dp, int64_t low, int64_t high)
{
    struct pass *p = &dp->gather;
    if (!p->x || low >= high) return;
    CHECK(low >= 0 && high <= dp->buckets.n_elements);
    /* bucket 0 is the last of this pass and ends with the buffer */
    const int64_t last = dp_bucket_of(&dp->buckets, high - 1);
    const int64_t n = dp->buckets.n_buckets - last;
    CHECK(n <= p->n_final); /* nobody said that it is ready */
    wait_buckets(dp, p, n);
    move_buckets(dp, p);
}

void dp_gather_finish(struct dp *dp)
{
    if (dp->gather.x) finish_buckets(dp, &dp->gather);
}

/* ---- who owns what ------------------------------------------------------------------------- */

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

size_t dp_host_bytes(const struct dp *dp)
{
    return (size_t)dp->n_requests *
           comm_request_host_bytes(dp->comm, dp->buckets.bucket_elements);
}

int64_t dp_n_elements(const struct dp *dp)
{
    return dp->buckets.n_elements;
}

enum comm_op dp_op(const struct dp *dp)
{
    return dp->op;
}
