#include "device/device.h"

#include <stdlib.h>
#include <string.h>

#include "device/device_impl.h"

static status_t find_backend(const char *name, const struct device_ops **ops)
{
    *ops = NULL;
    if (strcmp(name, "cuda") == 0) return plugin_open(ops);
    if (strcmp(name, "cpu") != 0)
        return status_set(STATUS_DEVICE, "device %s is not known; there are: cpu, cuda",
                          name);
    *ops = &device_cpu_ops;
    return STATUS_OK;
}

status_t device_count(const char *name, int *count)
{
    const struct device_ops *ops;
    *count = 0;
    TRY(find_backend(name, &ops));
    return ops->count(count);
}

status_t device_open(struct device **d, const char *name, int index)
{
    const struct device_ops *ops;
    *d = NULL;
    TRY(find_backend(name, &ops));
    struct device *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for a device");
    made->ops = ops;
    const status_t st = ops->open(made, index);
    if (st != STATUS_OK) {
        free(made);
        return st;
    }
    *d = made;
    return STATUS_OK;
}

void device_close(struct device **d)
{
    if (!*d) return;
    (*d)->ops->close(*d);
    free(*d);
    *d = NULL;
}

const char *device_name(const struct device *d)
{
    return d->ops->name;
}

bool device_is_host(const struct device *d)
{
    return d->ops->is_host;
}

bool device_supports(const struct device *d, enum dtype t)
{
    return d->ops->supports(d, t);
}

void device_describe(const struct device *d, struct device_info *info)
{
    *info = (struct device_info){0};
    d->ops->describe(d, info);
}

void device_set_watch(struct device *d, double seconds, void (*watch)(void *context),
                      void *context)
{
    d->timeout_seconds = seconds;
    d->watch = watch;
    d->watch_context = context;
}

const void *device_symbol(const struct device *d, const char *name)
{
    return d->ops->is_host ? NULL : plugin_symbol(name);
}

/* ---- memory ------------------------------------------------------------------------------ */

static status_t counted(struct device *d, size_t bytes, const char *purpose, void **p)
{
    if (!*p) {
        struct device_info info;
        device_describe(d, &info);
        return status_set(
            STATUS_NOMEM, "%s %s: no memory for %zu bytes of %s; %zu of %zu are free",
            d->ops->name, info.id, bytes, purpose, info.free_bytes, info.total_bytes);
    }
    d->allocated_bytes += bytes;
    return STATUS_OK;
}

status_t device_alloc(struct device *d, size_t bytes, const char *purpose, void **p)
{
    *p = d->ops->alloc(d, bytes);
    return counted(d, bytes, purpose, p);
}

void device_set_shared(struct device *d, bool shared)
{
    d->shared = shared;
}

status_t device_alloc_shared(struct device *d, size_t bytes, const char *purpose,
                             void **p)
{
    const bool shared = d->shared && d->ops->alloc_shared;
    *p = shared ? d->ops->alloc_shared(d, bytes) : d->ops->alloc(d, bytes);
    return counted(d, bytes, purpose, p);
}

bool device_find_shared(const struct device *d, const void *x, size_t bytes,
                        struct device_block *block, size_t *offset)
{
    return d->ops->find_shared && d->ops->find_shared(d, x, bytes, block, offset);
}

void device_free(struct device *d, void **p, size_t bytes)
{
    if (!*p) return;
    d->ops->free(d, *p, bytes);
    d->allocated_bytes -= bytes;
    *p = NULL;
}

void device_leave(struct device *d, void **p, size_t bytes)
{
    if (*p && d->ops->leave) d->ops->leave(d, *p);
    device_free(d, p, bytes);
}

size_t device_allocated_bytes(const struct device *d)
{
    return d->allocated_bytes;
}

status_t device_alloc_host(struct device *d, size_t bytes, const char *purpose, void **p)
{
    *p = d->ops->alloc_host(d, bytes);
    if (!*p)
        return status_set(STATUS_NOMEM, "no page-locked host memory for %zu bytes of %s",
                          bytes, purpose);
    d->host_bytes += bytes;
    return STATUS_OK;
}

void device_free_host(struct device *d, void **p, size_t bytes)
{
    if (!*p) return;
    d->ops->free_host(d, *p, bytes);
    d->host_bytes -= bytes;
    *p = NULL;
}

size_t device_host_bytes(const struct device *d)
{
    return d->host_bytes;
}

/* ---- work -------------------------------------------------------------------------------- */

static void wait_queue(struct device *d, enum device_queue q)
{
    if (d->ops->wait) d->ops->wait(d, q);
}

void device_copy_in(struct device *d, void *dst, const void *host, size_t bytes)
{
    d->ops->copy_in(d, DEVICE_COMPUTE, dst, host, bytes);
    wait_queue(d, DEVICE_COMPUTE);
}

void device_copy_out(struct device *d, void *host, const void *src, size_t bytes)
{
    d->ops->copy_out(d, DEVICE_COMPUTE, host, src, bytes);
    wait_queue(d, DEVICE_COMPUTE);
}

void device_queue_copy_in(struct device *d, enum device_queue q, void *dst,
                          const void *host, size_t bytes)
{
    d->ops->copy_in(d, q, dst, host, bytes);
}

void device_queue_copy_out(struct device *d, enum device_queue q, void *host,
                           const void *src, size_t bytes)
{
    d->ops->copy_out(d, q, host, src, bytes);
}

void device_zero(struct device *d, void *dst, size_t bytes)
{
    d->ops->zero(d, dst, bytes);
}

void device_order(struct device *d, enum device_queue first, enum device_queue then)
{
    if (d->ops->order) d->ops->order(d, first, then);
}

void device_wait(struct device *d)
{
    for (int q = 0; q < DEVICE_QUEUES; q++) wait_queue(d, (enum device_queue)q);
}

/* ---- marks ------------------------------------------------------------------------------- */

status_t device_mark_create(struct device_mark **m, struct device *d)
{
    *m = calloc(1, sizeof **m);
    if (!*m) return status_set(STATUS_NOMEM, "no memory for a mark");
    (*m)->device = d;
    if (!d->ops->mark_create) return STATUS_OK;
    (*m)->mark = d->ops->mark_create(d);
    if ((*m)->mark) return STATUS_OK;
    device_mark_destroy(m);
    return status_set(STATUS_DEVICE, "%s: a mark could not be made", d->ops->name);
}

void device_mark_destroy(struct device_mark **m)
{
    if (!*m) return;
    if ((*m)->mark) (*m)->device->ops->mark_destroy((*m)->device, (*m)->mark);
    free(*m);
    *m = NULL;
}

void device_mark_set(struct device_mark *m, enum device_queue q)
{
    if (m->mark) m->device->ops->mark_set(m->device, m->mark, q);
}

bool device_mark_done(struct device_mark *m)
{
    return !m->mark || m->device->ops->mark_done(m->device, m->mark);
}

void device_mark_wait(struct device_mark *m)
{
    if (m->mark) m->device->ops->mark_wait(m->device, m->mark);
}

void device_mark_order(struct device_mark *m, enum device_queue q)
{
    if (m->mark) m->device->ops->mark_order(m->device, m->mark, q);
}

/* ---- recorded work ----------------------------------------------------------------------- */

bool device_record_begin(struct device *d)
{
    return d->ops->record_begin && d->ops->record_begin(d);
}

struct device_graph *device_record_end(struct device *d)
{
    return d->ops->record_end(d);
}

void device_replay(struct device *d, struct device_graph *g)
{
    d->ops->replay(d, g);
}

void device_graph_destroy(struct device *d, struct device_graph **g)
{
    if (!*g) return;
    d->ops->graph_destroy(d, *g);
    *g = NULL;
}
