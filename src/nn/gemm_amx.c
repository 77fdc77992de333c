/* Both operands are packed into tiles of 1 KiB: of the first, 16 rows of 32 numbers along the sum; of the
 * second, 16 pairs of numbers along the sum by 16 columns, which is how TDPBF16PS wants it.  A product
 * of 2 x 2 tiles then loads each twice, and the packed second operand stays in the second-level cache
 * while the panels of the first pass by. */
#include "nn/gemm_amx.h"

#ifdef __AMX_BF16__
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    TILE = 512,
    SIDE = 16,
    DEPTH = 32
}; /* numbers of a tile, its rows, along the sum */

/* ---- the CPU ----------------------------------------------------------------------------- */

static bool cpu_has_amx(void)
{
    unsigned a, b, c, d;
    const unsigned amx_bf16 = 1U << 22, amx_tile = 1U << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d & amx_bf16) || !(d & amx_tile)) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d)) return false;
    return a & 1U << 5; /* AVX512-BF16 */
}

bool gemm_amx_usable(void)
{
    /* a process asks for the tile registers' state once (Documentation/arch/x86/xstate.rst of Linux) */
    enum { REQUEST = 0x1023, TILE_DATA = 18, UNKNOWN = 0, NO, YES };
    static int usable;
    int known = __atomic_load_n(&usable, __ATOMIC_RELAXED);
    if (known == UNKNOWN) {
        const bool granted =
            cpu_has_amx() && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
        known = granted ? YES : NO;
        __atomic_store_n(&usable, known, __ATOMIC_RELAXED);
    }
    return known == YES;
}

static void configure_tiles(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    for (int i = 0; i < 8; i++) c.row_bytes[i] = 64, c.rows[i] = SIDE;
    _tile_loadconfig(&c);
}

/* ---- packing ------------------------------------------------------------------------------ */

static __mmask32 first_of_32(int64_t n)
{
    return n >= 32 ? 0xffffffffU : n <= 0 ? 0 : (1U << n) - 1;
}

static __mmask16 first_of_16(int64_t n)
{
    return (__mmask16)first_of_32(n > 16 ? 16 : n);
}

/* Of 16 rows of 16 dwords, the columns. */
static void transpose(__m512i r[SIDE])
{
    __m512i t[SIDE];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
    }
}

/* 16 rows, n of them there, of k numbers along the sum. */
static void load_rows(__m512i r[SIDE], const uint16_t *x, int64_t ld, int64_t n,
                      int64_t k)
{
    const __mmask32 some = first_of_32(k);
    for (int i = 0; i < SIDE; i++)
        r[i] =
            i < n ? _mm512_maskz_loadu_epi16(some, x + i * ld) : _mm512_setzero_si512();
}

/* 16 pairs of rows, of k along the sum, of n numbers: a dword holds the two of a pair. */
static void load_pairs(__m512i r[SIDE], const uint16_t *x, int64_t ld, int64_t n,
                       int64_t k)
{
    const __mmask16 some = first_of_16(n), none = 0;
    for (int i = 0; i < SIDE; i++) {
        const uint16_t *low = x + 2 * i * ld;
        const __m256i a = _mm256_maskz_loadu_epi16(2 * i < k ? some : none, low);
        const __m256i b = _mm256_maskz_loadu_epi16(2 * i + 1 < k ? some : none, low + ld);
        r[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                               _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
    }
}

/* Rows [first, first + 16) of an operand, n of them there, into one tile after the other along the
 * sum.  Tiles of the second operand are those of the first, transposed by pairs. */
static void pack_rows(uint16_t *to, const struct gemm_operand *o, int64_t first,
                      int64_t n, int64_t depth, bool second)
{
    for (int64_t k = 0; k < depth; k += DEPTH, to += TILE) {
        __m512i r[SIDE];
        if (o->deep)
            load_pairs(r, o->x + k * o->ld + first, o->ld, n, depth - k);
        else
            load_rows(r, o->x + first * o->ld + k, o->ld, n, depth - k);
        if (o->deep != second) transpose(r);
        for (int i = 0; i < SIDE; i++) _mm512_store_si512(to + DEPTH * i, r[i]);
    }
}

/* ---- the product --------------------------------------------------------------------------- */

/* 32 x 32 of c; a and b: two rows of `tiles` tiles each */
static void multiply(float *c, int64_t ldc, const uint16_t *a, const uint16_t *b,
                     int64_t tiles, bool accumulate)
{
    const uint16_t *a1 = a + tiles * TILE, *b1 = b + tiles * TILE;
    float *below = c + SIDE * ldc;
    const long row = ldc * (long)sizeof *c;
    if (accumulate) {
        _tile_loadd(0, c, row);
        _tile_loadd(1, c + SIDE, row);
        _tile_loadd(2, below, row);
        _tile_loadd(3, below + SIDE, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < tiles * TILE; k += TILE) {
        _tile_loadd(4, a + k, 64);
        _tile_loadd(6, b + k, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + k, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + k, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, row);
    _tile_stored(1, c + SIDE, row);
    _tile_stored(2, below, row);
    _tile_stored(3, below + SIDE, row);
}

static int64_t tiles_along(int64_t depth)
{
    return (depth + DEPTH - 1) / DEPTH;
}

int64_t gemm_amx_room(int64_t cols, int64_t depth)
{
    const int64_t strips = (cols + GEMM_AMX_PANEL - 1) / GEMM_AMX_PANEL + 1;
    return strips * 2 * tiles_along(depth) * TILE;
}

/* 32 rows from `first` on. */
static void pack_panel(uint16_t *to, const struct gemm_operand *o, int64_t first,
                       int64_t rows, int64_t depth, bool second)
{
    pack_rows(to, o, first, rows - first, depth, second);
    pack_rows(to + tiles_along(depth) * TILE, o, first + SIDE, rows - first - SIDE, depth,
              second);
}

void gemm_amx_block(float *c, int64_t ldc, const struct gemm_operand *a,
                    const struct gemm_operand *b, int64_t rows, int64_t cols,
                    int64_t depth, bool accumulate, uint16_t *room)
{
    const int64_t tiles = tiles_along(depth), panel = 2 * tiles * TILE;
    uint16_t *packed = room + panel;
    configure_tiles();
    for (int64_t j = 0; j < cols; j += GEMM_AMX_PANEL)
        pack_panel(packed + j / GEMM_AMX_PANEL * panel, b, j, cols, depth, true);
    for (int64_t i = 0; i < rows; i += GEMM_AMX_PANEL) {
        pack_panel(room, a, i, rows, depth, false);
        for (int64_t j = 0; j < cols; j += GEMM_AMX_PANEL)
            multiply(c + i * ldc + j, ldc, room, packed + j / GEMM_AMX_PANEL * panel,
                     tiles, accumulate);
    }
    _tile_release();
}
#else
#include "core/log.h"

bool gemm_amx_usable(void)
{
    return false;
}

int64_t gemm_amx_room(int64_t cols, int64_t depth)
{
    (void)cols, (void)depth;
    return 0;
}

void gemm_amx_block(float *c, int64_t ldc, const struct gemm_operand *a,
                    const struct gemm_operand *b, int64_t rows, int64_t cols,
                    int64_t depth, bool accumulate, uint16_t *room)
{
    (void)c, (void)ldc, (void)a, (void)b, (void)rows, (void)cols, (void)depth;
    (void)accumulate, (void)room;
    die("this program was built without AMX");
}
#endif
