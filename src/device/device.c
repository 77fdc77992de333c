#include "device/device.h"

#include <stdlib.h>
#include <string.h>

#include "device/device_impl.h"

static const struct device_ops *const backends[] = {&device_cpu_ops};

status_t device_open(struct device **d, const char *name)
{
    *d = NULL;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        struct device *made = calloc(1, sizeof *made);
        if (!made) return status_set(STATUS_NOMEM, "no memory for a device");
        made->ops = backends[i];
        const status_t st = made->ops->open(made);
        if (st != STATUS_OK) {
            free(made);
            return st;
        }
        *d = made;
        return STATUS_OK;
    }
    return status_set(STATUS_DEVICE, "device %s is not known; there is: cpu", name);
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

status_t device_alloc(struct device *d, size_t bytes, const char *purpose, void **p)
{
    *p = d->ops->alloc(d, bytes);
    if (!*p)
        return status_set(STATUS_NOMEM, "%s: no memory for %zu bytes of %s", d->ops->name,
                          bytes, purpose);
    d->allocated_bytes += bytes;
    return STATUS_OK;
}

void device_free(struct device *d, void **p, size_t bytes)
{
    if (!*p) return;
    d->ops->free(d, *p, bytes);
    d->allocated_bytes -= bytes;
    *p = NULL;
}

size_t device_allocated_bytes(const struct device *d)
{
    return d->allocated_bytes;
}

void device_copy_in(struct device *d, void *dst, const void *host, size_t bytes)
{
    d->ops->copy_in(d, dst, host, bytes);
}

void device_copy_out(struct device *d, void *host, const void *src, size_t bytes)
{
    d->ops->copy_out(d, host, src, bytes);
}

void device_zero(struct device *d, void *dst, size_t bytes)
{
    d->ops->zero(d, dst, bytes);
}

void device_wait(struct device *d)
{
    d->ops->wait(d);
}
