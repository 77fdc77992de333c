/* @ranks 1 2 3 4
 * What one layout saves every other layout reads, bit by bit, and so does plain HDF5. */
#include "fixture.h"

#include <hdf5.h>
#include <math.h>
#include <sys/stat.h>

static const char *new_run(int number)
{
    static char path[PATH_MAX];
    char name[32];
    snprintf(name, sizeof name, "run%d", number);
    file_join(path, sizeof path, test_folder(), name);
    return path;
}

TEST(every_layout_reads_what_this_one_saved)
{
    struct comm *world = test_world();
    const char *run = new_run(0);
    const struct param_table t = small_table();
    for (int buckets = 1; buckets <= 40; buckets += 13) {
        ASSERT_OK(save_state(run, world, buckets, 77, buckets));
        char name[32];
        snprintf(name, sizeof name, "step-%08d", buckets);
        struct checkpoint *c;
        ASSERT_OK(checkpoint_open(&c, path_in(run, name)));
        assert_int_equal(checkpoint_n_shards(c), comm_size(world));
        for (int size = 1; size <= 6; size++) {
            for (int rank = 0; rank < size; rank++) {
                struct checkpoint_range ranges[MAX_RANGES];
                const int n = cut_ranges(&t, rank, size, 1 + (buckets * size) % 7,
                                         0xdeadbeef, ranges);
                ASSERT_OK(checkpoint_read(c, &t, &t, ranges, n));
                check_ranges(77, &t, ranges, n);
            }
        }
        ASSERT_OK(checkpoint_verify(c, 0, 1));
        checkpoint_close(&c);
        assert_null(c);
    }
}

TEST(only_what_is_asked_for_is_filled_in_any_order)
{
    struct comm *world = test_world();
    const char *run = new_run(1);
    const struct param_table t = small_table();
    ASSERT_OK(save_state(run, world, 5, 78, 3));
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, "step-00000005/")));
    float *a = test_alloc(400), *b = test_alloc(400), *m = test_alloc(400);
    const struct checkpoint_range ranges[] = {{600, 100, a, NULL, NULL},
                                              {350, 0, NULL, NULL, NULL},
                                              {20, 100, NULL, b, NULL},
                                              {300, 100, NULL, NULL, m},
                                              {500, 10, NULL, NULL, NULL}};
    ASSERT_OK(checkpoint_read(c, &t, &t, ranges, 5));
    check_ranges(78, &t, ranges, 5);
    const struct checkpoint_range twice[] = {{10, 50, a, NULL, NULL},
                                             {59, 5, b, NULL, NULL}};
    ASSERT_REFUSED(checkpoint_read(c, &t, &t, twice, 2), STATUS_INTERNAL, "overlap");
    checkpoint_close(&c);
}

TEST(the_parameters_may_lie_elsewhere_in_the_buffer)
{
    struct comm *world = test_world();
    const char *run = new_run(2);
    struct param_table t = small_table();
    ASSERT_OK(save_state(run, world, 1, 79, 2));
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, "step-00000001")));
    struct param other[5];
    for (int i = 0; i < 5; i++)
        other[i] = t.params[4 - i]; /* other order, other offsets */
    int64_t at = 3;
    for (int i = 0; i < 5; i++) other[i].offset = at, at += other[i].n + i;
    const struct param_table moved = {
        .params = other, .n_params = 5, .n_elements = at, .n_real = t.n_real};
    float *x = test_alloc((size_t)at * 4);
    const struct checkpoint_range all = {0, at, x, NULL, NULL};
    ASSERT_OK(checkpoint_read(c, &moved, &moved, &all, 1));
    for (int i = 0; i < 5; i++)
        for (int64_t e = 0; e < other[i].n; e++) {
            const uint32_t want = bits_at(79, 0, t.params[4 - i].offset + e);
            assert_memory_equal(x + other[i].offset + e, &want, 4);
        }
    checkpoint_close(&c);
}

TEST(ranks_may_own_nothing)
{
    struct comm *world = test_world();
    const char *run = new_run(7);
    const struct param_table t = small_table();
    struct checkpoint_range all[MAX_RANGES];
    const int owner = comm_size(world) - 1, mine = comm_rank(world) == owner;
    cut_ranges(&t, 0, 1, 1, 0, all);
    fill_ranges(83, all, 1);
    const struct checkpoint_meta meta = some_meta(1);
    ASSERT_OK(checkpoint_save(run, world, &t, &t, all, mine, &meta));
    ASSERT_OK(load_state(path_in(run, "step-00000001"), 83));
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, "step-00000001")));
    ASSERT_OK(checkpoint_verify(c, 0, 1));
    ASSERT_OK(checkpoint_read(c, &t, &t, NULL, 0));
    checkpoint_close(&c);
}

TEST(meta_comes_back_as_written)
{
    struct comm *world = test_world();
    const char *run = new_run(3);
    ASSERT_OK(save_state(run, world, 123456789, 80, 1));
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, "step-123456789")));
    const struct checkpoint_meta *got = checkpoint_meta(c), want = some_meta(123456789);
    assert_int_equal(got->step, want.step);
    assert_int_equal(got->next_sample, want.next_sample);
    assert_int_equal(got->data_step, want.data_step);
    assert_int_equal(got->tokens, want.tokens);
    assert_int_equal(got->skipped_steps, want.skipped_steps);
    assert_true(got->loss_scale == want.loss_scale);
    assert_int_equal(got->loss_scale_steps, want.loss_scale_steps);
    assert_true(got->log_loss_sum == want.log_loss_sum);
    assert_int_equal(got->log_targets, want.log_targets);
    assert_true(got->seed == want.seed);
    assert_string_equal(got->config, want.config);
    assert_string_equal(got->versions, want.versions);
    assert_string_equal(got->data, want.data);
    assert_int_equal(checkpoint_n_params(c), 5);
    const struct checkpoint_param *norm = &checkpoint_params(c)[1];
    assert_string_equal(norm->name, "layers.0.norm.weight");
    assert_int_equal(norm->n_dims, 1);
    assert_int_equal(norm->shape[0], 12);
    assert_int_equal(norm->shape[1], 1);
    checkpoint_close(&c);
}

/* One virtual dataset, read as any HDF5 program would. */
static void check_virtual(hid_t file, const char *group, const struct param *p, int kind)
{
    char name[160];
    hsize_t shape[2] = {0};
    snprintf(name, sizeof name, "%s/%s", group, p->name);
    const hid_t d = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(d >= 0);
    const hid_t space = H5Dget_space(d);
    assert_int_equal(H5Sget_simple_extent_dims(space, shape, NULL), p->n_dims);
    assert_int_equal(shape[0], p->shape[0]);
    if (p->n_dims == 2) assert_int_equal(shape[1], p->shape[1]);
    float *x = test_alloc((size_t)p->n * 4);
    assert_true(H5Dread(d, H5T_IEEE_F32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    for (int64_t i = 0; i < p->n; i++) {
        const uint32_t want = bits_at(81, kind, p->offset + i);
        assert_memory_equal(x + i, &want, 4);
    }
    H5Sclose(space);
    H5Dclose(d);
}

TEST(plain_hdf5_sees_whole_tensors_even_after_the_folder_has_moved)
{
    struct comm *world = test_world();
    const char *run = new_run(4);
    const struct param_table t = small_table();
    ASSERT_OK(save_state(run, world, 1, 81, 9));
    if (comm_rank(world) == 0) {
        assert_int_equal(rename(path_in(run, "step-00000001"), path_in(run, "moved")), 0);
        const hid_t file =
            H5Fopen(path_in(run, "moved/model.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
        assert_true(file >= 0);
        for (int i = 0; i < t.n_params; i++) {
            check_virtual(file, "/model", &t.params[i], 0);
            check_virtual(file, "/optimizer/exp_avg", &t.params[i], 1);
            check_virtual(file, "/optimizer/exp_avg_sq", &t.params[i], 2);
        }
        H5Fclose(file);
        ASSERT_OK(load_state(path_in(run, "moved"), 81));
    }
    comm_barrier(world);
}

TEST(other_models_are_told_what_differs)
{
    struct comm *world = test_world();
    const char *run = new_run(5);
    struct param_table t = small_table();
    ASSERT_OK(save_state(run, world, 1, 82, 2));
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, "step-00000001")));
    ASSERT_OK(checkpoint_match(c, &t));
    struct param other[6];
    memcpy(other, t.params, 5 * sizeof *other);
    other[5] = (struct param){.name = "more", .n_dims = 1, .shape = {1, 1}, .n = 1};
    const struct param_table wider = {
        .params = other, .n_params = 6, .n_elements = t.n_elements, .n_real = t.n_real};
    ASSERT_REFUSED(checkpoint_match(c, &wider), STATUS_CHECKPOINT,
                   "lacks parameter more");
    const struct param_table fewer = {
        .params = other, .n_params = 4, .n_elements = t.n_elements, .n_real = t.n_real};
    ASSERT_REFUSED(checkpoint_match(c, &fewer), STATUS_CHECKPOINT,
                   "holds parameter head");
    other[2].shape[0] = 13;
    const struct param_table same = {
        .params = other, .n_params = 5, .n_elements = t.n_elements, .n_real = t.n_real};
    ASSERT_REFUSED(checkpoint_match(c, &same), STATUS_CHECKPOINT,
                   "layers.0.q.weight is [12, 12] here and [13, 12]");
    checkpoint_close(&c);
}

TEST(disk_holds_twelve_bytes_a_parameter_and_little_else)
{
    struct comm *world = test_world();
    const char *run = new_run(6);
    enum { LAYERS = 100 };
    struct param *params = test_alloc(LAYERS * sizeof *params);
    struct param_table t = {.params = params, .n_params = LAYERS};
    for (int i = 0; i < LAYERS; i++) {
        params[i] = (struct param){.n_dims = 2,
                                   .shape = {100, 128},
                                   .local = {100, 128},
                                   .slices = {{.rows = 100, .owned = true}},
                                   .n_slices = 1,
                                   .index = i,
                                   .n = 12800};
        snprintf(params[i].name, sizeof params[i].name, "layers.%d.mlp.up_proj.weight",
                 i);
        params[i].offset = t.n_elements;
        t.n_elements += 12800;
        t.n_real += 12800;
    }
    struct checkpoint_range ranges[MAX_RANGES];
    const int n = cut_ranges(&t, comm_rank(world), comm_size(world), 50, 1, ranges);
    const struct checkpoint_meta meta = some_meta(1);
    ASSERT_OK(checkpoint_save(run, world, &t, &t, ranges, n, &meta));
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, "step-00000001")));
    assert_true((double)checkpoint_bytes(c) <= 12.0 * (double)t.n_real * 1.01 + 1e6);
    assert_true(checkpoint_bytes(c) >= 12 * t.n_real);
    checkpoint_close(&c);
}
