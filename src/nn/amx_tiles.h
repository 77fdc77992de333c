/* amx_tiles - the eight tile registers, each of 16 rows of 64 bytes, around a thread's use of them (Intel's
 * Advanced Matrix Extensions: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1,
 * chapter 18).  For files that are compiled for such CPUs. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

static inline void amx_begin(void)
{
    /* a constant, because compilers take the instruction to read its first bytes only */
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } eight_whole_tiles = {.palette = 1,
                           .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                           .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&eight_whole_tiles);
}

static inline void amx_end(void)
{
    _tile_release();
}
