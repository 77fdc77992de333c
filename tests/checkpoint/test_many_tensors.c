/* 10,000 tensors in 64 shards, as of a large model on many ranks: every rank finds its own.  The times
 * that are printed are for docs/performance.md. */
#include "fixture.h"

#include "checkpoint/checkpoint_impl.h"
#include "core/clock.h"

enum { PARAMS = 10000, SHARDS = 64, ROWS = 4, COLS = 6, N = ROWS * COLS };

static struct param_table many_tensors(void)
{
    struct param_table t = {.params = test_alloc(PARAMS * sizeof *t.params),
                            .n_params = PARAMS,
                            .n_elements = (int64_t)PARAMS * N,
                            .n_real = (int64_t)PARAMS * N};
    for (int i = 0; i < PARAMS; i++) {
        struct param *p = &t.params[i];
        snprintf(p->name, sizeof p->name, "model.layers.%d.mlp.experts.%d.up_proj.weight",
                 i * 7919 % PARAMS, i % 7);
        p->n_dims = 2;
        p->shape[0] = p->local[0] = ROWS;
        p->shape[1] = p->local[1] = COLS;
        p->slices[0] = (struct param_slice){.rows = ROWS, .owned = true};
        p->n_slices = 1;
        p->index = i;
        p->offset = p->global_offset = (int64_t)i * N;
        p->n = N;
    }
    return t;
}

/* Cut into 64 equal parts, as ZeRO does; most cuts go through a tensor. */
static void write_checkpoint(const char *folder, const struct param_table *t, float *x)
{
    struct ckpt_index index = {.params = test_alloc(PARAMS * sizeof *index.params),
                               .pieces = test_alloc(3 * PARAMS * sizeof *index.pieces),
                               .shards = test_alloc(SHARDS * sizeof *index.shards),
                               .n_params = PARAMS,
                               .n_shards = SHARDS};
    for (int i = 0; i < PARAMS; i++) {
        index.params[i] = (struct checkpoint_param){.n_dims = 2, .shape = {ROWS, COLS}};
        memcpy(index.params[i].name, t->params[i].name, sizeof index.params[i].name);
    }
    for (int s = 0; s < SHARDS; s++) {
        struct checkpoint_range r;
        struct ckpt_part *parts;
        int64_t n_parts;
        char path[PATH_MAX];
        comm_slice(t->n_elements, SHARDS, s, &r.start, &r.count);
        r.master = r.exp_avg = r.exp_avg_sq = x + r.start;
        ASSERT_OK(ckpt_cut(t, &r, 1, s, &parts, &n_parts));
        ckpt_shard_path(path, folder, s, 0);
        ASSERT_OK(ckpt_shard_write(path, 1, s, parts, n_parts, &index.shards[s]));
        for (int64_t i = 0; i < n_parts; i++)
            index.pieces[index.n_pieces++] = parts[i].piece;
        free(parts);
    }
    char path[PATH_MAX];
    const struct checkpoint_meta meta = {.step = 1};
    file_join(path, sizeof path, folder, "model.h5");
    const double begin = clock_seconds();
    ASSERT_OK(ckpt_index_check(&index, path, STATUS_INTERNAL));
    ASSERT_OK(ckpt_model_write(path, &index, &meta));
    ASSERT_OK(file_commit(path));
    print_message("model.h5 of %d tensors in %d shards written in %.2f s\n", PARAMS,
                  SHARDS, clock_seconds() - begin);
}

TEST(ten_thousand_tensors_in_many_shards_are_found)
{
    const char *folder = path_in(test_folder(), "step-00000001");
    const struct param_table t = many_tensors();
    float *x = test_alloc((size_t)t.n_elements * sizeof *x);
    for (int64_t i = 0; i < t.n_elements; i++) x[i] = (float)i;
    ASSERT_OK(file_make_dirs(folder));
    write_checkpoint(folder, &t, x);

    /* one of three ranks: its part ends and begins inside tensors and shards */
    struct checkpoint *c;
    struct checkpoint_range r;
    comm_slice(t.n_elements, 3, 1, &r.start, &r.count);
    r.master = test_alloc((size_t)r.count * sizeof *x);
    r.exp_avg = r.exp_avg_sq = NULL;
    double begin = clock_seconds();
    ASSERT_OK(checkpoint_open(&c, folder));
    print_message("opened in %.2f s\n", clock_seconds() - begin);
    begin = clock_seconds();
    ASSERT_OK(checkpoint_read(c, &t, &t, &r, 1));
    print_message("planned and read in %.2f s\n", clock_seconds() - begin);
    assert_int_equal(memcmp(r.master, x + r.start, (size_t)r.count * sizeof *x), 0);
    checkpoint_close(&c);
}
