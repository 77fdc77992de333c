/* Launches of kernels: the checks a driver makes, then an operation in the stream. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "block.h"
#include "emulation.h"
#include "memory.h"
#include "shared.h"
#include "stream.h"

enum { MAX_KERNELS = 1024, DEFAULT_SHARED = 48 << 10 };

/* Kernels with more than the default of dynamic shared memory. */
static struct {
    const void *kernel;
    int bytes;
} allowed[MAX_KERNELS];
static int n_allowed;

static size_t shared_limit(const void *kernel)
{
    for (int i = 0; i < n_allowed; i++) {
        if (allowed[i].kernel == kernel) return (size_t)allowed[i].bytes;
    }
    return DEFAULT_SHARED;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute,
                                 int value)
{
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > shared_block_limit())
        return stream_error(cudaErrorInvalidValue);
    work_lock();
    int i = 0;
    while (i < n_allowed && allowed[i].kernel != kernel) i++;
    if (i == MAX_KERNELS) emulation_fail("more than %d kernels", MAX_KERNELS);
    if (i == n_allowed) n_allowed++;
    allowed[i].kernel = kernel;
    allowed[i].bytes = value > DEFAULT_SHARED ? value : DEFAULT_SHARED;
    work_unlock();
    return cudaSuccess;
}

struct launch {
    struct block_grid grid;
    void (*release)(void *arguments);
};

static enum emulation_progress run_launch(void *context)
{
    const struct launch *const l = context;
    block_run_grid(&l->grid);
    return EMULATION_DONE;
}

static void release_launch(void *context)
{
    struct launch *const l = context;
    l->release(l->grid.arguments);
    free(l);
}

static cudaError_t check(const struct block_grid *g, const void *kernel)
{
    const struct block_dims n = g->grid, b = g->block;
    struct cudaDeviceProp p;
    int device;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess) e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return e;
    if (10 * p.major + p.minor < 75) return cudaErrorNoKernelImageForDevice;
    if (!n.x || !n.y || !n.z || !b.x || !b.y || !b.z || n.x > INT32_MAX ||
        n.y > UINT16_MAX || n.z > UINT16_MAX || b.z > 64 || b.x > 1024 || b.y > 1024 ||
        b.x * b.y * b.z > 1024)
        return cudaErrorInvalidConfiguration;
    if ((uint64_t)n.x * n.y * n.z > INT32_MAX) return cudaErrorInvalidConfiguration;
    if (g->shared_bytes > shared_limit(kernel)) return cudaErrorInvalidValue;
    if (emulation_fault_names("launch", g->name)) return cudaErrorLaunchOutOfResources;
    return cudaSuccess;
}

/* Errors go to cudaGetLastError, as those of <<<>>> do. */
void emulation_launch(const char *name, const void *kernel, struct block_dims grid,
                      struct block_dims block, size_t shared_bytes, cudaStream_t stream,
                      void (*call)(void *arguments), void (*release)(void *arguments),
                      void *arguments);
void emulation_launch(const char *name, const void *kernel, struct block_dims grid,
                      struct block_dims block, size_t shared_bytes, cudaStream_t stream,
                      void (*call)(void *arguments), void (*release)(void *arguments),
                      void *arguments)
{
    struct launch *const l = malloc(sizeof *l);
    if (!l) emulation_fail("no memory for the launch of %s", name);
    *l = (struct launch){.grid = {.name = name,
                                  .grid = grid,
                                  .block = block,
                                  .shared_bytes = shared_bytes,
                                  .call = call,
                                  .arguments = arguments},
                         .release = release};
    const cudaError_t e = check(&l->grid, kernel);
    if (e == cudaSuccess) {
        emulation_queue(stream, name, run_launch, release_launch, l);
    } else {
        release_launch(l);
        stream_error(e);
    }
}

void emulation_check_argument(const char *name, int index, const void *p);
void emulation_check_argument(const char *name, int index, const void *p)
{
    bool fits;
    if (!p) return;
    work_lock();
    const enum memory_place place = memory_place(p, 0, &fits);
    work_unlock();
    if (place == MEMORY_PAGEABLE || !fits)
        emulation_fail("launch of %s: argument %d, %p, is %s", name, index + 1, p,
                       fits ? "an address of the host, which no kernel can reach"
                            : "outside of the live allocations");
}
