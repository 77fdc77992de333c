/* yardstick - what matrix products on the CPU are held against: multiply-adds that never leave the
 * registers, and the libraries there are. */
#pragma once

#include "nn/nn.h"

/* FLOP/s of `threads` threads in fp32, or in bf16 with what nn_cpu_bf16 says; 0: with nothing. */
double yardstick_registers(enum dtype t, int threads);

/* oneDNN's matrix product, and OpenBLAS's where its library is found when the program runs. */
enum yardstick_library { YARDSTICK_ONEDNN, YARDSTICK_OPENBLAS, YARDSTICK_LIBRARIES };
const char *
yardstick_name(enum yardstick_library l); /* with the kernels that it picked */

/* What nn_matmul_* computes, of 2-d tensors in host memory. */
struct yardstick_product {
    struct tensor c, a, b;
    bool trans_a, trans_b;
    enum nn_accum mode;
};
struct yardstick; /* one product of one library, ready to be called again and again */

/* NULL: the library is not here, or has no such product.  It runs on OpenMP's threads. */
struct yardstick *yardstick_create(enum yardstick_library l,
                                   const struct yardstick_product *p);
void yardstick_run(struct yardstick *y);
void yardstick_destroy(struct yardstick **y); /* NULL-safe; nulls */
