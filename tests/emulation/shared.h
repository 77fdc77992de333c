/* shared - the per-block memory of kernels, and the copies into it that run behind a thread's back.
 *
 * Every CUDA_SHARED has pages of its own for the life of the process: it ends at the end of a page
 * and the next one is not accessible.  At the start of each block it is filled with 0xFF bytes.
 *
 * An asynchronous copy is made at one of the two ends of the time in which the hardware may make
 * it: when it is issued, or when the thread waits for it; the seed says which. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

void shared_start_block(size_t dynamic_bytes);
void shared_end_block(void);
/* The most that a block of this device may ask for, static and dynamic (runtime.c). */
size_t shared_block_limit(void);
/* Is p in or just behind shared memory? */
bool shared_contains(const void *p);
