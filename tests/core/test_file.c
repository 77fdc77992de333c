#include <limits.h>
#include <stdio.h>

#include "core/file.h"
#include "harness/harness.h"

static const char *inside(char path[PATH_MAX], const char *name)
{
    file_join(path, PATH_MAX, test_folder(), name);
    return path;
}

TEST(a_file_is_replaced_whole_and_leaves_no_temporary)
{
    char path[PATH_MAX], tmp[PATH_MAX], *data;
    size_t bytes;
    ASSERT_OK(file_replace(inside(path, "a"), "first", 5));
    ASSERT_OK(file_replace(path, "second", 6));
    ASSERT_OK(file_read(path, 100, &data, &bytes));
    assert_int_equal(bytes, 6);
    assert_string_equal(data, "second");
    assert_false(file_exists(inside(tmp, "a.tmp")));
    free(data);
}

TEST(folders_and_files_that_are_too_large_are_refused)
{
    char path[PATH_MAX], *data;
    size_t bytes;
    ASSERT_OK(file_replace(inside(path, "b"), "12345", 5));
    ASSERT_REFUSED(file_read(path, 4, &data, &bytes), STATUS_IO, "at most 4 are read");
    ASSERT_REFUSED(file_read(test_folder(), 4, &data, &bytes), STATUS_IO,
                   "not a regular file");
}

TEST(the_folder_of_a_new_file_is_made)
{
    char path[PATH_MAX];
    ASSERT_OK(file_make_parent(inside(path, "deep/er/file")));
    ASSERT_OK(file_replace(path, "x", 1));
    ASSERT_OK(file_make_parent(path));
    ASSERT_OK(file_make_parent("file-in-this-folder"));
    ASSERT_REFUSED(file_make_parent(inside(path, "deep/er/file/below")), STATUS_IO,
                   "not a directory");
}
