/* block - runs the grid of a kernel: one block after the other, their threads as fibers.
 *
 * Blocks and threads come in random order.  A thread runs until it meets others (a barrier, a
 * shuffle) or ends; then any thread that can go on does.  So between two barriers every order of
 * whole threads is possible, but no two are ever in the middle of something at the same time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct block_dims {
    unsigned x, y, z; /* the dim3 of C++ */
};

struct block_grid {
    const char *name;
    struct block_dims grid, block;
    size_t shared_bytes; /* dynamic */
    void (*call)(void *arguments);
    void *arguments;
};

void block_run_grid(const struct block_grid *g);

/* " block (..) thread (..)" of the thread that runs; "" outside of kernels. */
void block_describe(char *text, size_t bytes);
unsigned block_thread(void); /* its number in the block */
