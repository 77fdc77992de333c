/* tiles_emulated - the instructions of tile registers that src/nn uses, as functions, for CPUs that have
 * no such registers.  Put in front of a file with -include.
 *
 * Each thread has eight tiles of 16 rows of 64 bytes, and no other shape.  What a CPU refuses dies:
 * tiles that are not configured, or one that is two operands of a product. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

void emulated_tile_loadconfig(const void *config);
void emulated_tile_release(void);
void emulated_tile_zero(int tile);
/* Rows in memory are row_bytes apart. */
void emulated_tile_load(int tile, const void *from, int64_t row_bytes);
void emulated_tile_store(int tile, void *to, int64_t row_bytes);
/* TDPBF16PS: sums[i][j] += over k of a[i][2k] b[k][2j] + a[i][2k + 1] b[k][2j + 1] */
void emulated_tile_product(int sums, int a, int b);

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config)           emulated_tile_loadconfig(config)
#define _tile_release()                    emulated_tile_release()
#define _tile_zero(tile)                   emulated_tile_zero(tile)
#define _tile_loadd(tile, from, row_bytes) emulated_tile_load(tile, from, row_bytes)
#define _tile_stream_loadd(tile, from, row_bytes)                                        \
    emulated_tile_load(tile, from, row_bytes)
#define _tile_stored(tile, to, row_bytes) emulated_tile_store(tile, to, row_bytes)
#define _tile_dpbf16ps(sums, a, b)        emulated_tile_product(sums, a, b)
