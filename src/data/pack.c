#include "data/pack.h"

#include <stdlib.h>

#include "core/log.h"

/* ---- rows by the room they have --------------------------------------------------------- */

/* Rows with equal room form a list; a tree of bits over 0..T says for which rooms there are any.
 * level[0] has a bit for each room, each further level one for each word of the one below. */
enum { LEVELS = 6, WORD_BITS = 64 }; /* 64^6 > INT32_MAX */

struct rooms {
    int64_t *first; /* [T + 1] row, -1: none */
    int64_t *next;  /* [n] */
    uint64_t *level[LEVELS];
};

static void rooms_release(struct rooms *r)
{
    for (int k = 0; k < LEVELS; k++) free(r->level[k]);
    free(r->first);
    free(r->next);
}

static status_t rooms_init(struct rooms *r, int64_t T, int64_t n)
{
    *r = (struct rooms){.first = malloc((size_t)(T + 1) * sizeof *r->first),
                        .next = malloc((size_t)n * sizeof *r->next)};
    bool complete = r->first && r->next;
    int64_t words = T + 1;
    for (int k = 0; k < LEVELS; k++) {
        words = words / WORD_BITS + 1;
        r->level[k] = calloc((size_t)words, sizeof(uint64_t));
        complete = complete && r->level[k];
    }
    if (!complete) {
        rooms_release(r);
        return status_set(STATUS_NOMEM, "no memory to pack %lld documents", (long long)n);
    }
    for (int64_t i = 0; i <= T; i++) r->first[i] = -1;
    return STATUS_OK;
}

static void rooms_put(struct rooms *r, int64_t room, int64_t row)
{
    r->next[row] = r->first[room];
    r->first[room] = row;
    for (int k = 0; k < LEVELS; k++, room /= WORD_BITS)
        r->level[k][room / WORD_BITS] |= UINT64_C(1) << room % WORD_BITS;
}

static int64_t rooms_take(struct rooms *r, int64_t room)
{
    const int64_t row = r->first[room];
    r->first[room] = r->next[row];
    if (r->first[room] >= 0) return row;
    for (int k = 0; k < LEVELS; k++, room /= WORD_BITS) {
        r->level[k][room / WORD_BITS] &= ~(UINT64_C(1) << room % WORD_BITS);
        if (r->level[k][room / WORD_BITS] != 0) break;
    }
    return row;
}

/* The least room >= `least` that a row has, -1: none. */
static int64_t rooms_find(const struct rooms *r, int64_t least)
{
    int64_t at = least;
    for (int k = 0; k < LEVELS; k++, at = at / WORD_BITS + 1) {
        const int64_t word = at / WORD_BITS;
        const uint64_t from = r->level[k][word] & ~UINT64_C(0) << at % WORD_BITS;
        if (!from) continue;
        for (at = word * WORD_BITS + __builtin_ctzll(from); k > 0; k--)
            at = at * WORD_BITS + __builtin_ctzll(r->level[k - 1][at]);
        return at;
    }
    return -1;
}

/* ---- best fit decreasing ---------------------------------------------------------------- */

/* order[0..n) = the documents from the longest to the shortest, equal ones in order. */
static status_t sort(const int32_t *lengths, int64_t n, int64_t T, int64_t *order)
{
    int64_t *begin = calloc((size_t)T + 2, sizeof *begin); /* of those of T - i tokens */
    if (!begin)
        return status_set(STATUS_NOMEM, "no memory to pack %lld documents", (long long)n);
    for (int64_t i = 0; i < n; i++) begin[T - lengths[i] + 1]++;
    for (int64_t i = 0; i < T; i++) begin[i + 1] += begin[i];
    for (int64_t i = 0; i < n; i++) order[begin[T - lengths[i]]++] = i;
    free(begin);
    return STATUS_OK;
}

static void place(struct rooms *r, const int32_t *lengths, int64_t n, int64_t T,
                  const int64_t *order, int64_t *row, int64_t *n_rows)
{
    *n_rows = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t document = order[i], length = lengths[document];
        CHECK(length >= 1 && length <= T);
        int64_t room = rooms_find(r, length);
        row[document] = room < 0 ? (*n_rows)++ : rooms_take(r, room);
        if (room < 0) room = T;
        rooms_put(r, room - length, row[document]);
    }
}

status_t pack_rows(const int32_t *lengths, int64_t n, int64_t T, int64_t *row,
                   int64_t *n_rows)
{
    CHECK(T >= 1 && T <= INT32_MAX && n >= 0);
    struct rooms r = {0};
    int64_t *order = malloc(((size_t)n + 1) * sizeof *order);
    status_t st = order ? sort(lengths, n, T, order)
                        : status_set(STATUS_NOMEM, "no memory to pack %lld documents",
                                     (long long)n);
    if (st == STATUS_OK) st = rooms_init(&r, T, n + 1);
    if (st == STATUS_OK) {
        place(&r, lengths, n, T, order, row, n_rows);
        rooms_release(&r);
    }
    free(order);
    return st;
}
