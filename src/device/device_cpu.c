/* The CPU as a device: memory comes from mmap, so that it is zero without being touched (the
 * thread that first writes a page gets it on its own NUMA node) and large pages can back it.
 * Shared blocks are files without a name (memfd), which no mount of /dev/shm limits.
 * Everything is done when a call returns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/device_impl.h"

static status_t count_cpu(int *count)
{
    *count = 1;
    return STATUS_OK;
}

struct shared_block {
    struct device_block block;
    char *p;
    struct shared_block *next;
};

static status_t open_cpu(struct device *d, int index)
{
    (void)d;
    if (index == 0) return STATUS_OK;
    return status_set(STATUS_DEVICE, "cpu: there is no device %d, only 0", index);
}

static void close_cpu(struct device *d)
{
    for (struct shared_block *b = d->state, *next; b; b = next) { /* never freed */
        next = b->next;
        close(b->block.fd);
        free(b);
    }
}

static bool supports_cpu(const struct device *d, enum dtype t)
{
    (void)d;
    return t == DTYPE_F32 || t == DTYPE_BF16;
}

/* "model name : X" of /proc/cpuinfo; empty where there is none. */
static void cpu_model(char *model, size_t bytes)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    model[0] = '\0';
    while (f && !model[0] && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value += 1 + strspn(value + 1, " ");
        snprintf(model, bytes, "%.*s", (int)strcspn(value, "\n"), value);
    }
    if (f) fclose(f);
}

static void describe_cpu(const struct device *d, struct device_info *info)
{
    (void)d;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    cpu_model(info->model, sizeof info->model);
    info->total_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    info->free_bytes = (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
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

/* NULL: this system has no such files, or no more of them. */
static char *map_file(size_t bytes, int *fd)
{
    *fd = memfd_create("yoke", MFD_CLOEXEC);
    if (*fd < 0) return NULL;
    char *p = MAP_FAILED;
    if (ftruncate(*fd, (off_t)bytes) == 0)
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, *fd, 0);
    if (p != MAP_FAILED) return p;
    close(*fd);
    return NULL;
}

static void *alloc_shared_cpu(struct device *d, size_t bytes)
{
    static uint64_t last_id;
    struct shared_block *b = malloc(sizeof *b);
    if (!b) return NULL;
    int fd = -1;
    char *p = bytes ? map_file(bytes, &fd) : NULL;
    if (!p) {
        free(b);
        return alloc_cpu(d, bytes);
    }
    madvise(p, bytes, MADV_HUGEPAGE);
    *b = (struct shared_block){.block = {++last_id, fd, bytes}, .p = p, .next = d->state};
    d->state = b;
    return p;
}

static bool find_shared_cpu(const struct device *d, const void *x, size_t bytes,
                            struct device_block *block, size_t *offset)
{
    const uintptr_t at = (uintptr_t)x;
    for (const struct shared_block *b = d->state; b; b = b->next) {
        const uintptr_t start = (uintptr_t)b->p;
        if (at < start || at + bytes > start + b->block.bytes) continue;
        *block = b->block;
        *offset = at - start;
        return true;
    }
    return false;
}

/* Taken out of the list; NULL: it is not a shared block. */
static struct shared_block *take_shared(struct device *d, const void *p)
{
    struct shared_block *b = d->state, *before = NULL;
    for (; b && b->p != p; b = b->next) before = b;
    if (!b) return NULL;
    if (before)
        before->next = b->next;
    else
        d->state = b->next;
    return b;
}

static void close_shared(struct shared_block *b)
{
    if (!b) return;
    close(b->block.fd);
    free(b);
}

static void leave_cpu(struct device *d, void *p)
{
    close_shared(take_shared(d, p));
}

/* The memory of a shared block, too, is given back: others may have it mapped, but nobody looks at it
 * any more. */
static void free_cpu(struct device *d, void *p, size_t bytes)
{
    struct shared_block *b = take_shared(d, p);
    if (b && ftruncate(b->block.fd, 0)) {
    } /* it goes with the last mapping then */
    close_shared(b);
    munmap(p, bytes ? bytes : 1);
}

static void copy_cpu(struct device *d, enum device_queue q, void *dst, const void *src,
                     size_t bytes)
{
    (void)d;
    (void)q;
    memcpy(dst, src, bytes);
}

/* In as many equal runs as there are threads, as operations split what they work on: memory that is
 * zeroed before it is used lies on the NUMA node of the thread that will use it. */
static void zero_cpu(struct device *d, void *dst, size_t bytes)
{
    enum { BLOCK = 1 << 16 };
    (void)d;
#pragma omp parallel for schedule(static) if (bytes >= 8 * BLOCK)
    for (size_t at = 0; at < bytes; at += BLOCK)
        memset((char *)dst + at, 0, bytes - at < BLOCK ? bytes - at : BLOCK);
}

const struct device_ops device_cpu_ops = {
    .name = "cpu",
    .is_host = true,
    .count = count_cpu,
    .open = open_cpu,
    .close = close_cpu,
    .supports = supports_cpu,
    .describe = describe_cpu,
    .alloc = alloc_cpu,
    .alloc_shared = alloc_shared_cpu,
    .find_shared = find_shared_cpu,
    .leave = leave_cpu,
    .free = free_cpu,
    .alloc_host = alloc_cpu,
    .free_host = free_cpu,
    .copy_in = copy_cpu,
    .copy_out = copy_cpu,
    .zero = zero_cpu,
};
