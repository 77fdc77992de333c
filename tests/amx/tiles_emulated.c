#include "amx/tiles_emulated.h"

#include <stdbool.h>
#include <string.h>

#include "core/log.h"

enum { TILES = 8, ROWS = 16, ROW = 64 };

typedef uint32_t dwords __attribute__((vector_size(ROW)));
typedef float floats __attribute__((vector_size(ROW)));

/* The registers belong to a thread, whichever file's code runs on it. */
static _Thread_local dwords tiles[TILES][ROWS];
static _Thread_local bool configured;

static dwords *tile_of(int tile)
{
    if (tile < 0 || tile >= TILES) die("there is no tile %d", tile);
    if (!configured) die("tile %d is used without a configuration", tile);
    return tiles[tile];
}

void emulated_tile_loadconfig(const void *config)
{
    uint8_t whole[64] = {1}; /* palette; 16 bytes; bytes of a row, in two; rows */
    for (int i = 0; i < TILES; i++) whole[16 + 2 * i] = ROW, whole[48 + i] = ROWS;
    if (memcmp(config, whole, sizeof whole) != 0)
        die("a configuration that is not eight whole tiles");
    configured = true;
    memset(tiles, 0, sizeof tiles);
}

void emulated_tile_release(void)
{
    configured = false;
}

void emulated_tile_zero(int tile)
{
    memset(tile_of(tile), 0, sizeof tiles[tile]);
}

void emulated_tile_load(int tile, const void *from, int64_t row_bytes)
{
    dwords *t = tile_of(tile);
    for (int i = 0; i < ROWS; i++) memcpy(t + i, (const char *)from + i * row_bytes, ROW);
}

void emulated_tile_store(int tile, void *to, int64_t row_bytes)
{
    const dwords *t = tile_of(tile);
    for (int i = 0; i < ROWS; i++) memcpy((char *)to + i * row_bytes, t + i, ROW);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Not inlined, so that nothing of it is moved out of the mode it runs in.  Numbers of even and of odd k
 * are added up apart, as in Intel's manual (volume 2, TDPBF16PS). */
__attribute__((noinline)) static void multiply(dwords *sums, const dwords *a,
                                               const dwords *b)
{
    floats low[ROWS], high[ROWS];
    for (int k = 0; k < ROWS; k++)
        low[k] = (floats)(b[k] << 16), high[k] = (floats)(b[k] & 0xffff0000);
    for (int i = 0; i < ROWS; i++) {
        floats even = {0}, odd = {0};
        for (int k = 0; k < ROWS; k++) {
            even += float_of(a[i][k] << 16) * low[k];
            odd += float_of(a[i][k] & 0xffff0000) * high[k];
        }
        sums[i] = (dwords)((floats)sums[i] + (even + odd));
    }
}

void emulated_tile_product(int sums, int a, int b)
{
    /* to nearest even, all exceptions masked, denormals are zeros as operands and as results */
    const unsigned mode = 0x9fc0, before = _mm_getcsr();
    if (sums == a || sums == b || a == b) die("a tile is two operands of a product");
    _mm_setcsr(mode);
    multiply(tile_of(sums), tile_of(a), tile_of(b));
    _mm_setcsr(before);
}
