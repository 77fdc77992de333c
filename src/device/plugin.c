/* The search for the CUDA plug-in and for the libraries it needs.
 *
 * The program knows nothing of CUDA: a machine without it runs the same binary.  In this order:
 *   1. The driver, libcuda.so.1.  Without it nothing else is touched.
 *   2. libyoke_cuda.so, in the folder of the program, in ../lib/yoke or in ../lib beside it.
 *      $YOKE_CUDA_PLUGIN names another file, which need not want a driver.
 *   3. A library that the plug-in needs and the loader does not find is opened by its absolute
 *      path, first hit in $YOKE_CUDA_LIBDIRS, $CUDA_HOME, /usr/local/cuda* and the Python packages
 *      that PyTorch brings its CUDA in; then the plug-in again, whose need is now met by name, until
 *      nothing is missing.  No LD_LIBRARY_PATH is wanted for that, and names carry the generation
 *      of CUDA, so that no folder can give a wrong one. */
#include "device/plugin.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device_impl.h"

static const char driver_name[] = "libcuda.so.1";
static const char plugin_name[] = "libyoke_cuda.so";

/* What the report of loaded libraries names, by the beginning of the file's name. */
static const char *const prefixes[] = {"libcuda.so",  "libcudart.so", "libcublas",
                                       "libcudnn.so", "libnccl.so",   "libnvrtc.so"};

enum { TEXT_BYTES = 1024, MAX_MISSING = 16 };

static void *plugin; /* open for the life of the process */
static char plugin_file[PATH_MAX];

/* ---- places ------------------------------------------------------------------------------- */

/* Where CUDA libraries are looked for: a variable (or NULL) and what follows its value.  `*` is
 * any name. */
static const struct {
    const char *variable, *rest;
} places[] = {
    {"CUDA_HOME", "/lib64"},
    {"CUDA_HOME", "/lib"},
    {NULL, "/usr/local/cuda/lib64"},
    {NULL, "/usr/local/cuda-*/lib64"},
    {"VIRTUAL_ENV", "/lib/python3*/site-packages/nvidia/*/lib"},
    {"VIRTUAL_ENV", "/lib/python3*/site-packages/torch/lib"},
    {"CONDA_PREFIX", "/lib"},
    {"CONDA_PREFIX", "/lib/python3*/site-packages/nvidia/*/lib"},
    {"CONDA_PREFIX", "/lib/python3*/site-packages/torch/lib"},
    {"HOME", "/.local/lib/python3*/site-packages/nvidia/*/lib"},
    {"HOME", "/.local/lib/python3*/site-packages/torch/lib"},
    {NULL, "/usr/local/lib/python3*/*-packages/nvidia/*/lib"},
    {NULL, "/usr/local/lib/python3*/*-packages/torch/lib"},
    {NULL, "/usr/lib/python3*/*-packages/nvidia/*/lib"},
    {NULL, "/usr/lib/python3*/*-packages/torch/lib"},
};
enum { N_PLACES = sizeof places / sizeof *places };

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Where a container's runtime puts the driver without telling the loader. */
static const char *const driver_places[] = {"/usr/local/nvidia/lib64",
                                            "/usr/local/nvidia/lib", "/usr/lib/wsl/lib"};

static void add(char *text, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(char *text, const char *fmt, ...)
{
    const size_t used = strlen(text);
    va_list list;
    va_start(list, fmt);
    vsnprintf(text + used, TEXT_BYTES - used, fmt, list);
    va_end(list);
}

/* The places as a reader of a message can check them. */
static void describe_places(char text[TEXT_BYTES])
{
    const char *dirs = variable("YOKE_CUDA_LIBDIRS");
    text[0] = '\0';
    add(text, "%s", dirs ? dirs : "$YOKE_CUDA_LIBDIRS (not set)");
    for (int i = 0; i < N_PLACES; i++) {
        const char *value = places[i].variable ? variable(places[i].variable) : "";
        if (value) add(text, ", %s%s", value, places[i].rest);
    }
}

/* Open the first file of `soname` in `folder` + `rest` that loads; `refused` gets the loader's
 * sentence about those that do not. */
static void *open_in(const char *folder, int folder_length, const char *rest,
                     const char *soname, char refused[TEXT_BYTES])
{
    char pattern[PATH_MAX];
    void *handle = NULL;
    const int n = snprintf(pattern, sizeof pattern, "%.*s%s/%s", folder_length, folder,
                           rest, soname);
    if (n < 0 || (size_t)n >= sizeof pattern) return NULL;
    glob_t found;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && !handle; i++) {
            handle = dlopen(found.gl_pathv[i], RTLD_LAZY | RTLD_GLOBAL);
            if (!handle) add(refused, "; %s", dlerror());
        }
        globfree(&found);
    }
    return handle;
}

/* RTLD_GLOBAL: these libraries look up each other's symbols when they are first used. */
static void *preload(const char *soname, char refused[TEXT_BYTES])
{
    void *handle = NULL;
    const char *dirs = variable("YOKE_CUDA_LIBDIRS");
    for (const char *d = dirs ? dirs : ""; *d && !handle;) {
        const size_t n = strcspn(d, ":");
        if (n > 0 && n < PATH_MAX) handle = open_in(d, (int)n, "", soname, refused);
        d += n + (d[n] == ':');
    }
    for (int i = 0; i < N_PLACES && !handle; i++) {
        const char *value = places[i].variable ? variable(places[i].variable) : "";
        if (value)
            handle = open_in(value, (int)strlen(value), places[i].rest, soname, refused);
    }
    return handle;
}

void *plugin_find_library(const char *soname)
{
    char refused[TEXT_BYTES] = "";
    void *handle = dlopen(soname, RTLD_LAZY | RTLD_GLOBAL);
    return handle ? handle : preload(soname, refused);
}

/* ---- the driver and the plug-in ----------------------------------------------------------- */

static status_t open_driver(void)
{
    if (dlopen(driver_name, RTLD_LAZY | RTLD_GLOBAL)) return STATUS_OK;
    char reason[TEXT_BYTES] = "";
    add(reason, "%s", dlerror());
    for (size_t i = 0; i < sizeof driver_places / sizeof *driver_places; i++) {
        const char *folder = driver_places[i];
        if (open_in(folder, (int)strlen(folder), "", driver_name, reason))
            return STATUS_OK;
    }
    return status_set(
        STATUS_DEVICE,
        "cuda: there is no NVIDIA driver (%s): install version 580 or later, in "
        "a container start it with the GPUs (docker run --gpus all), or use "
        "--device cpu",
        reason);
}

/* The plug-in's file: STATUS_DEVICE lists where it is not. */
static status_t find_plugin(char path[PATH_MAX])
{
    static const char *const folders[] = {"", "/../lib/yoke", "/../lib"};
    char self[PATH_MAX], looked[TEXT_BYTES] = "";
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return status_set(
            STATUS_DEVICE,
            "cuda: /proc/self/exe cannot be read, so that %s cannot be looked "
            "for beside the program: name it in YOKE_CUDA_PLUGIN",
            plugin_name);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        const int length =
            snprintf(path, PATH_MAX, "%s%s/%s", self, folders[i], plugin_name);
        if (length > 0 && length < PATH_MAX && access(path, R_OK) == 0) return STATUS_OK;
        add(looked, "%s%s%s", i ? ", " : "", self, folders[i]);
    }
    return status_set(
        STATUS_DEVICE,
        "cuda: the plug-in %s is missing; looked in %s: put it into one of them "
        "(this yoke may have been built without CUDA), or name it in "
        "YOKE_CUDA_PLUGIN",
        plugin_name, looked);
}

/* "libx.so.1: cannot open shared object file: ..." of the loader -> "libx.so.1"; false if it
 * complains about something else, or about the plug-in's own file. */
static bool names_missing_library(const char *error, const char *path, char *name,
                                  size_t bytes)
{
    static const char words[] = ": cannot open shared object file";
    const char *end = strstr(error, words);
    if (!end || strncmp(error, path, strlen(path)) == 0) return false;
    snprintf(name, bytes, "%.*s", (int)(end - error), error);
    return true;
}

static status_t load_plugin(void **handle, const char *path)
{
    char error[TEXT_BYTES], missing[256], looked[TEXT_BYTES], refused[TEXT_BYTES] = "";
    for (int i = 0; i < MAX_MISSING; i++) {
        *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (*handle) return STATUS_OK;
        error[0] = '\0';
        add(error, "%s", dlerror());
        if (!names_missing_library(error, path, missing, sizeof missing))
            return status_set(
                STATUS_DEVICE,
                "cuda: the plug-in does not load: %s: install the one that was "
                "built with this program",
                error);
        if (!preload(missing, refused)) break;
    }
    describe_places(looked);
    return status_set(
        STATUS_DEVICE,
        "cuda: %s, which %s needs, was not found; looked in the loader's own "
        "places, %s%s: install the CUDA it was built for, or a PyTorch that brings "
        "it, or put its folder into YOKE_CUDA_LIBDIRS",
        missing, path, looked, refused);
}

/* Is it a plug-in, and of this very version?  The tables have no version of their own. */
static status_t check_plugin(void *handle, const char *path)
{
    const char *version = dlsym(handle, "yoke_cuda_version");
    if (!version || !dlsym(handle, "device_cuda_ops"))
        return status_set(STATUS_DEVICE,
                          "cuda: %s is not a plug-in of yoke (no %s in it)", path,
                          version ? "device_cuda_ops" : "yoke_cuda_version");
    if (strcmp(version, YOKE_VERSION) != 0)
        return status_set(
            STATUS_DEVICE,
            "cuda: %s belongs to yoke %s, this program is yoke %s: install both "
            "from one build",
            path, version, YOKE_VERSION);
    return STATUS_OK;
}

status_t plugin_open(const struct device_ops **ops)
{
    *ops = NULL;
    if (!plugin) {
        char path[PATH_MAX];
        void *handle;
        const char *given = variable("YOKE_CUDA_PLUGIN");
        if (given) {
            if (!realpath(given, path) || access(path, R_OK) != 0)
                return status_set(STATUS_DEVICE,
                                  "cuda: YOKE_CUDA_PLUGIN is %s, which cannot be read",
                                  given);
        } else {
            TRY(open_driver());
            TRY(find_plugin(path));
        }
        TRY(load_plugin(&handle, path));
        const status_t st = check_plugin(handle, path);
        if (st != STATUS_OK) {
            dlclose(handle);
            return st;
        }
        plugin = handle;
        memcpy(plugin_file, path, sizeof path);
    }
    *ops = plugin_symbol("device_cuda_ops");
    return STATUS_OK;
}

const void *plugin_symbol(const char *name)
{
    return plugin ? dlsym(plugin, name) : NULL;
}

/* ---- what was loaded ---------------------------------------------------------------------- */

struct listing {
    struct plugin_library *out;
    int n, max;
};

static int list_library(struct dl_phdr_info *info, size_t bytes, void *context)
{
    struct listing *l = context;
    (void)bytes;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;
    bool wanted = plugin && strcmp(info->dlpi_name, plugin_file) == 0;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        wanted = wanted || strncmp(name, prefixes[i], strlen(prefixes[i])) == 0;
    if (wanted && l->n < l->max)
        l->out[l->n++] = (struct plugin_library){name, info->dlpi_name};
    return 0;
}

int plugin_libraries(struct plugin_library *out, int max)
{
    struct listing l = {out, 0, max};
    dl_iterate_phdr(list_library, &l);
    return l.n;
}
