#include "nn/ops_cpu.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

const struct nn_ops NN_CPU(nn_ops) = {
    .isa = STRING(NN_ISA),
    .bias_add = NN_CPU(bias_add),
    .bias_bwd = NN_CPU(bias_bwd),
    .rmsnorm_fwd = NN_CPU(rmsnorm_fwd),
    .rmsnorm_bwd = NN_CPU(rmsnorm_bwd),
    .layernorm_fwd = NN_CPU(layernorm_fwd),
    .layernorm_bwd = NN_CPU(layernorm_bwd),
    .rope = NN_CPU(rope),
    .attention_fwd = NN_CPU(attention_fwd),
    .attention_bwd = NN_CPU(attention_bwd),
    .attention_decode = NN_CPU(attention_decode),
    .gelu_fwd = NN_CPU(gelu_fwd),
    .gelu_bwd = NN_CPU(gelu_bwd),
    .swiglu_fwd = NN_CPU(swiglu_fwd),
    .swiglu_bwd = NN_CPU(swiglu_bwd),
    .embedding_fwd = NN_CPU(embedding_fwd),
    .embedding_bwd = NN_CPU(embedding_bwd),
    .softmax_loss = NN_CPU(softmax_loss),
    .adamw_update = NN_CPU(adamw_update),
    .sum_squares = NN_CPU(sum_squares),
};
