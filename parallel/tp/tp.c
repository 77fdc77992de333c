#include "parallel/tp/tp.h"

#include <stdlib.h>

#include "core/log.h"

enum { TAG_GATHER, TAG_REDUCE, TAG_SMALL };

struct tp {
    struct comm *comm;
    bool sequence_parallel;
    struct comm_request *gather, *reduce, *small; /* NULL while measuring */
};

/* Requests count elements of 4 bytes. */
static int64_t words(int64_t bytes)
{
    return (bytes + 3) / 4;
}

static int64_t stream_words(const struct tp_options *o)
{
    return words(o->max_rows * o->width * (int64_t)dtype_bytes(o->dtype));
}

static int64_t small_words(const struct tp_options *o)
{
    const int64_t gathered = words(o->max_gathered_bytes);
    return gathered > o->max_replicated ? gathered : o->max_replicated;
}

status_t tp_create(struct tp **tp, const struct tp_options *o, struct arena *arena)
{
    *tp = NULL;
    struct tp *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for tensor parallelism");
    made->comm = o->comm;
    made->sequence_parallel = o->sequence_parallel;
    status_t st = comm_request_create(&made->gather, o->comm, stream_words(o), arena);
    if (st == STATUS_OK)
        st = comm_request_create(&made->reduce, o->comm, stream_words(o), arena);
    if (st == STATUS_OK)
        st = comm_request_create(&made->small, o->comm, small_words(o), arena);
    if (st == STATUS_OK)
        *tp = made;
    else
        tp_destroy(&made);
    return st;
}

void tp_destroy(struct tp **tp)
{
    if (!*tp) return;
    comm_request_destroy(&(*tp)->gather);
    comm_request_destroy(&(*tp)->reduce);
    comm_request_destroy(&(*tp)->small);
    free(*tp);
    *tp = NULL;
}

size_t tp_host_bytes(const struct tp_options *o)
{
    return 2 * comm_request_host_bytes(o->comm, stream_words(o)) +
           comm_request_host_bytes(o->comm, small_words(o));
}

int tp_size(const struct tp *tp)
{
    return tp ? comm_size(tp->comm) : 1;
}

int tp_rank(const struct tp *tp)
{
    return tp ? comm_rank(tp->comm) : 0;
}

bool tp_is_sharded(const struct tp *tp)
{
    return tp_size(tp) > 1 && tp->sequence_parallel;
}

void tp_rows(const struct tp *tp, int64_t N, int64_t *first, int64_t *count)
{
    *first = 0;
    *count = N;
    if (tp_is_sharded(tp)) comm_slice(N, tp_size(tp), tp_rank(tp), first, count);
}

struct tensor tp_own(const struct tp *tp, const struct tensor *all)
{
    int64_t first, count;
    tp_rows(tp, all->shape[0], &first, &count);
    return tensor_rows(all, first, count);
}

struct tensor tp_adds_to(const struct tp *tp, const struct tensor *all)
{
    if (tp_is_sharded(tp)) return tp_own(tp, all);
    return tensor_rows(all, 0, tp_rank(tp) == 0 ? all->shape[0] : 0);
}

static void start(struct comm_request *r, enum comm_op op, const struct tensor *all,
                  int tag)
{
    comm_start_rows(r, op, all->data, all->dtype, all->shape[0], all->shape[1], tag);
}

void tp_gather_begin(struct tp *tp, const struct tensor *all)
{
    if (!tp_is_sharded(tp) || !all->data) return;
    start(tp->gather, COMM_ALL_GATHER, all, TAG_GATHER);
}

void tp_gather_end(struct tp *tp)
{
    if (tp && tp->gather) comm_wait(tp->gather);
}

void tp_reduce_begin(struct tp *tp, const struct tensor *all)
{
    if (tp_size(tp) == 1 || !all->data) return;
    start(tp->reduce, tp_is_sharded(tp) ? COMM_REDUCE_SCATTER : COMM_ALL_REDUCE, all,
          TAG_REDUCE);
}

void tp_reduce_end(struct tp *tp)
{
    if (tp && tp->reduce) comm_wait(tp->reduce);
}

void tp_sum(struct tp *tp, float *x, int64_t n)
{
    if (tp_size(tp) == 1 || !x || n == 0) return;
    comm_start_op(tp->small, COMM_ALL_REDUCE, x, DTYPE_F32, n, TAG_SMALL);
    comm_wait(tp->small);
}

void tp_gather_blocks(struct tp *tp, float *x, int64_t n)
{
    if (tp_size(tp) == 1 || !x) return;
    comm_start_rows(tp->small, COMM_ALL_GATHER, x, DTYPE_F32, tp_size(tp), n, TAG_SMALL);
    comm_wait(tp->small);
}
