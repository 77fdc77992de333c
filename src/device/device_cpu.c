/* The CPU as a device: memory comes from mmap, so that it is zero without being touched (the
 * thread that first writes a page gets it on its own NUMA node) and large pages can back it. */
#include <string.h>
#include <sys/mman.h>

#include "device/device_impl.h"

static status_t open_cpu(struct device *d)
{
    (void)d;
    return STATUS_OK;
}

static void close_cpu(struct device *d)
{
    (void)d;
}

static void *alloc_cpu(struct device *d, size_t bytes)
{
    (void)d;
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_HUGEPAGE); /* a wish: refused on kernels without large pages */
    return p;
}

static void free_cpu(struct device *d, void *p, size_t bytes)
{
    (void)d;
    munmap(p, bytes ? bytes : 1);
}

static void copy_cpu(struct device *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    memcpy(dst, src, bytes);
}

static void zero_cpu(struct device *d, void *dst, size_t bytes)
{
    (void)d;
    memset(dst, 0, bytes);
}

static void wait_cpu(struct device *d)
{
    (void)d;
}

const struct device_ops device_cpu_ops = {
    .name = "cpu",
    .open = open_cpu,
    .close = close_cpu,
    .alloc = alloc_cpu,
    .free = free_cpu,
    .copy_in = copy_cpu,
    .copy_out = copy_cpu,
    .zero = zero_cpu,
    .wait = wait_cpu,
};
