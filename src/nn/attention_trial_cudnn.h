/* attention_trial_cudnn - does cuDNN compute what the kernels compute? */
#pragma once

#include "nn/attention_graph_cudnn.h"

/* Run c's plans and the kernels on random numbers; c->bwd may be missing.  True: y, lse and each of
 * dq, dk, dv agree, and a second run of cuDNN gives the same bits.  False, with one line in
 * why[bytes], if they do not, a call fails or there is no memory for it.  Waits for `stream`. */
bool cudnn_attention_agrees(const struct cudnn_attention *c, cudaStream_t stream,
                            char *why, size_t bytes);
