/* device_impl - what a backend of `device` fills in; included only in this folder. */
#pragma once

#include "device/device.h"

/* A backend.  Rows marked "optional" may be NULL where there is nothing to do. */
struct device_ops {
    const char *name;
    bool is_host; /* device memory is host memory */
    status_t (*count)(int *count);
    status_t (*open)(struct device *d, int index);
    void (*close)(struct device *d);
    bool (*supports)(const struct device *d, enum dtype t);
    void (*describe)(const struct device *d, struct device_info *info);
    void *(*alloc)(struct device *d, size_t bytes);        /* zeroed; NULL: none left */
    void *(*alloc_shared)(struct device *d, size_t bytes); /* optional; like alloc */
    bool (*find_shared)(const struct device *d, const void *x, size_t bytes,
                        struct device_block *block, size_t *offset); /* with it */
    void (*leave)(struct device *d, void *p); /* with it: free will keep it for others */
    void (*free)(struct device *d, void *p, size_t bytes);
    void *(*alloc_host)(struct device *d, size_t bytes); /* zeroed; NULL: none left */
    void (*free_host)(struct device *d, void *p, size_t bytes);
    void (*copy_in)(struct device *d, enum device_queue q, void *dst, const void *host,
                    size_t bytes); /* queued */
    void (*copy_out)(struct device *d, enum device_queue q, void *host, const void *src,
                     size_t bytes); /* queued */
    void (*zero)(struct device *d, void *dst, size_t bytes);
    void (*order)(struct device *d, enum device_queue first,
                  enum device_queue then);               /* optional */
    void (*wait)(struct device *d, enum device_queue q); /* optional */
    void *(*mark_create)(struct device *d);              /* optional; NULL: failed */
    void (*mark_destroy)(struct device *d, void *mark);
    void (*mark_set)(struct device *d, void *mark, enum device_queue q);
    bool (*mark_done)(struct device *d, void *mark);
    void (*mark_wait)(struct device *d, void *mark);
    void (*mark_order)(struct device *d, void *mark, enum device_queue q);
    bool (*record_begin)(struct device *d); /* optional, with the next three */
    struct device_graph *(*record_end)(struct device *d);
    void (*replay)(struct device *d, struct device_graph *g);
    void (*graph_destroy)(struct device *d, struct device_graph *g);
};

struct device {
    const struct device_ops *ops;
    void *state; /* the backend's */
    size_t allocated_bytes, host_bytes;
    bool shared;            /* device_set_shared */
    double timeout_seconds; /* 0: none */
    void (*watch)(void *context);
    void *watch_context;
};

struct device_mark {
    struct device *device;
    void *mark; /* the backend's; NULL if its queues are always empty */
};

extern const struct device_ops device_cpu_ops;

/* The table "device_cuda_ops" out of the plug-in.  STATUS_DEVICE says why there is none.  The
 * plug-in stays open for the life of the process. */
MUST_USE status_t plugin_open(const struct device_ops **ops);
/* A symbol of the open plug-in, NULL if none is open or it has no such symbol. */
const void *plugin_symbol(const char *name);
