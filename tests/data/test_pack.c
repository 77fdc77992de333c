/* Rows hold every document once and whole, in nearly as few rows as there can be. */
#include "corpus.h"
#include "data/pack.h"

static void check_rows(const int32_t *lengths, int64_t n, int64_t T, int64_t *n_rows)
{
    int64_t *row = test_alloc(((size_t)n + 1) * sizeof *row);
    int64_t *used = test_alloc(((size_t)n + 1) * sizeof *used), sum = 0, halves = 0;
    memset(row, 0x5a, ((size_t)n + 1) * sizeof *row);
    memset(used, 0, ((size_t)n + 1) * sizeof *used);
    *n_rows = -1;
    ASSERT_OK(pack_rows(lengths, n, T, row, n_rows));
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(row[i], 0, *n_rows - 1);
        used[row[i]] += lengths[i];
        sum += lengths[i];
        halves += 2 * lengths[i] > T; /* no two of them share a row */
    }
    for (int64_t r = 0; r < *n_rows; r++) assert_in_range(used[r], 1, T);
    const int64_t full = (sum + T - 1) / T, fewest = full > halves ? full : halves;
    assert_in_range(*n_rows, fewest, fewest * 11 / 9 + 1);
}

/* One row at a time, looking through all of them. */
static int64_t rows_by_walking(const int32_t *lengths, int64_t n, int64_t T)
{
    int64_t *room = test_alloc(((size_t)n + 1) * sizeof *room), rows = 0;
    for (int64_t length = T; length > 0; length--)
        for (int64_t i = 0; i < n; i++) {
            if (lengths[i] != length) continue;
            int64_t best = -1;
            for (int64_t r = 0; r < rows; r++)
                if (room[r] >= length && (best < 0 || room[r] < room[best])) best = r;
            if (best < 0) {
                best = rows++;
                room[best] = T;
            }
            room[best] -= length;
        }
    return rows;
}

TEST(random_documents_are_packed_as_by_looking_at_every_row)
{
    for (uint64_t key = 0; key < 60; key++) {
        const int64_t T = 1 + (int64_t)(rng_u64(key, 1) % (key % 3 ? 300 : 9000));
        const int64_t n = (int64_t)(rng_u64(key, 2) % 200);
        const uint64_t longest = 1 + rng_u64(key, 3) % (uint64_t)T;
        int32_t lengths[200];
        for (int64_t i = 0; i < n; i++)
            lengths[i] = 1 + (int32_t)(rng_u64(key, 10 + (uint64_t)i) % longest);
        int64_t rows = 0;
        check_rows(lengths, n, T, &rows);
        assert_int_equal(rows, rows_by_walking(lengths, n, T));
    }
}

TEST(a_large_set_leaves_hardly_any_room)
{
    enum { N = 200000, T = 4096 };
    int32_t *lengths = test_alloc(N * sizeof *lengths);
    int64_t sum = 0, rows = 0;
    for (int i = 0; i < N; i++) { /* mostly short, some long */
        lengths[i] = 1 + (int32_t)(rng_u64(7, (uint64_t)i) % (i % 10 ? 700 : T));
        sum += lengths[i];
    }
    check_rows(lengths, N, T, &rows);
    assert_in_range(rows, sum / T,
                    sum / T + sum / T / 1000 + 1); /* within a thousandth */
}

TEST(rooms_far_apart_are_found)
{
    enum { T = 1 << 20 };
    const int32_t lengths[] = {T, T - 1, T / 2, T / 2 - 70, 70, 1, 1, T / 2 + 5};
    int64_t rows = 0;
    check_rows(lengths, 8, T, &rows);
    assert_int_equal(rows, rows_by_walking(lengths, 8, T));
}

/* ---- the packer ------------------------------------------------------------------------- */

TEST(documents_come_out_whole_with_their_masks_and_padding_is_masked)
{
    enum { N = 400, T = 50, V = 1000, PAD = 999 };
    const char *path = corpus_path("packed.h5");
    struct packer *p = NULL;
    struct token_writer *w = NULL;
    struct token_file *f = NULL;
    struct pack_counts counts;
    int64_t tokens = 0;
    ASSERT_OK(packer_create(&p, path, T));
    ASSERT_OK(token_writer_create(&w, path, V, -1, ""));
    for (int d = 0; d < N;
         d++) { /* document d: its number, then its length times 1, 2, ... */
        int32_t ids[T], loss[T];
        const int n = 2 + (int)(rng_u64(3, (uint64_t)d) % (T - 1));
        for (int i = 0; i < n; i++) {
            ids[i] = i == 0 ? d : (n * i) % PAD;
            loss[i] = (d + i) % 3 == 0;
        }
        ASSERT_OK(packer_add(p, ids, loss, n, 7));
        tokens += n;
    }
    ASSERT_OK(packer_write(p, w, PAD, &counts));
    ASSERT_OK(token_writer_commit(w, "[]"));
    packer_destroy(&p);
    assert_null(p);
    packer_destroy(&p);
    token_writer_destroy(&w);

    ASSERT_OK(token_file_open(&f, path, TOKEN_FILE_CHECK_ALL));
    const struct token_file_info *info = token_file_info(f);
    assert_int_equal(info->row_tokens, T);
    assert_int_equal(info->n_tokens, counts.n_rows * T);
    assert_int_equal(info->text_bytes, 7 * N);
    assert_int_equal(counts.n_documents, N);
    assert_int_equal(counts.n_tokens, tokens);
    bool seen[N] = {false};
    int64_t found = 0, padding = 0;
    for (int64_t d = 0; d < info->n_documents; d++) {
        int64_t first, end;
        int32_t ids[T];
        unsigned char loss[T];
        token_file_document(f, d, &first, &end);
        assert_int_equal(first / T, (end - 1) / T); /* in one row */
        ASSERT_OK(token_file_read(f, first, end - first, ids));
        token_file_loss(f, first, end - first, loss);
        if (ids[0] == PAD) {
            assert_int_equal(end % T, 0);
            for (int64_t i = 0; i < end - first; i++) {
                assert_int_equal(ids[i], PAD);
                assert_int_equal(loss[i], 0);
            }
            padding += end - first;
            continue;
        }
        const int n = (int)(end - first);
        assert_false(seen[ids[0]]);
        seen[ids[0]] = true;
        found++;
        assert_int_equal(n, 2 + (int)(rng_u64(3, (uint64_t)ids[0]) % (T - 1)));
        for (int i = 1; i < n; i++) assert_int_equal(ids[i], (n * i) % PAD);
        for (int i = 0; i < n; i++) assert_int_equal(loss[i], (ids[0] + i) % 3 == 0);
    }
    assert_int_equal(found, N);
    assert_int_equal(tokens + padding, info->n_tokens);
    token_file_close(&f);
}

TEST(what_cannot_be_gathered_is_refused)
{
    struct packer *p = (struct packer *)&p;
    ASSERT_REFUSED(packer_create(&p, corpus_path("no/such/x.h5"), 8), STATUS_IO,
                   "no/such/x.h5");
    assert_null(p);
}
