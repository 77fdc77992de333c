/* The search for the plug-in and its libraries, with small libraries made here: whatever is wrong
 * has a sentence that names the file.  (Needs a C compiler; without one it is skipped.)
 *
 * A plug-in that opens stays open, so that the test in which one does comes last. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "device/device_impl.h"
#include "device/plugin.h"
#include "harness/harness.h"

static const char good[] = "const char yoke_cuda_version[] = \"" YOKE_VERSION "\";"
                           "const int device_cuda_ops = 1;";
static const char of_another_version[] = "const char yoke_cuda_version[] = \"0.0.9\";"
                                         "const int device_cuda_ops = 1;";

static const char *in_folder(const char *name)
{
    char *path = test_alloc(PATH_MAX);
    snprintf(path, PATH_MAX, "%s/%s", test_folder(), name);
    return path;
}

static void make_folders(const char *path) /* "a/b/c" in the test's folder */
{
    for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
        char part[256];
        if (slash == path) continue;
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        mkdir(in_folder(part), 0700);
    }
    mkdir(in_folder(path), 0700);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A shared library out of `source`; `options` of the linker. */
static const char *library(const char *name, const char *source, const char *options)
{
    char command[4 * PATH_MAX];
    const char *path = in_folder(name), *c = in_folder("source.c");
    write_file(c, source);
    snprintf(command, sizeof command, "cc -shared -fPIC -o '%s' '%s' %s >/dev/null 2>&1",
             path, c, options);
    if (system(command) != 0) skip();
    return path;
}

/* A plug-in that needs libyoke_test_needed.so.7, which lies in `folder`. */
static const char *needy_plugin(const char *folder)
{
    char options[2 * PATH_MAX], name[PATH_MAX];
    make_folders(folder);
    snprintf(name, sizeof name, "%s/libyoke_test_needed.so.7", folder);
    const char *needed =
        library(name, "int yoke_test_needed;", "-Wl,-soname,libyoke_test_needed.so.7");
    snprintf(options, sizeof options, "-Wl,--no-as-needed '%s'", needed);
    return library("needy.so", of_another_version, options);
}

static void forget_variables(void)
{
    static const char *const names[] = {"YOKE_CUDA_PLUGIN", "YOKE_CUDA_LIBDIRS",
                                        "CUDA_HOME", "VIRTUAL_ENV", "CONDA_PREFIX"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
}

static status_t try_plugin(const char *path)
{
    const struct device_ops *ops = NULL;
    setenv("YOKE_CUDA_PLUGIN", path, 1);
    const status_t st = plugin_open(&ops);
    if (st != STATUS_OK) assert_null(ops);
    return st;
}

TEST(a_plugin_that_cannot_be_read_is_refused_by_name)
{
    forget_variables();
    ASSERT_REFUSED(try_plugin("/nowhere/libyoke_cuda.so"), STATUS_DEVICE,
                   "YOKE_CUDA_PLUGIN is /nowhere/libyoke_cuda.so, which cannot be read");
}

TEST(a_file_that_is_no_library_is_refused)
{
    forget_variables();
    const char *path = in_folder("text.so");
    write_file(path,
               "this is no library, although it is long enough to be looked at closely");
    ASSERT_REFUSED(try_plugin(path), STATUS_DEVICE, "the plug-in does not load");
    assert_non_null(strstr(status_message(), path));
}

TEST(a_library_that_is_no_plugin_is_refused)
{
    forget_variables();
    ASSERT_REFUSED(try_plugin(library("other.so", "int x;", "")), STATUS_DEVICE,
                   "is not a plug-in of yoke (no yoke_cuda_version in it)");
    ASSERT_REFUSED(
        try_plugin(library("half.so",
                           "const char yoke_cuda_version[] = \"" YOKE_VERSION "\";", "")),
        STATUS_DEVICE, "no device_cuda_ops in it");
}

TEST(a_plugin_of_another_version_is_refused_with_both_versions)
{
    forget_variables();
    ASSERT_REFUSED(try_plugin(library("old.so", of_another_version, "")), STATUS_DEVICE,
                   "belongs to yoke 0.0.9, this program is yoke " YOKE_VERSION);
}

TEST(an_undefined_symbol_is_not_taken_for_a_missing_library)
{
    forget_variables();
    const char *path = library("undefined.so",
                               "int yoke_test_nowhere(void); int f(void) { return "
                               "yoke_test_nowhere(); }",
                               "-Wl,-z,now");
    ASSERT_REFUSED(try_plugin(path), STATUS_DEVICE,
                   "undefined symbol: yoke_test_nowhere");
}

TEST(a_missing_library_is_named_with_the_places_that_were_searched)
{
    forget_variables();
    const char *path = needy_plugin("not_searched");
    setenv("YOKE_CUDA_LIBDIRS", "/first/place:/second/place", 1);
    setenv("CUDA_HOME", "/cuda/home", 1);
    ASSERT_REFUSED(try_plugin(path), STATUS_DEVICE, "libyoke_test_needed.so.7, which ");
    assert_non_null(strstr(status_message(), path));
    assert_non_null(strstr(status_message(), "/first/place:/second/place"));
    assert_non_null(strstr(status_message(), "/cuda/home/lib64"));
    assert_non_null(strstr(status_message(), "/usr/local/cuda-*/lib64"));
    assert_null(strstr(status_message(), "site-packages/nvidia/*/lib, /lib"));
}

TEST(a_library_that_is_there_but_damaged_is_named)
{
    forget_variables();
    const char *path = needy_plugin("not_searched_either");
    make_folders("damaged");
    write_file(in_folder("damaged/libyoke_test_needed.so.7"), "no library");
    setenv("YOKE_CUDA_LIBDIRS", in_folder("damaged"), 1);
    ASSERT_REFUSED(try_plugin(path), STATUS_DEVICE,
                   in_folder("damaged/libyoke_test_needed.so.7"));
}

/* That the version is what is wrong shows that the library was found. */
TEST(a_needed_library_is_found_in_the_list_of_folders)
{
    forget_variables();
    const char *path = needy_plugin("listed");
    char list[2 * PATH_MAX];
    snprintf(list, sizeof list, "/nowhere:%s", in_folder("listed"));
    setenv("YOKE_CUDA_LIBDIRS", list, 1);
    ASSERT_REFUSED(try_plugin(path), STATUS_DEVICE, "belongs to yoke 0.0.9");
}

/* The loader remembers by name what it has opened, hence another name in each test. */
TEST(a_library_is_found_inside_a_virtual_environment)
{
    static const char folder[] = "venv/lib/python3.11/site-packages/nvidia/cu13/lib";
    forget_variables();
    make_folders(folder);
    library("venv/lib/python3.11/site-packages/nvidia/cu13/lib/libyoke_test_venv.so.1",
            "int yoke_test_venv;", "");
    assert_null(plugin_find_library("libyoke_test_venv.so.1"));
    setenv("VIRTUAL_ENV", in_folder("venv"), 1);
    assert_non_null(plugin_find_library("libyoke_test_venv.so.1"));
}

TEST(without_a_driver_nothing_is_loaded)
{
    forget_variables();
    if (dlopen("libcuda.so.1", RTLD_LAZY)) skip(); /* a machine with a GPU */
    const struct device_ops *ops = NULL;
    ASSERT_REFUSED(plugin_open(&ops), STATUS_DEVICE, "there is no NVIDIA driver");
    struct plugin_library found[8];
    assert_int_equal(plugin_libraries(found, 8), 0);
}

TEST(a_missing_plugin_is_refused_with_the_folders_that_were_searched)
{
    forget_variables();
    const char *driver = library("libcuda.so.1", "int x;", "-Wl,-soname,libcuda.so.1");
    void *handle = dlopen(driver, RTLD_LAZY);
    const struct device_ops *ops = NULL;
    assert_non_null(handle);
    ASSERT_REFUSED(plugin_open(&ops), STATUS_DEVICE,
                   "the plug-in libyoke_cuda.so is missing; looked in /");
    assert_non_null(strstr(status_message(), "/../lib/yoke, "));
}

TEST(a_plugin_opens_once_and_its_file_is_known)
{
    forget_variables();
    const char *path = library("any_name.so", good, "");
    const struct device_ops *ops = NULL;
    assert_null(plugin_symbol("yoke_cuda_version"));
    ASSERT_OK(try_plugin(path));
    ASSERT_OK(plugin_open(&ops));
    assert_non_null(ops);
    assert_ptr_equal(ops, plugin_symbol("device_cuda_ops"));
    assert_null(plugin_symbol("no_such_symbol"));
    struct plugin_library found[8];
    bool listed = false;
    const int n = plugin_libraries(found, 8);
    for (int i = 0; i < n; i++) listed = listed || strcmp(found[i].file, path) == 0;
    assert_true(listed);
}
