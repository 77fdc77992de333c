/* Capture of streams into graphs, and their launch. */
#include "stream.h"

#include <stdlib.h>
#include <string.h>

struct emulation_node {
    struct payload *payload; /* held; NULL: a mark */
    int n_before, before[STREAM_FRONTIER];
};

struct emulation_graph {
    struct emulation_node *nodes; /* each behind those it depends on */
    int n, capacity;
};

struct capture {
    struct emulation_graph *graph;
    struct emulation_stream *origin;
    bool invalid;
    unsigned serial;
};

static struct capture *current; /* one at a time */

/* ---- capture ------------------------------------------------------------------------------------- */

static cudaError_t invalidate(cudaError_t e)
{
    current->invalid = true;
    return e;
}

cudaError_t capture_forbids(void)
{
    return current ? invalidate(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

static int add_node(struct emulation_graph *g, struct payload *p,
                    const struct frontier *at)
{
    if (g->n == g->capacity) {
        g->capacity = g->capacity ? 2 * g->capacity : 64;
        g->nodes = realloc(g->nodes, (size_t)g->capacity * sizeof *g->nodes);
        if (!g->nodes) emulation_fail("no memory for a graph");
    }
    struct emulation_node *const node = &g->nodes[g->n];
    *node = (struct emulation_node){.payload = p, .n_before = at->n};
    memcpy(node->before, at->nodes, sizeof node->before);
    return g->n++;
}

cudaError_t capture_add(struct emulation_stream *s, struct payload *p)
{
    if (current->invalid) {
        payload_drop(p);
        return cudaErrorStreamCaptureInvalidated;
    }
    s->at.nodes[0] = add_node(current->graph, p, &s->at);
    s->at.n = 1;
    return cudaSuccess;
}

cudaError_t capture_join(struct emulation_stream *s, const struct frontier *event)
{
    if (!current || event->capture != current || event->serial != current->serial)
        return current ? invalidate(cudaErrorStreamCaptureIsolation)
                       : cudaErrorInvalidValue;
    if (!s->at.capture) {
        s->at = *event;
        return cudaSuccess;
    }
    if (s->at.n + event->n > STREAM_FRONTIER) {
        const cudaError_t e = capture_add(s, NULL); /* makes one of many */
        if (e != cudaSuccess) return e;
    }
    for (int i = 0; i < event->n; i++) {
        int k = 0;
        while (k < s->at.n && s->at.nodes[k] != event->nodes[i]) k++;
        s->at.nodes[k] = event->nodes[i];
        if (k == s->at.n) s->at.n++;
    }
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    static unsigned serial;
    cudaError_t e = cudaSuccess;
    (void)mode;
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    if (!s) {
        e = cudaErrorInvalidResourceHandle;
    } else if (!stream || emulation_fault("graphs")) { /* never the default stream */
        e = cudaErrorStreamCaptureUnsupported;
    } else if (s->at.capture) {
        e = cudaErrorInvalidValue;
    } else if (current) {
        e = cudaErrorNotSupported; /* one capture at a time is emulated */
    } else {
        current = calloc(1, sizeof *current);
        struct emulation_graph *const g = calloc(1, sizeof *g);
        if (!current || !g) emulation_fail("no memory for a graph");
        *current = (struct capture){.graph = g, .origin = s, .serial = ++serial};
        s->at = (struct frontier){.capture = current, .serial = serial};
    }
    work_unlock();
    return stream_error(e);
}

static void destroy(struct emulation_graph *g)
{
    for (int i = 0; i < g->n; i++) payload_drop(g->nodes[i].payload);
    free(g->nodes);
    free(g);
}

/* Do all nodes come before the end of the stream the capture began in? */
static bool joined(const struct capture *c)
{
    const struct emulation_graph *const g = c->graph;
    bool *const reached = calloc((size_t)g->n + 1, sizeof *reached);
    bool all = true;
    if (!reached) emulation_fail("no memory for a graph");
    for (int i = 0; i < c->origin->at.n; i++) reached[c->origin->at.nodes[i]] = true;
    for (int i = g->n - 1; i >= 0; i--) {
        for (int k = 0; reached[i] && k < g->nodes[i].n_before; k++)
            reached[g->nodes[i].before[k]] = true;
        all = all && reached[i];
    }
    free(reached);
    return all;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    struct capture *const c = current;
    cudaError_t e = cudaSuccess;
    *graph = NULL;
    if (!s || !c || s->at.capture != c) {
        e = cudaErrorInvalidValue;
    } else if (s != c->origin) {
        e = invalidate(cudaErrorStreamCaptureUnmatched);
    } else {
        if (c->invalid)
            e = cudaErrorStreamCaptureInvalidated;
        else if (!joined(c))
            e = cudaErrorStreamCaptureUnjoined;
        for (struct emulation_stream *t = stream_list(); t; t = t->next)
            t->at = (struct frontier){0};
        if (e == cudaSuccess)
            *graph = c->graph;
        else
            destroy(c->graph);
        free(c);
        current = NULL;
    }
    work_unlock();
    return stream_error(e);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                  enum cudaStreamCaptureStatus *status)
{
    work_lock();
    const struct emulation_stream *const s = stream_find(stream);
    *status = !s || !s->at.capture ? cudaStreamCaptureStatusNone
              : current->invalid   ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
    work_unlock();
    return stream_error(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

/* ---- graphs -------------------------------------------------------------------------------------- */

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes) return stream_error(cudaErrorNotSupported);
    *count = (size_t)graph->n;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags)
{
    (void)flags;
    struct emulation_graph *const g = calloc(1, sizeof *g);
    if (!g) return stream_error(cudaErrorMemoryAllocation);
    work_lock();
    *g = (struct emulation_graph){.n = graph->n, .capacity = graph->n};
    g->nodes = malloc((size_t)(graph->n ? graph->n : 1) * sizeof *g->nodes);
    if (!g->nodes) emulation_fail("no memory for a graph");
    memcpy(g->nodes, graph->nodes, (size_t)graph->n * sizeof *g->nodes);
    for (int i = 0; i < g->n; i++) {
        if (g->nodes[i].payload) g->nodes[i].payload->n_refs++;
    }
    *exec = g;
    work_unlock();
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t s)
{
    (void)exec;
    (void)s;
    return cudaSuccess;
}

/* Every node becomes an operation behind the stream's tail and its own predecessors; the stream goes
 * on behind all of them. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    cudaError_t e = s ? work_failure() : cudaErrorInvalidResourceHandle;
    if (e == cudaSuccess && s->at.capture) e = cudaErrorStreamCaptureUnsupported;
    if (e == cudaSuccess) e = stream_add(s, NULL); /* orders it with the default stream */
    if (e == cudaSuccess) {
        struct op **const ops = calloc((size_t)exec->n + 1, sizeof(struct op *));
        if (!ops) emulation_fail("no memory for a graph");
        for (int i = 0; i < exec->n; i++) {
            const struct emulation_node *const node = &exec->nodes[i];
            struct op *before[STREAM_FRONTIER + 1] = {s->tail};
            for (int k = 0; k < node->n_before; k++) before[k + 1] = ops[node->before[k]];
            if (node->payload) node->payload->n_refs++;
            ops[i] = work_add(node->payload, before, node->n_before + 1);
        }
        ops[exec->n] = s->tail;
        s->tail = work_add(NULL, ops, exec->n + 1);
        for (int i = 0; i <= exec->n; i++) op_drop(&ops[i]);
        free(ops);
    }
    work_unlock();
    return stream_error(e);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    work_lock();
    destroy(exec);
    work_unlock();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return cudaGraphExecDestroy(graph);
}
