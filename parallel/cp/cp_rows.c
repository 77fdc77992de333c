/* Which rows of a sequence are whose, and what they see of each other. */
#include "core/log.h"
#include "parallel/cp/cp.h"

/* The two chunks of a rank, [start, start + n) each, in the order of the sequence. */
struct chunks {
    int64_t start[2], n[2];
};

static struct chunks chunks_of(int64_t T, int size, int rank)
{
    struct chunks c;
    CHECK(size > 0 && rank >= 0 && rank < size && T > 0);
    comm_slice(T, 2 * size, rank, &c.start[0], &c.n[0]);
    comm_slice(T, 2 * size, 2 * size - 1 - rank, &c.start[1], &c.n[1]);
    return c;
}

int64_t cp_rows(int64_t T, int size, int rank)
{
    const struct chunks c = chunks_of(T, size, rank);
    return c.n[0] + c.n[1];
}

int64_t cp_most_rows(int64_t T, int size)
{
    int64_t most = 0;
    for (int rank = 0; rank < size; rank++) {
        const int64_t n = cp_rows(T, size, rank);
        if (n > most) most = n;
    }
    return most;
}

static int64_t row_at(const struct chunks *c, int64_t i)
{
    return i < c->n[0] ? c->start[0] + i : c->start[1] + i - c->n[0];
}

int64_t cp_row(int64_t T, int size, int rank, int64_t i)
{
    const struct chunks c = chunks_of(T, size, rank);
    CHECK(i >= 0 && i < c.n[0] + c.n[1]);
    return row_at(&c, i);
}

void cp_pick(int32_t *y, const int32_t *x, int64_t B, int64_t T, int size, int rank)
{
    const struct chunks c = chunks_of(T, size, rank);
    for (int64_t b = 0; b < B; b++)
        for (int k = 0; k < 2; k++)
            for (int64_t i = 0; i < c.n[k]; i++) *y++ = x[b * T + c.start[k] + i];
}

/* How many of a rank's rows lie in front of row `row` of the sequence. */
static int64_t rows_before(const struct chunks *c, int64_t row)
{
    int64_t n = 0;
    for (int k = 0; k < 2; k++) {
        const int64_t before = row - c->start[k];
        if (before > 0) n += before < c->n[k] ? before : c->n[k];
    }
    return n;
}

void cp_spans(int32_t *spans, const int32_t *doc_start, int64_t B, int64_t T, int size,
              int rank)
{
    const struct chunks mine = chunks_of(T, size, rank);
    const int64_t n = mine.n[0] + mine.n[1];
    for (int source = 0; source < size; source++) {
        const struct chunks keys = chunks_of(T, size, source);
        int32_t *low = spans + source * 2 * B * n, *high = low + B * n;
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; i < n; i++) {
                const int64_t row = row_at(&mine, i);
                const int64_t start = doc_start ? doc_start[b * T + row] : 0;
                *low++ = (int32_t)rows_before(&keys, start);
                *high++ = (int32_t)rows_before(&keys, row + 1);
            }
    }
}
