#include "train/mirror.h"

#include <string.h>

#include "core/log.h"

enum { PARTS = 3 }; /* master, exp_avg, exp_avg_sq */

static int64_t all_elements(const struct zero *z)
{
    int64_t n = 0;
    for (int64_t i = 0; i < zero_n_ranges(z); i++) n += zero_range(z, i).count;
    return n;
}

static int64_t owned_elements(const struct zero *z)
{
    int64_t n = 0;
    for (int64_t i = 0; i < zero_n_owned(z); i++) n += zero_owned(z, i).count;
    return n;
}

static int64_t elements(const struct device *dev, const struct zero *zero, bool async)
{
    if (!device_is_host(dev)) return all_elements(zero);
    return async ? owned_elements(zero) : 0;
}

static size_t bytes_of(int64_t n)
{
    return (size_t)(PARTS * n) * sizeof(float);
}

size_t mirror_host_bytes(const struct device *dev, const struct zero *zero, bool async)
{
    return bytes_of(elements(dev, zero, async));
}

status_t mirror_init(struct mirror *m, struct device *dev, const struct zero *zero,
                     bool async)
{
    void *memory = NULL;
    *m = (struct mirror){.device = dev, .zero = zero, .n = elements(dev, zero, async)};
    if (device_is_host(dev) && !async) return STATUS_OK;
    TRY(device_alloc_host(dev, bytes_of(m->n), "the checkpoint's copy", &memory));
    m->memory = memory;
    if (!device_is_host(dev)) return device_mark_create(&m->copied, dev);
    /* its pages are there before the first step that has to wait for the copy */
    device_zero(dev, memory, bytes_of(m->n));
    return STATUS_OK;
}

void mirror_release(struct mirror *m)
{
    void *memory = m->memory;
    device_mark_destroy(&m->copied);
    if (memory) device_free_host(m->device, &memory, bytes_of(m->n));
    *m = (struct mirror){0};
}

static struct checkpoint_range in_place(const struct zero_range *r)
{
    return (struct checkpoint_range){.start = r->start,
                                     .count = r->count,
                                     .master = r->master,
                                     .exp_avg = r->exp_avg,
                                     .exp_avg_sq = r->exp_avg_sq};
}

/* The range's place in the memory, which begins `before` elements in. */
static struct checkpoint_range in_memory(const struct mirror *m,
                                         const struct zero_range *r, int64_t before)
{
    float *at = m->memory + before;
    return (struct checkpoint_range){.start = r->start,
                                     .count = r->count,
                                     .master = at,
                                     .exp_avg = at + m->n,
                                     .exp_avg_sq = at + 2 * m->n};
}

/* Elements of zero's ranges in front of flat element `start`, which lies in one of them. */
static int64_t offset_of(const struct mirror *m, int64_t start)
{
    int64_t before = 0;
    for (int64_t i = 0; i < zero_n_ranges(m->zero); i++) {
        const struct zero_range r = zero_range(m->zero, i);
        if (start >= r.start && start < r.start + r.count)
            return before + start - r.start;
        before += r.count;
    }
    die("flat element %lld is in no range of this rank", (long long)start);
}

struct checkpoint_range mirror_range(const struct mirror *m, int64_t i)
{
    const struct zero_range r = zero_range(m->zero, i);
    if (device_is_host(m->device)) return in_place(&r);
    return in_memory(m, &r, offset_of(m, r.start));
}

struct checkpoint_range mirror_owned(const struct mirror *m, int64_t i)
{
    const struct zero_range r = zero_owned(m->zero, i);
    if (!m->memory) return in_place(&r);
    if (!device_is_host(m->device)) return in_memory(m, &r, offset_of(m, r.start));
    int64_t before = 0;
    for (int64_t k = 0; k < i; k++) before += zero_owned(m->zero, k).count;
    return in_memory(m, &r, before);
}

/* With all threads: one alone does not use all of the memory's bandwidth. */
static void copy_on_host(float *to, const float *from, int64_t n)
{
    enum { BLOCK = 1 << 16 };
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += BLOCK)
        memcpy(to + i, from + i, (size_t)(n - i < BLOCK ? n - i : BLOCK) * sizeof *to);
}

static void copy_out(struct mirror *m, float *to, const float *from, int64_t n)
{
    if (device_is_host(m->device))
        copy_on_host(to, from, n);
    else
        device_queue_copy_out(m->device, DEVICE_COPY, to, from, (size_t)n * sizeof *to);
}

void mirror_begin_copy_out(struct mirror *m)
{
    if (!m->memory) return;
    device_order(m->device, DEVICE_COMPUTE, DEVICE_COPY);
    for (int64_t i = 0; i < zero_n_owned(m->zero); i++) {
        const struct zero_range r = zero_owned(m->zero, i);
        const struct checkpoint_range c = mirror_owned(m, i);
        copy_out(m, c.master, r.master, r.count);
        copy_out(m, c.exp_avg, r.exp_avg, r.count);
        copy_out(m, c.exp_avg_sq, r.exp_avg_sq, r.count);
    }
    if (m->copied) device_mark_set(m->copied, DEVICE_COPY);
    device_order(m->device, DEVICE_COPY, DEVICE_COMPUTE);
}

bool mirror_copied(struct mirror *m)
{
    return !m->copied || device_mark_done(m->copied);
}

void mirror_wait(struct mirror *m)
{
    if (m->copied) device_mark_wait(m->copied);
}

void mirror_copy_in(struct mirror *m)
{
    if (device_is_host(m->device)) return;
    for (int64_t i = 0; i < zero_n_ranges(m->zero); i++) {
        const struct zero_range r = zero_range(m->zero, i);
        const struct checkpoint_range c = mirror_range(m, i);
        const size_t bytes = (size_t)r.count * sizeof(float);
        device_queue_copy_in(m->device, DEVICE_COMPUTE, r.master, c.master, bytes);
        device_queue_copy_in(m->device, DEVICE_COMPUTE, r.exp_avg, c.exp_avg, bytes);
        device_queue_copy_in(m->device, DEVICE_COMPUTE, r.exp_avg_sq, c.exp_avg_sq,
                             bytes);
    }
    device_wait(m->device);
}
