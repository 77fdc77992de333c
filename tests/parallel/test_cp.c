/* Which rows of a sequence are whose, and what they see of each other. */
#include "harness/harness.h"

#include "parallel/cp/cp.h"

TEST(every_row_is_some_ranks_and_work_is_even)
{
    for (int size = 1; size <= 5; size++)
        for (int64_t T = 2 * size; T <= 97; T++) {
            int *owner = test_alloc((size_t)T * sizeof *owner);
            int64_t most = 0, least = T * T, pairs_of_all = 0;
            for (int64_t i = 0; i < T; i++) owner[i] = -1;
            for (int rank = 0; rank < size; rank++) {
                int64_t pairs = 0;
                assert_true(cp_rows(T, size, rank) <= cp_most_rows(T, size));
                for (int64_t i = 0, before = -1; i < cp_rows(T, size, rank); i++) {
                    const int64_t row = cp_row(T, size, rank, i);
                    assert_true(row > before && row < T);
                    assert_int_equal(owner[row], -1);
                    owner[row] = rank;
                    before = row;
                    pairs += row + 1;
                }
                most = pairs > most ? pairs : most;
                least = pairs < least ? pairs : least;
                pairs_of_all += pairs;
            }
            assert_int_equal(pairs_of_all, T * (T + 1) / 2);
            if (T % (2 * size) == 0) assert_int_equal(most, least); /* zigzag */
        }
}

TEST(rows_are_picked_and_spans_are_what_they_see)
{
    enum { B = 2, T = 29, SIZE = 3 };
    int32_t x[B * T], start[B * T];
    for (int i = 0; i < B * T; i++) {
        x[i] = i;
        start[i] = (int32_t)(i % T - i % T % (4 + i / T));
    }
    for (int rank = 0; rank < SIZE; rank++) {
        const int64_t n = cp_rows(T, SIZE, rank);
        int32_t *mine = test_alloc((size_t)(B * n) * sizeof *mine);
        int32_t *spans = test_alloc((size_t)(2 * SIZE * B * n) * sizeof *spans);
        cp_pick(mine, x, B, T, SIZE, rank);
        cp_spans(spans, start, B, T, SIZE, rank);
        for (int64_t i = 0; i < B * n; i++) {
            const int64_t b = i / n, row = cp_row(T, SIZE, rank, i % n);
            assert_int_equal(mine[i], b * T + row);
            for (int of = 0; of < SIZE; of++) {
                const int32_t *low = spans + 2 * of * B * n, *high = low + B * n;
                for (int64_t k = 0; k < cp_rows(T, SIZE, of); k++) {
                    const int64_t key = cp_row(T, SIZE, of, k);
                    const bool sees = key >= start[b * T + row] && key <= row;
                    assert_int_equal(k >= low[i] && k < high[i], sees);
                }
                if (i % n > 0)
                    assert_true(low[i] >= low[i - 1] && high[i] >= high[i - 1]);
            }
        }
    }
}
