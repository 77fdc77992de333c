/* attention_cudnn - causal attention of whole sequences by cuDNN, where there is one.
 *
 * cuDNN has code for each GPU's own instructions that the kernels of attention.cu do without.  It
 * is opened at run time, and it has to earn its use: attention_cudnn.c says how.  Included only by
 * ops_cuda.c and the files *_cudnn.c of this folder. */
#pragma once

#include "nn/nn_impl.h"

#ifdef YOKE_HAVE_CUDNN

/* The arguments of the rows of nn_impl.h.  True: the work is queued.  False: the kernels have to do
 * it; always so while measuring, when a shape is tried and its scratch is asked for. */
bool attention_cudnn_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                         const struct tensor *qkv, const struct nn_attention *a);
bool attention_cudnn_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                         const struct tensor *y, const struct tensor *lse,
                         const struct tensor *qkv, const struct nn_attention *a);

#else

static inline bool attention_cudnn_fwd(struct nn *nn, struct tensor *y,
                                       struct tensor *lse, const struct tensor *qkv,
                                       const struct nn_attention *a)
{
    (void)nn, (void)y, (void)lse, (void)qkv, (void)a;
    return false;
}

static inline bool attention_cudnn_bwd(struct nn *nn, struct tensor *dqkv,
                                       const struct tensor *dy, const struct tensor *y,
                                       const struct tensor *lse, const struct tensor *qkv,
                                       const struct nn_attention *a)
{
    (void)nn, (void)dqkv, (void)dy, (void)y, (void)lse, (void)qkv, (void)a;
    return false;
}

#endif
