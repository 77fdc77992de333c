/* What GPUs and libraries there are, and whether this plug-in can use them. */
#include <ctype.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device_cuda_impl.h"
#include "device/plugin.h"

enum { LEAST_CAPABILITY = 70 };

extern const struct plugin_queries yoke_cuda_queries;

const char *device_cuda_visible(void)
{
    const char *value = getenv("CUDA_VISIBLE_DEVICES");
    return value ? value : "not set";
}

/* "580.65.06" out of the kernel module; "of unknown version" where it does not tell. */
static void driver_release(char *text, size_t bytes)
{
    char line[256] = "";
    snprintf(text, bytes, "of unknown version");
    FILE *f = fopen("/proc/driver/nvidia/version", "r");
    if (!f) return;
    const char *word = fgets(line, sizeof line, f) ? line : NULL;
    fclose(f);
    for (; word && *word; word += strcspn(word, " \t"), word += strspn(word, " \t"))
        if (isdigit((unsigned char)*word) && strchr(word, '.')) {
            snprintf(text, bytes, "%.*s", (int)strcspn(word, " \t\n"), word);
            return;
        }
}

static status_t old_driver(void)
{
    char release[64];
    int driver = 0, runtime = 0;
    driver_release(release, sizeof release);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) /* YOKE_CUDA_PLUGIN was given: nobody has looked for the driver */
        return status_set(STATUS_DEVICE,
                          "cuda: there is no NVIDIA driver: install one for CUDA "
                          "%d, or use --device cpu",
                          runtime / 1000);
    return status_set(
        STATUS_DEVICE,
        "cuda: the NVIDIA driver is too old: it is %s and serves CUDA %d.%d, this "
        "plug-in needs CUDA %d, which comes with driver %s: install a newer driver, "
        "or use --device cpu",
        release, driver / 1000, driver % 1000 / 10, runtime / 1000,
        runtime / 1000 >= 13 ? "580 or later" : "525 or later");
}

status_t device_cuda_count(int *count)
{
    *count = 0;
    const cudaError_t e = cudaGetDeviceCount(count);
    if (e == cudaSuccess && *count > 0) return STATUS_OK;
    cudaGetLastError();
    *count = 0;
    if (e == cudaErrorInsufficientDriver) return old_driver();
    if (e == cudaSuccess || e == cudaErrorNoDevice)
        return status_set(
            STATUS_DEVICE,
            "cuda: there is a driver but no GPU is visible (CUDA_VISIBLE_DEVICES "
            "is %s): does nvidia-smi list any, and does the container or the job "
            "pass them on (docker run --gpus all, srun --gpus-per-node)?",
            device_cuda_visible());
    return status_set(STATUS_DEVICE, "cuda: %s (%s)", device_cuda_reason(e),
                      cudaGetErrorName(e));
}

/* The least of "750,800,900" as 75; 0 if the list is empty. */
static int least_compiled(void)
{
    int least = 0;
    for (const char *at = device_cuda_architectures; *at;) {
        char *end;
        const int capability = (int)strtol(at, &end, 10) / 10;
        if (least == 0 || capability < least) least = capability;
        at = end + strspn(end, ", ");
        if (end == at) break;
    }
    return least;
}

status_t device_cuda_check_capability(const struct cuda_state *s)
{
    const int compiled = least_compiled();
    const int least = compiled > LEAST_CAPABILITY ? compiled : LEAST_CAPABILITY;
    if (s->capability >= least) return STATUS_OK;
    return status_set(
        STATUS_DEVICE,
        "cuda: %s at %s has compute capability %d.%d, this plug-in was built for "
        "%s: use another GPU or --device cpu",
        s->model, s->id, s->capability / 10, s->capability % 10,
        device_cuda_compiled_for());
}

static void add(char *text, size_t bytes, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void add(char *text, size_t bytes, const char *fmt, ...)
{
    const size_t used = strlen(text);
    va_list list;
    va_start(list, fmt);
    vsnprintf(text + used, bytes - used, fmt, list);
    va_end(list);
}

/* ISO C has no cast from the object pointer of dlsym to a function; POSIX wants this to work. */
static bool find_function(void *function, const char *name)
{
    void *const p = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &p, sizeof p);
    return p != NULL;
}

/* Versions of what is loaded, asked by name so that this file needs none of it. */
void device_cuda_describe_libraries(char *text, size_t bytes)
{
    char release_text[64];
    int driver = 0, runtime = 0, nccl = 0;
    size_t (*version)(void);
    int (*nccl_version)(int *);
    driver_release(release_text, sizeof release_text);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    text[0] = '\0';
    add(text, bytes, "driver %s (CUDA %d.%d), runtime %d.%d", release_text, driver / 1000,
        driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (find_function(&version, "cublasLtGetVersion"))
        add(text, bytes, ", cuBLASLt %zu.%zu.%zu", version() / 10000,
            version() % 10000 / 100, version() % 100);
    if (find_function(&nccl_version, "ncclGetVersion") && nccl_version(&nccl) == 0)
        add(text, bytes, ", NCCL %d.%d.%d", nccl / 10000, nccl % 10000 / 100, nccl % 100);
    if (find_function(&version, "cudnnGetVersion"))
        add(text, bytes, ", cuDNN %zu.%zu.%zu", version() / 10000,
            version() % 10000 / 100, version() % 100);
}

static int peer_access(int from, int to)
{
    int can = 0;
    if (cudaDeviceCanAccessPeer(&can, from, to) != cudaSuccess) cudaGetLastError();
    return can;
}

const struct plugin_queries yoke_cuda_queries = {.peer_access = peer_access};
