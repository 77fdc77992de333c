/* device_impl - what a backend of `device` fills in; included only in this folder. */
#pragma once

#include "device/device.h"

struct device_ops {
    const char *name;
    status_t (*open)(struct device *d);
    void (*close)(struct device *d);
    void *(*alloc)(struct device *d,
                   size_t bytes); /* zeroed; NULL when there is none left */
    void (*free)(struct device *d, void *p, size_t bytes);
    void (*copy_in)(struct device *d, void *dst, const void *host, size_t bytes);
    void (*copy_out)(struct device *d, void *host, const void *src, size_t bytes);
    void (*zero)(struct device *d, void *dst, size_t bytes);
    void (*wait)(struct device *d);
};

struct device {
    const struct device_ops *ops;
    size_t allocated_bytes;
};

extern const struct device_ops device_cpu_ops;
