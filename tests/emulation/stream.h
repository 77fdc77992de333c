/* stream - what streams and events add to work.h, and what graph.c needs of them. */
#pragma once

#include "work.h"

enum { STREAM_FRONTIER = 16 };

/* The last nodes of a stream, or of an event recorded in one, while it is captured. */
struct frontier {
    struct capture *capture; /* NULL: not captured */
    unsigned serial;         /* of the capture: an event may outlive it */
    int n, nodes[STREAM_FRONTIER];
};

struct emulation_stream {
    struct emulation_stream *next;
    bool blocking; /* orders itself with the default stream */
    int priority;
    struct op *tail; /* its newest operation */
    struct frontier at;
};

struct emulation_event {
    struct emulation_event *next;
    bool timing;
    struct op *op; /* where it was recorded last; NULL: never */
    struct frontier at;
};

/* The default stream for NULL; NULL for what is no stream. */
struct emulation_stream *stream_find(cudaStream_t s);
/* Put an operation into a stream, or a node into the graph it is captured into.  Takes a reference
 * of p (NULL: a mark). */
cudaError_t stream_add(struct emulation_stream *s, struct payload *p);
struct emulation_stream *stream_list(void);

/* Set the error that cudaGetLastError returns; returns e. */
cudaError_t stream_error(cudaError_t e);
/* An error that stands in the way of everything: none, or the failure of the device. */
cudaError_t stream_check(void);

/* graph.c: */
cudaError_t capture_add(struct emulation_stream *s, struct payload *p); /* takes p */
cudaError_t capture_join(struct emulation_stream *s, const struct frontier *event);
/* A call that no capture survives: cudaSuccess if none goes on. */
cudaError_t capture_forbids(void);
