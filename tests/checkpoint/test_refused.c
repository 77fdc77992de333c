/* @timeout 300
 * Whatever is wrong with the bytes of a checkpoint, it is refused in one line or it loads the
 * right numbers: no crash, no wrong number. */
#include "fixture.h"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint_impl.h"
#include "core/h5.h"

enum { SALT = 5 };

static const char *model, *shard0, *shard1, *folder;

static void copy(const char *from, const char *to)
{
    char *data;
    size_t bytes;
    ASSERT_OK(file_read(from, 1 << 24, &data, &bytes));
    ASSERT_OK(file_replace(to, data, bytes));
    free(data);
}

/* A fresh checkpoint of two shards: rank 0's save of one rank is cut by hand.  Saved once and
 * copied, so that each test may spoil its own. */
static void fresh(void)
{
    static char paths[4][PATH_MAX];
    const char *run = test_folder();
    file_join(paths[0], PATH_MAX, run, "step-00000001");
    file_join(paths[1], PATH_MAX, paths[0], "model.h5");
    file_join(paths[2], PATH_MAX, paths[0], "shard-00000.h5");
    file_join(paths[3], PATH_MAX, paths[0], "shard-00001.h5");
    folder = paths[0], model = paths[1], shard0 = paths[2], shard1 = paths[3];
    if (!file_exists(path_in(run, "model"))) {
        const struct param_table t = small_table();
        struct ckpt_index x = {.n_shards = 2, .n_params = t.n_params};
        struct ckpt_shard shards[2];
        struct checkpoint_param params[5];
        struct ckpt_piece pieces[64];
        ASSERT_OK(file_make_dirs(folder));
        for (int s = 0; s < 2; s++) {
            struct checkpoint_range ranges[MAX_RANGES];
            struct ckpt_part *parts;
            int64_t n_parts;
            const int n = cut_ranges(&t, s, 2, 3, 0, ranges);
            fill_ranges(SALT, ranges, n);
            ASSERT_OK(ckpt_cut(&t, ranges, n, s, &parts, &n_parts));
            ASSERT_OK(
                ckpt_shard_write(s ? shard1 : shard0, 1, s, parts, n_parts, &shards[s]));
            for (int64_t i = 0; i < n_parts; i++) pieces[x.n_pieces++] = parts[i].piece;
            free(parts);
        }
        for (int i = 0; i < t.n_params; i++) {
            const struct param *p = &t.params[i];
            params[i] = (struct checkpoint_param){.n_dims = p->n_dims,
                                                  .shape = {p->shape[0], p->shape[1]}};
            memcpy(params[i].name, p->name, sizeof p->name);
        }
        x.params = params, x.pieces = pieces, x.shards = shards;
        const struct checkpoint_meta meta = some_meta(1);
        ASSERT_OK(ckpt_index_check(&x, model, STATUS_INTERNAL));
        ASSERT_OK(ckpt_model_write(model, &x, &meta));
        ASSERT_OK(file_commit(model));
        copy(model, path_in(run, "model"));
        copy(shard0, path_in(run, "shard0"));
        copy(shard1, path_in(run, "shard1"));
    }
    remove(model), remove(shard0), remove(shard1);
    copy(path_in(run, "model"), model);
    copy(path_in(run, "shard0"), shard0);
    copy(path_in(run, "shard1"), shard1);
    ASSERT_OK(load_state(folder, SALT));
}

static off_t size_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

static void flip(const char *path, off_t at, unsigned char bits)
{
    const int fd = open(path, O_RDWR);
    unsigned char byte;
    assert_true(pread(fd, &byte, 1, at) == 1);
    byte ^= bits;
    assert_true(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void assert_load_refused(const char *words)
{
    const status_t st = load_state(folder, SALT);
    if (st != STATUS_CHECKPOINT && st != STATUS_IO)
        fail_msg("%s: got %s (%s)", words, status_name(st), status_message());
    if (!strstr(status_message(), words))
        fail_msg("message lacks \"%s\": %s", words, status_message());
    assert_null(strchr(status_message(), '\n'));
}

TEST(every_flipped_byte_of_every_file_is_refused)
{
    fresh();
    const char *files[] = {model, shard0, shard1};
    const char *names[] = {"model.h5", "shard-00000.h5", "shard-00001.h5"};
    for (int f = 0; f < 3; f++) {
        const off_t size = size_of(files[f]);
        for (off_t at = 0; at < size; at++) {
            const unsigned char bits = (unsigned char)(1u << (at % 8));
            flip(files[f], at, bits);
            assert_load_refused(names[f]);
            flip(files[f], at, bits);
        }
    }
    ASSERT_OK(load_state(folder, SALT));
}

TEST(a_flipped_bit_of_the_data_names_shard_parameter_and_dataset)
{
    fresh();
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, folder));
    const struct ckpt_piece *p = &c->index.pieces[c->index.n_pieces - 1];
    flip(shard1, (off_t)(c->index.shards[1].offset[2] + 4 * (uint64_t)p->offset), 1);
    assert_load_refused("shard-00001.h5: is damaged: exp_avg_sq of parameter head");
    ASSERT_REFUSED(checkpoint_verify(c, 0, 1), STATUS_CHECKPOINT,
                   "exp_avg_sq of parameter");
    checkpoint_close(&c);
}

TEST(every_truncation_is_refused)
{
    const char *names[] = {"model.h5", "shard-00000.h5", "shard-00001.h5"};
    for (int f = 0; f < 3; f++) {
        fresh();
        const char *path = f == 0 ? model : f == 1 ? shard0 : shard1;
        const off_t size = size_of(path);
        struct checkpoint *c;
        assert_int_equal(truncate(path, size + 1), 0);
        assert_int_equal(checkpoint_open(&c, folder),
                         STATUS_CHECKPOINT); /* before a read */
        assert_null(c);
        assert_load_refused(names[f]);
        for (off_t n = size - 1; n >= 0; n -= n > 600 ? 61 : 1) {
            assert_int_equal(truncate(path, n), 0);
            assert_load_refused(names[f]);
        }
    }
}

TEST(missing_files_and_things_in_their_place_are_refused)
{
    const char *names[] = {"model.h5", "shard-00000.h5", "shard-00001.h5"};
    for (int f = 0; f < 3; f++) {
        for (int how = 0; how < 4; how++) {
            fresh();
            const char *path = f == 0 ? model : f == 1 ? shard0 : shard1;
            remove(path);
            if (how == 1) assert_int_equal(mkdir(path, 0777), 0);
            if (how == 2) assert_int_equal(mkfifo(path, 0666), 0);
            if (how == 3) ASSERT_OK(file_replace(path, "", 0));
            assert_load_refused(names[f]);
        }
    }
    fresh();
    ASSERT_REFUSED(load_state(path_in(folder, "nothing"), SALT), STATUS_CHECKPOINT,
                   "is not a folder");
    ASSERT_REFUSED(load_state(model, SALT), STATUS_CHECKPOINT, "is not a folder");
    ASSERT_REFUSED(load_state(test_folder(), SALT), STATUS_CHECKPOINT,
                   "holds no model.h5");
}

TEST(another_shard_in_place_of_one_is_refused)
{
    fresh();
    copy(shard0, shard1);
    assert_load_refused("shard-00001.h5");
    /* the same shape and step, other numbers: only the hash of the data under the seal tells */
    fresh();
    const struct param_table t = small_table();
    struct checkpoint_range ranges[MAX_RANGES];
    struct ckpt_part *parts;
    struct ckpt_shard row;
    int64_t n_parts;
    const int n = cut_ranges(&t, 1, 2, 3, 0, ranges);
    fill_ranges(SALT + 1, ranges, n);
    ASSERT_OK(ckpt_cut(&t, ranges, n, 1, &parts, &n_parts));
    ASSERT_OK(ckpt_shard_write(shard1, 1, 1, parts, n_parts, &row));
    free(parts);
    assert_load_refused(
        "shard-00001.h5: is not the shard that model.h5 was written with");
}

/* ---- well sealed, and still not what this program reads ----------------------------------- */

static hid_t edit(void)
{
    char tmp[PATH_MAX];
    snprintf(tmp, sizeof tmp, "%s.tmp", model);
    fresh();
    copy(model, tmp);
    const hid_t file = H5Fopen(tmp, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static void seal_again(hid_t file)
{
    assert_true(H5Fclose(file) >= 0);
    ASSERT_OK(h5_seal(model, "model", NULL, 0));
    ASSERT_OK(file_commit(model));
}

static void set_u64(const char *name, uint64_t value, const char *words)
{
    const hid_t file = edit();
    H5Adelete(file, name);
    ASSERT_OK(h5_write_u64(file, name, value));
    seal_again(file);
    assert_load_refused(words);
}

TEST(attributes_that_are_newer_impossible_missing_or_ill_typed_are_refused)
{
    set_u64("version", 9, "model.h5: is of format version 9, this program reads 2");
    set_u64("version", 0, "format version 0");
    set_u64("step", UINT64_MAX, "attribute step is 18446744073709551615");
    set_u64("generation", 9, "shard-00000.9.h5: is missing");
    static const char *const names[] = {
        "version",     "generation", "step",   "next_sample", "tokens", "skipped_steps",
        "log_targets", "seed",       "config", "versions",    "data"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hid_t file = edit();
        H5Adelete(file, names[i]);
        seal_again(file);
        assert_load_refused(names[i]);
        file = edit();
        H5Adelete(file, names[i]);
        ASSERT_OK(h5_write_f64(file, names[i], 1));
        seal_again(file);
        assert_load_refused(names[i]);
    }
}

/* Put another dataset in the place of `name`. */
static void replace(const char *name, hid_t type, int n_dims, hsize_t rows, hsize_t cols)
{
    const hid_t file = edit();
    const hsize_t shape[3] = {rows, cols, 1};
    const hid_t space = n_dims > 0 ? H5Screate_simple(n_dims, shape, NULL)
                                   : H5Screate(n_dims == 0 ? H5S_SCALAR : H5S_NULL);
    assert_true(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    const hid_t d =
        H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(d >= 0);
    H5Dclose(d), H5Sclose(space);
    seal_again(file);
    char words[64];
    snprintf(words, sizeof words, "model.h5: dataset /%s is not of the type and shape",
             name);
    assert_load_refused(words);
}

TEST(tables_of_another_type_shape_or_size_are_refused)
{
    static const char *const names[] = {"index", "index_xxh3", "shards", "param_shapes",
                                        "param_names"};
    static const hsize_t cols[] = {7, 3, 6, 3, 1};
    for (int i = 0; i < 5; i++) {
        replace(names[i], H5T_IEEE_F64LE, 2, 5, cols[i]);
        replace(names[i], H5T_STD_I64LE, 2, 5, cols[i]);
        replace(names[i], H5T_STD_U64BE, 2, 5, cols[i]);
        replace(names[i], H5T_STD_U64LE, 2, 5, cols[i] + 1);
        replace(names[i], H5T_STD_U64LE, i == 4 ? 2 : 1, 5, 1);
        replace(names[i], H5T_STD_U64LE, 3, 5, cols[i]);
        replace(names[i], H5T_STD_U64LE, 0, 0, 0);
        replace(names[i], H5T_STD_U64LE, -1, 0, 0);
        /* storage that comes late: an extent of exabytes in a file of kilobytes */
        replace(names[i], H5T_STD_U64LE, i == 4 ? 1 : 2, (hsize_t)1 << 40, cols[i]);
        const hid_t file = edit();
        assert_true(H5Ldelete(file, names[i], H5P_DEFAULT) >= 0);
        seal_again(file);
        char words[64];
        snprintf(words, sizeof words, "model.h5: has no dataset /%s", names[i]);
        assert_load_refused(words);
    }
}

TEST(tables_that_disagree_are_refused)
{
    static const char *const names[] = {"index", "index_xxh3", "shards", "param_shapes"};
    static const hsize_t cols[] = {7, 3, 6, 3};
    static const char *const words[] = {"has 1 pieces but", "but 1 hashes",
                                        "model.h5: ", "has 5 names but 1 shapes"};
    for (int i = 0; i < 4; i++) {
        const hid_t file = edit();
        const hsize_t shape[2] = {1, cols[i]};
        const hid_t space = H5Screate_simple(2, shape, NULL);
        assert_true(H5Ldelete(file, names[i], H5P_DEFAULT) >= 0);
        const hid_t d = H5Dcreate2(file, names[i], H5T_STD_U64LE, space, H5P_DEFAULT,
                                   H5P_DEFAULT, H5P_DEFAULT);
        const uint64_t ones[7] = {1, 1, 1, 1, 1, 1, 1};
        H5Dwrite(d, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, ones);
        H5Dclose(d), H5Sclose(space);
        seal_again(file);
        assert_load_refused(words[i]);
    }
}

TEST(a_parameter_that_is_there_twice_is_refused)
{
    fresh();
    struct checkpoint *c;
    struct param_table t = small_table();
    ASSERT_OK(checkpoint_open(&c, folder));
    c->index.params[4] = c->index.params[3]; /* two of one name, for a model with four */
    t.n_params = 4;
    ASSERT_REFUSED(checkpoint_match(c, &t), STATUS_CHECKPOINT, "holds a parameter twice");
    checkpoint_close(&c);
}
