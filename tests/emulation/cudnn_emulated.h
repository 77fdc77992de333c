/* cudnn_emulated - the descriptors of the emulated cuDNN, and its graphs.
 *
 * It is strict: an attribute that a descriptor does not have, of another type or count, one that is
 * missing when it is finalized, shapes that do not fit each other, an operation that reads what none
 * before it wrote, two tensors of one name, are refused.  It is hostile: the engine it names first
 * does not repeat its results, the second gives no plan, and the workspace is overwritten.
 *
 * A graph is computed operation by operation, each as the documentation describes it, so what is
 * tested is whether the graph means what it should; which graphs the real library has engines for
 * is not known here. */
#pragma once

#include <cudnn.h>
#include <stdbool.h>

enum { CUDNN_VALUES = 8, CUDNN_TENSORS = 64, CUDNN_OPERATIONS = 64 };

struct cudnn_value {
    cudnnBackendAttributeName_t name;
    int64_t n;
    void *data;
};

struct cudnn_descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    int n_values;
    struct cudnn_value values[CUDNN_VALUES];
    const struct cudnn_descriptor *graph; /* of configurations and engines */
    int engine;
};

/* NULL if it was not set. */
const struct cudnn_value *cudnn_value(const struct cudnn_descriptor *d,
                                      cudnnBackendAttributeName_t name);
int64_t cudnn_int64(const struct cudnn_descriptor *d, cudnnBackendAttributeName_t name);
/* Of an attribute with an enumeration. */
int cudnn_choice(const struct cudnn_descriptor *d, cudnnBackendAttributeName_t name);
const struct cudnn_descriptor *cudnn_reference(const struct cudnn_descriptor *d,
                                               cudnnBackendAttributeName_t name);

/* What only the graph as a whole can be asked. */
cudnnStatus_t cudnn_graph_check(const struct cudnn_descriptor *graph);
int64_t cudnn_graph_workspace(const struct cudnn_descriptor *graph);
/* `repeats`: the engine gives the same bits each time. */
cudnnStatus_t cudnn_graph_queue(const struct cudnn_descriptor *graph, bool repeats,
                                cudaStream_t stream, const struct cudnn_descriptor *pack);

/* For tests, which find them with device_symbol: how many graphs were queued so far; and let the
 * tensor of this name come out 5 % too large from now on (-1: none). */
int64_t emulation_cudnn_graphs(void);
void emulation_cudnn_spoil(int64_t uid);
