/* A sealed HDF5 file either opens whole or is refused with a sentence. */
#include "harness/harness.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"

enum { N = 1000 };

static const char *in_folder(const char *name)
{
    static char path[PATH_MAX];
    file_join(path, sizeof path, test_folder(), name);
    return path;
}

/* A file with one contiguous dataset of 4 N bytes, all 7, and attributes. */
static struct h5_region make_file(const char *path, const char *text)
{
    hid_t file;
    ASSERT_OK(h5_create(path, &file));
    const hsize_t n = N;
    const hid_t space = H5Screate_simple(1, &n, NULL),
                dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    const hid_t d =
        H5Dcreate2(file, "x", H5T_STD_I32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(d >= 0);
    int32_t *x = test_alloc(4 * N);
    for (int i = 0; i < N; i++) x[i] = 7;
    assert_true(H5Dwrite(d, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    struct h5_region region = {.offset = 1, .bytes = 1};
    ASSERT_OK(h5_dataset_region(d, &region));
    ASSERT_OK(h5_write_str(file, "text", text));
    ASSERT_OK(h5_write_str(file, "empty", ""));
    ASSERT_OK(h5_write_u64(file, "whole", UINT64_MAX));
    ASSERT_OK(h5_write_f64(file, "real", 0.1));
    H5Dclose(d), H5Pclose(dcpl), H5Sclose(space), H5Fclose(file);
    ASSERT_OK(h5_seal(path, "thing", &region, 1));
    ASSERT_OK(file_commit(path));
    return region;
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

static void write_text(const char *path, const char *text)
{
    ASSERT_OK(file_replace(path, text, strlen(text)));
}

TEST(attributes_come_back_as_written)
{
    const char *path = in_folder("a.h5");
    char *large = test_alloc(200001);
    memset(large, 'y', 200000); /* past the 64 KiB of an attribute of fixed length */
    make_file(path, large);
    hid_t file;
    ASSERT_OK(h5_open(path, "thing", STATUS_DATA, &file));
    char *text = (char *)1;
    uint64_t whole = 3;
    double real = 3;
    ASSERT_OK(h5_read_str(file, path, "text", STATUS_DATA, &text));
    assert_string_equal(text, large);
    free(text);
    ASSERT_OK(h5_read_str(file, path, "empty", STATUS_DATA, &text));
    assert_string_equal(text, "");
    free(text);
    ASSERT_OK(h5_read_u64(file, path, "whole", STATUS_DATA, &whole));
    assert_true(whole == UINT64_MAX);
    ASSERT_OK(h5_read_f64(file, path, "real", STATUS_DATA, &real));
    assert_true(real == 0.1);
    assert_true(h5_has(file, "real"));
    assert_false(h5_has(file, "unreal"));
    H5Fclose(file);
}

TEST(missing_and_ill_typed_attributes_are_named)
{
    const char *path = in_folder("b.h5");
    make_file(path, "x");
    hid_t file;
    ASSERT_OK(h5_open(path, "thing", STATUS_DATA, &file));
    char *text;
    uint64_t whole;
    double real;
    ASSERT_REFUSED(h5_read_u64(file, path, "nothing", STATUS_DATA, &whole), STATUS_DATA,
                   "b.h5: has no attribute nothing");
    ASSERT_REFUSED(h5_read_u64(file, path, "text", STATUS_DATA, &whole), STATUS_DATA,
                   "attribute text is not an unsigned integer");
    ASSERT_REFUSED(h5_read_str(file, path, "whole", STATUS_DATA, &text), STATUS_DATA,
                   "attribute whole is not a string of variable length");
    assert_null(text);
    ASSERT_REFUSED(h5_read_f64(file, path, "whole", STATUS_DATA, &real), STATUS_DATA,
                   "attribute whole is not a floating-point number");
    H5Fclose(file);
}

/* What other programs may write: a string of fixed length, a signed integer, two numbers. */
static void make_odd_attributes(hid_t file)
{
    const hid_t string = H5Tcopy(H5T_C_S1), one = H5Screate(H5S_SCALAR);
    const hsize_t n = 2;
    const hid_t two = H5Screate_simple(1, &n, NULL);
    H5Tset_size(string, 4);
    H5Aclose(H5Acreate2(file, "fixed", string, one, H5P_DEFAULT, H5P_DEFAULT));
    H5Aclose(H5Acreate2(file, "signed", H5T_STD_I64LE, one, H5P_DEFAULT, H5P_DEFAULT));
    H5Aclose(H5Acreate2(file, "two", H5T_STD_U64LE, two, H5P_DEFAULT, H5P_DEFAULT));
    H5Tclose(string), H5Sclose(one), H5Sclose(two);
}

TEST(attributes_of_a_related_type_are_refused)
{
    const char *path = in_folder("k.h5");
    hid_t file;
    ASSERT_OK(h5_create(path, &file));
    make_odd_attributes(file);
    char *text;
    uint64_t whole;
    ASSERT_REFUSED(h5_read_str(file, path, "fixed", STATUS_DATA, &text), STATUS_DATA,
                   "attribute fixed is not a string of variable length");
    ASSERT_REFUSED(h5_read_u64(file, path, "signed", STATUS_DATA, &whole), STATUS_DATA,
                   "attribute signed is not an unsigned integer");
    ASSERT_REFUSED(h5_read_u64(file, path, "two", STATUS_DATA, &whole), STATUS_DATA,
                   "attribute two is not an unsigned integer");
    H5Fclose(file);
}

TEST(the_kind_is_under_the_hash)
{
    const char *path = in_folder("l.h5");
    make_file(path, "x");
    flip(path, (off_t)strlen("yoke-seal 1 thin"), 'g' ^ 'k');
    ASSERT_REFUSED(h5_check_seal(path, "think", STATUS_DATA, NULL), STATUS_DATA,
                   "do not match its seal");
}

TEST(a_region_is_where_the_raw_data_lies)
{
    const char *path = in_folder("c.h5");
    const struct h5_region region = make_file(path, "x");
    assert_int_equal(region.bytes, 4 * N);
    const int fd = open(path, O_RDONLY);
    int32_t x[N];
    assert_int_equal(pread(fd, x, sizeof x, (off_t)region.offset), sizeof x);
    close(fd);
    for (int i = 0; i < N; i++) assert_int_equal(x[i], 7);
    struct h5_seal_info info;
    ASSERT_OK(h5_check_seal(path, "thing", STATUS_DATA, &info));
    assert_int_equal(info.n_regions, 1);
    assert_true(info.regions[0].offset == region.offset);
    assert_true(info.regions[0].bytes == region.bytes);
}

TEST(every_flipped_byte_outside_the_regions_is_noticed)
{
    const char *path = in_folder("d.h5");
    const struct h5_region region = make_file(path, "some text");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    for (off_t at = 0; at < info.st_size; at++) {
        const uint64_t u = (uint64_t)at;
        const bool inside = u >= region.offset && u < region.offset + region.bytes;
        const unsigned char bits = (unsigned char)(1u << (at % 8));
        flip(path, at, bits);
        hid_t file = 1;
        const status_t st = h5_open(path, "thing", STATUS_DATA, &file);
        if (inside) {
            assert_int_equal(st, STATUS_OK);
            H5Fclose(file);
        } else if (st != STATUS_DATA || file >= 0) {
            fail_msg("byte %jd: %s", (intmax_t)at, status_name(st));
        }
        flip(path, at, bits);
    }
    ASSERT_OK(h5_check_seal(path, "thing", STATUS_DATA, NULL));
}

TEST(every_other_length_is_refused)
{
    const char *path = in_folder("e.h5");
    make_file(path, "some text");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size + 1), 0);
    ASSERT_REFUSED(h5_check_seal(path, "thing", STATUS_DATA, NULL), STATUS_DATA,
                   "damaged");
    for (off_t n = info.st_size - 1; n >= 0; n -= n > 600 ? 97 : 1) {
        assert_int_equal(truncate(path, n), 0);
        ASSERT_REFUSED(h5_check_seal(path, "thing", STATUS_DATA, NULL), STATUS_DATA,
                       "e.h5");
    }
}

TEST(files_that_are_not_ours_are_refused)
{
    const char *path = in_folder("f.h5");
    hid_t file = 1;
    ASSERT_REFUSED(h5_open(path, "thing", STATUS_DATA, &file), STATUS_IO,
                   "f.h5: cannot open");
    assert_true(file < 0);
    write_text(path, "");
    ASSERT_REFUSED(h5_open(path, "thing", STATUS_DATA, &file), STATUS_DATA,
                   "not a file written");
    make_file(path, "x");
    ASSERT_REFUSED(h5_open(path, "other", STATUS_DATA, &file), STATUS_DATA,
                   "of kind \"thing\", wanted is \"other\"");
    ASSERT_REFUSED(h5_open(test_folder(), "thing", STATUS_DATA, &file), STATUS_DATA,
                   "not a regular file");
    const char *pipe = in_folder("pipe.h5");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    ASSERT_REFUSED(h5_open(pipe, "thing", STATUS_DATA, &file), STATUS_DATA,
                   "not a regular file");
}

TEST(seals_that_lie_are_refused)
{
    static const char *const lines[] = {
        "yoke-seal 1 thing size=512 regions= xxh3=",
        "yoke-seal 1 thing size=-1 regions= xxh3=0000000000000000\n",
        "yoke-seal 1 thing size=512 regions=512+1 xxh3=0000000000000000\n",
        "yoke-seal 1 thing size=512 regions=1+1 xxh3=0000000000000000\n",
        "yoke-seal 1 thing size=512 regions=18446744073709551615+2 "
        "xxh3=0000000000000000\n",
        "yoke-seal 1 thing size=512 regions=1+1,1+1,1+1,1+1,1+1,1+1,1+1,1+1,1+1 xxh3=0\n",
        "yoke-seal 1 thing size=99999999999999999999 regions= xxh3=0000000000000000\n",
        "yoke-seal 1 thingthingthingthing size=512 regions= xxh3=0000000000000000\n",
        "yoke-seal 1 thing size=512 regions= xxh3=0000000000000000\n",
        "yoke-seal 1 \n",
        "yoke-seal x thing size=512 regions= xxh3=0000000000000000\n",
    };
    const char *path = in_folder("g.h5");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char block[H5_BLOCK_BYTES] = "";
        snprintf(block, sizeof block, "%s", lines[i]);
        ASSERT_OK(file_replace(path, block, sizeof block));
        ASSERT_REFUSED(h5_check_seal(path, "thing", STATUS_DATA, NULL), STATUS_DATA,
                       "damaged");
    }
    char block[H5_BLOCK_BYTES] = "yoke-seal 2 whatever comes then";
    ASSERT_OK(file_replace(path, block, sizeof block));
    ASSERT_REFUSED(h5_check_seal(path, "thing", STATUS_DATA, NULL), STATUS_DATA,
                   "seal version 2");
}

TEST(failed_hdf5_calls_say_why_in_one_line)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, test_folder(), "no such folder/h.h5");
    hid_t file = 1;
    ASSERT_REFUSED(h5_create(path, &file), STATUS_IO, "No such file or directory");
    assert_null(strchr(status_message(), '\n'));
    assert_true(file < 0);

    const char *twice = in_folder("i.h5");
    ASSERT_OK(h5_create(twice, &file));
    ASSERT_OK(h5_write_u64(file, "a", 1));
    ASSERT_REFUSED(h5_write_u64(file, "a", 2), STATUS_IO,
                   "i.h5.tmp: HDF5 cannot write attribute a: ");
    H5Fclose(file);
}
