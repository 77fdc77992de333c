/* Ranges of the flat buffer become rectangles, and an index is valid exactly if its rectangles
 * cover everything once. */
#include "fixture.h"

#include "checkpoint/checkpoint_impl.h"

/* How often each element of the flat buffer lies in a piece. */
static void count_cover(const struct param_table *t, const struct ckpt_part *parts,
                        int64_t n, int *cover)
{
    for (int64_t i = 0; i < n; i++) {
        const struct ckpt_piece *p = &parts[i].piece;
        const struct param *q = &t->params[p->param];
        for (int64_t r = p->row; r < p->row + p->rows; r++)
            for (int64_t c = p->col; c < p->col + p->cols; c++)
                cover[q->offset + r * q->shape[1] + c]++;
    }
}

TEST(pieces_of_any_range_are_its_elements_and_at_most_three_a_parameter)
{
    const struct param_table t = small_table();
    float x[KINDS];
    for (int64_t start = 0; start < t.n_elements; start += 5) {
        for (int64_t end = start; end <= t.n_elements; end += 7) {
            const struct checkpoint_range r = {start, end - start, x, x, x};
            struct ckpt_part *parts;
            int64_t n, offset = 0, of_param[5] = {0};
            int cover[720] = {0};
            ASSERT_OK(ckpt_cut(&t, &r, 1, 4, &parts, &n));
            count_cover(&t, parts, n, cover);
            for (int64_t i = 0; i < t.n_elements; i++)
                assert_int_equal(cover[i], i >= start && i < end && !in_gap(&t, i));
            for (int64_t i = 0; i < n; i++) {
                const struct ckpt_piece *p = &parts[i].piece;
                const int64_t at = t.params[p->param].offset +
                                   p->row * t.params[p->param].shape[1] + p->col;
                assert_int_equal(p->offset, offset);
                assert_int_equal(p->shard, 4);
                assert_ptr_equal(parts[i].data[2], x + (at - start));
                assert_true(++of_param[p->param] <= 3);
                offset += ckpt_elements(p);
            }
            assert_int_equal(of_param[1] > 1, 0);
            free(parts);
        }
    }
}

TEST(ranges_outside_the_buffer_are_refused)
{
    const struct param_table t = small_table();
    float x;
    const struct checkpoint_range bad[] = {{-1, 2, &x, &x, &x},
                                           {0, 721, &x, &x, &x},
                                           {719, 2, &x, &x, &x},
                                           {1, INT64_MAX, &x, &x, &x},
                                           {5, -1, &x, &x, &x}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ckpt_part *parts = (void *)1;
        int64_t n = 9;
        ASSERT_REFUSED(ckpt_cut(&t, &bad[i], 1, 0, &parts, &n), STATUS_INTERNAL,
                       "leaves the buffer");
        assert_null(parts);
        assert_int_equal(n, 0);
    }
}

/* ---- the validity of an index ------------------------------------------------------------ */

/* One parameter of R x C in one shard, tiled by the given rectangles {row, col, rows, cols}. */
static status_t check_tiles(int64_t R, int64_t C, const int64_t (*tiles)[4], int n)
{
    struct checkpoint_param param = {.name = "w", .n_dims = 2, .shape = {R, C}};
    struct ckpt_piece *pieces = test_alloc((size_t)n * sizeof *pieces);
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        pieces[i] = (struct ckpt_piece){.row = tiles[i][0],
                                        .col = tiles[i][1],
                                        .rows = tiles[i][2],
                                        .cols = tiles[i][3],
                                        .offset = at};
        at += tiles[i][2] * tiles[i][3];
    }
    const uint64_t bytes = 4 * (uint64_t)at;
    struct ckpt_shard shard = {.bytes = 512 + 3 * bytes,
                               .elements = (uint64_t)at,
                               .offset = {512, 512 + bytes, 512 + 2 * bytes}};
    struct ckpt_index x = {.params = &param,
                           .pieces = pieces,
                           .shards = &shard,
                           .n_params = 1,
                           .n_pieces = n,
                           .n_shards = 1};
    return ckpt_index_check(&x, "model.h5", STATUS_CHECKPOINT);
}

#define TILES(R, C, ...)                                                                 \
    check_tiles(R, C, (const int64_t[][4]){__VA_ARGS__},                                 \
                (int)(sizeof((const int64_t[][4]){__VA_ARGS__}) / sizeof(int64_t[4])))

TEST(any_exact_tiling_is_accepted)
{
    ASSERT_OK(TILES(4, 6, {0, 0, 4, 6}));
    ASSERT_OK(TILES(4, 6, {0, 0, 1, 2}, {0, 2, 1, 4}, {1, 0, 2, 6}, {3, 0, 1, 6}));
    /* by columns, as tensor parallelism does, and a pinwheel, which no straight cut divides */
    ASSERT_OK(TILES(4, 6, {0, 0, 4, 3}, {0, 3, 1, 3}, {1, 3, 3, 3}));
    ASSERT_OK(TILES(3, 3, {0, 0, 1, 2}, {0, 2, 2, 1}, {2, 1, 1, 2}, {1, 0, 2, 1},
                    {1, 1, 1, 1}));
}

TEST(gaps_and_overlaps_are_refused)
{
    ASSERT_REFUSED(TILES(4, 6, {0, 0, 3, 6}), STATUS_CHECKPOINT,
                   "parameter w exactly once");
    ASSERT_REFUSED(TILES(4, 6, {0, 0, 4, 6}, {0, 0, 1, 1}), STATUS_CHECKPOINT,
                   "exactly once");
    /* right area, wrong place; and the same piece three times, which parity cannot see */
    ASSERT_REFUSED(TILES(4, 6, {0, 0, 2, 6}, {1, 0, 2, 6}), STATUS_CHECKPOINT,
                   "exactly once");
    ASSERT_REFUSED(TILES(4, 6, {0, 0, 2, 6}, {0, 0, 2, 6}), STATUS_CHECKPOINT,
                   "exactly once");
    ASSERT_REFUSED(TILES(3, 1, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}),
                   STATUS_CHECKPOINT, "exactly once");
    ASSERT_REFUSED(TILES(1, 1, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}),
                   STATUS_CHECKPOINT, "exactly once");
}

TEST(rectangles_outside_their_parameter_are_refused)
{
    ASSERT_REFUSED(TILES(4, 6, {0, 0, 5, 6}), STATUS_CHECKPOINT, "piece 0");
    ASSERT_REFUSED(TILES(4, 6, {1, 0, 4, 6}), STATUS_CHECKPOINT, "piece 0");
    ASSERT_REFUSED(TILES(4, 6, {0, 1, 4, 6}), STATUS_CHECKPOINT, "piece 0");
    ASSERT_REFUSED(TILES(4, 6, {0, -1, 4, 6}), STATUS_CHECKPOINT, "piece 0");
    ASSERT_REFUSED(TILES(4, 6, {0, 0, 0, 6}), STATUS_CHECKPOINT, "impossible");
    ASSERT_REFUSED(TILES(4, 6, {INT64_MAX, 0, 1, 6}), STATUS_CHECKPOINT, "piece 0");
}

/* A valid index to be spoilt: two parameters, two shards. */
struct valid {
    struct ckpt_index x;
    struct checkpoint_param params[2];
    struct ckpt_piece pieces[3];
    struct ckpt_shard shards[2];
};

static struct valid *valid_index(void)
{
    struct valid *v = test_alloc(sizeof *v);
    *v = (struct valid){
        .params = {{.name = "a", .n_dims = 2, .shape = {4, 6}},
                   {.name = "b", .n_dims = 1, .shape = {5, 1}}},
        .pieces =
            {{.param = 0, .rows = 4, .cols = 6, .shard = 1},
             {.param = 1, .rows = 2, .cols = 1, .shard = 0},
             {.param = 1, .row = 2, .rows = 3, .cols = 1, .shard = 1, .offset = 24}},
        .shards = {{.bytes = 536, .elements = 2, .offset = {512, 520, 528}},
                   {.bytes = 2000, .elements = 27, .offset = {600, 800, 1000}}}};
    v->x = (struct ckpt_index){.params = v->params,
                               .pieces = v->pieces,
                               .shards = v->shards,
                               .n_params = 2,
                               .n_pieces = 3,
                               .n_shards = 2};
    ASSERT_OK(ckpt_index_check(&v->x, "m", STATUS_CHECKPOINT));
    assert_int_equal(v->pieces[0].shard, 0); /* sorted by shard */
    return v;
}

#define SPOILT(change, words)                                                            \
    do {                                                                                 \
        struct valid *v = valid_index();                                                 \
        v->change;                                                                       \
        ASSERT_REFUSED(ckpt_index_check(&v->x, "m", STATUS_CHECKPOINT),                  \
                       STATUS_CHECKPOINT, words);                                        \
    } while (0)

TEST(every_impossible_entry_is_refused)
{
    SPOILT(params[0].name[0] = '\0', "name");
    SPOILT(params[0].name[0] = '/', "name");
    SPOILT(params[0].name[0] = '\n', "name");
    SPOILT(params[0].n_dims = 3, "shape");
    SPOILT(params[0].n_dims = 0, "shape");
    SPOILT(params[0].n_dims = 1, "shape");
    SPOILT(params[0].shape[0] = 0, "shape");
    SPOILT(params[0].shape[1] = -1, "shape");
    SPOILT(params[0].shape[0] = INT64_MAX, "shape");
    SPOILT(shards[0].elements = 3, "shard 0");
    SPOILT(shards[0].elements = UINT64_MAX / 4 + 3, "shard 0");
    SPOILT(shards[0].elements = 0, "shard 0");
    SPOILT(shards[0].bytes = 535, "shard 0");
    SPOILT(shards[0].bytes = UINT64_MAX, "shard 0");
    SPOILT(shards[0].offset[0] = 508, "shard 0");
    SPOILT(shards[0].offset[1] = 519, "shard 0");
    SPOILT(shards[0].offset[2] = UINT64_MAX - 3, "shard 0");
    SPOILT(shards[1].elements = 28, "shard 1");
    SPOILT(pieces[0].param = 2, "piece 0");
    SPOILT(pieces[0].param = -1, "piece 0");
    SPOILT(pieces[0].shard = 2, "piece 0");
    SPOILT(pieces[0].shard = -1, "piece 0");
    SPOILT(pieces[0].shard = 1, "shard 0");
    SPOILT(pieces[0].offset = 1, "shard 0");
    SPOILT(pieces[0].offset = -1, "shard 0");
    SPOILT(pieces[2].offset = 23, "shard 1");
    SPOILT(pieces[0].row = 1, "parameter b");
    SPOILT(x.n_pieces = 2, "shard 1");
    SPOILT(x.n_pieces = 0, "shard 0");
    SPOILT(x.n_shards = 1, "piece");
    SPOILT(x.n_params = 1, "piece");
    SPOILT(x.n_params = (int64_t)1 << 31, "more than 2147483647");
    SPOILT(x.n_shards = (int64_t)1 << 40, "more than 2147483647");
}

TEST(a_name_without_an_end_is_refused)
{
    struct valid *v = valid_index();
    memset(v->params[1].name, 'x', CKPT_NAME_BYTES);
    ASSERT_REFUSED(ckpt_index_check(&v->x, "m", STATUS_CHECKPOINT), STATUS_CHECKPOINT,
                   "parameter 1 has no valid name");
}
