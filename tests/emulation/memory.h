/* memory - what cudaMalloc and cudaMallocHost hand out, and who may touch it when. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* This thread may touch device memory between the two; they nest.  System calls may not: they fail
 * where an instruction would open what it touches. */
void memory_open(void);
void memory_close(void);

enum memory_place { MEMORY_PAGEABLE, MEMORY_PINNED, MEMORY_DEVICE };
/* Where [p, p + bytes) lies.  One that leaves its allocation, or is not live, is an error of the
 * caller: *fits is false. */
enum memory_place memory_place(const void *p, size_t bytes, bool *fits);

void *memory_alloc(enum memory_place place, int device,
                   size_t bytes);                   /* NULL: none left */
bool memory_free(enum memory_place place, void *p); /* false: no such allocation */
void memory_info(int device, size_t *free_bytes, size_t *total_bytes);

/* Name bad accesses before the process dies of them; memory_alloc calls it. */
void memory_watch(void);
