#include "train/mirror.h"

#include "core/log.h"

enum { PARTS = 3 }; /* master, exp_avg, exp_avg_sq */

static int64_t elements(const struct zero *z)
{
    int64_t n = 0;
    for (int64_t i = 0; i < zero_n_ranges(z); i++) n += zero_range(z, i).count;
    return n;
}

static size_t bytes_of(int64_t n)
{
    return (size_t)(PARTS * n) * sizeof(float);
}

size_t mirror_host_bytes(const struct device *dev, const struct zero *zero)
{
    return device_is_host(dev) ? 0 : bytes_of(elements(zero));
}

status_t mirror_init(struct mirror *m, struct device *dev, const struct zero *zero)
{
    void *memory = NULL;
    *m = (struct mirror){.device = dev, .zero = zero, .n = elements(zero)};
    if (device_is_host(dev)) return STATUS_OK;
    TRY(device_alloc_host(dev, bytes_of(m->n), "the checkpoint's copy", &memory));
    m->memory = memory;
    return device_mark_create(&m->copied, dev);
}

void mirror_release(struct mirror *m)
{
    void *memory = m->memory;
    device_mark_destroy(&m->copied);
    if (memory) device_free_host(m->device, &memory, bytes_of(m->n));
    *m = (struct mirror){0};
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

struct checkpoint_range mirror_range(const struct mirror *m, const struct zero_range *r)
{
    struct checkpoint_range c = {.start = r->start,
                                 .count = r->count,
                                 .master = r->master,
                                 .exp_avg = r->exp_avg,
                                 .exp_avg_sq = r->exp_avg_sq};
    if (!m->memory) return c;
    c.master = m->memory + offset_of(m, r->start);
    c.exp_avg = c.master + m->n;
    c.exp_avg_sq = c.exp_avg + m->n;
    return c;
}

void mirror_begin_copy_out(struct mirror *m)
{
    if (!m->memory) return;
    device_order(m->device, DEVICE_COMPUTE, DEVICE_COPY);
    for (int64_t i = 0; i < zero_n_owned(m->zero); i++) {
        const struct zero_range r = zero_owned(m->zero, i);
        const struct checkpoint_range c = mirror_range(m, &r);
        const size_t bytes = (size_t)r.count * sizeof(float);
        device_queue_copy_out(m->device, DEVICE_COPY, c.master, r.master, bytes);
        device_queue_copy_out(m->device, DEVICE_COPY, c.exp_avg, r.exp_avg, bytes);
        device_queue_copy_out(m->device, DEVICE_COPY, c.exp_avg_sq, r.exp_avg_sq, bytes);
    }
    device_mark_set(m->copied, DEVICE_COPY);
    device_order(m->device, DEVICE_COPY, DEVICE_COMPUTE);
}

void mirror_wait(struct mirror *m)
{
    if (m->memory) device_mark_wait(m->copied);
}

void mirror_copy_in(struct mirror *m)
{
    if (!m->memory) return;
    for (int64_t i = 0; i < zero_n_ranges(m->zero); i++) {
        const struct zero_range r = zero_range(m->zero, i);
        const struct checkpoint_range c = mirror_range(m, &r);
        const size_t bytes = (size_t)r.count * sizeof(float);
        device_queue_copy_in(m->device, DEVICE_COMPUTE, r.master, c.master, bytes);
        device_queue_copy_in(m->device, DEVICE_COMPUTE, r.exp_avg, c.exp_avg, bytes);
        device_queue_copy_in(m->device, DEVICE_COMPUTE, r.exp_avg_sq, c.exp_avg_sq,
                             bytes);
    }
    device_wait(m->device);
}
