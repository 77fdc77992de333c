/* @amx
 * What multiplies packed panels, in tile registers or by dot products: as its manual says, bit for bit.
 * The same holds where tiles are emulated, so this is also what the emulation is held to. */
#include <math.h>

#include "harness/harness.h"

#include "nn/gemm_tiles.h"

enum { SIDE = GEMM_SIDE, STEPS = 3, DEPTH = STEPS * GEMM_STEP };

/* Operands with rows of DEPTH numbers, packed; sums in c. */
struct panels {
    float a[SIDE][DEPTH], b[SIDE][DEPTH];
    float *c;
};

static void *packed(const struct gemm_kernel *kernel, float x[SIDE][DEPTH], bool second)
{
    const enum dtype t = kernel->elem_bytes == sizeof(float) ? DTYPE_F32 : DTYPE_BF16;
    void *rows = test_alloc(dtype_bytes(t) * SIDE * DEPTH);
    void *panel = test_alloc((size_t)kernel->step_bytes * STEPS);
    dtype_convert(rows, t, x, DTYPE_F32, SIDE * DEPTH);
    const struct gemm_operand o = {.x = rows, .ld = DEPTH};
    gemm_pack(kernel, panel, &o, SIDE, DEPTH, second);
    return panel;
}

static struct panels *zeros(void)
{
    struct panels *p = test_alloc(sizeof *p);
    p->c = test_alloc(sizeof(float) * SIDE * SIDE);
    return p;
}

typedef void kernel_body(const struct gemm_kernel *kernel);

static void each_bf16_kernel(kernel_body *body)
{
    if (!gemm_dot_usable()) skip();
    body(&gemm_dot);
    if (gemm_amx_usable()) body(&gemm_amx);
}

static void each_kernel(kernel_body *body)
{
    each_bf16_kernel(body);
    if (gemm_amx_usable()) body(&gemm_bf16x6);
}

static void multiply(const struct gemm_kernel *kernel, struct panels *p, bool accumulate,
                     bool first_passes)
{
    const struct gemm_ahead nothing = {.x = {NULL, NULL}};
    const struct gemm_rows first = gemm_packed_rows(kernel, packed(kernel, p->a, false));
    kernel->begin();
    kernel->multiply(p->c, &first, packed(kernel, p->b, true), STEPS, accumulate,
                     first_passes, &nothing);
    kernel->end();
}

/* ---- small integers, whose sums are exact in any order -------------------------------------- */

static void fill(float x[SIDE][DEPTH], int factor)
{
    for (int i = 0; i < SIDE; i++)
        for (int k = 0; k < DEPTH; k++)
            x[i][k] = (float)((i * factor + k * k + i * k) % 17 - 8);
}

static void integers(const struct gemm_kernel *kernel)
{
    struct panels *p = zeros();
    fill(p->a, 3);
    fill(p->b, 5);
    for (int mode = 0; mode < 4; mode++) {
        const bool accumulate = mode & 1;
        for (int i = 0; i < SIDE * SIDE; i++) p->c[i] = accumulate ? (float)i : NAN;
        multiply(kernel, p, accumulate, mode & 2);
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                float want = accumulate ? (float)(i * SIDE + j) : 0;
                for (int k = 0; k < DEPTH; k++) want += p->a[i][k] * p->b[j][k];
                if (p->c[i * SIDE + j] != want)
                    fail_msg("[%d, %d] is %g, not %g", i, j, (double)p->c[i * SIDE + j],
                             (double)want);
            }
    }
}

TEST(products_of_integers_are_exact)
{
    each_kernel(integers);
}

static void rows_where_they_lie(const struct gemm_kernel *kernel)
{
    enum { LD = DEPTH + 24 }; /* rows begin anywhere in a line */
    if (!kernel->takes_rows) return;
    struct panels *p = zeros();
    uint16_t *rows = test_alloc(SIDE * LD * sizeof *rows);
    fill(p->a, 3);
    fill(p->b, 5);
    for (int i = 0; i < SIDE; i++)
        dtype_convert(rows + i * LD, DTYPE_BF16, p->a[i], DTYPE_F32, DEPTH);
    multiply(kernel, p, false, true);
    float *sums = test_alloc(sizeof *sums * SIDE * SIDE);
    const struct gemm_ahead nothing = {.x = {NULL, NULL}};
    const struct gemm_rows first = {rows, LD, GEMM_STEP};
    kernel->begin();
    kernel->multiply(sums, &first, packed(kernel, p->b, true), STEPS, false, true,
                     &nothing);
    kernel->end();
    assert_memory_equal(sums, p->c, sizeof *sums * SIDE * SIDE);
}

TEST(rows_need_no_packing_where_a_kernel_takes_them)
{
    each_kernel(rows_where_they_lie);
}

/* ---- what is not exact ----------------------------------------------------------------------- */

/* c + x y in every element */
static float one_product(const struct gemm_kernel *kernel, float c, float x, float y)
{
    struct panels *p = zeros();
    const int k = 37;
    for (int i = 0; i < SIDE; i++) p->a[i][k] = x, p->b[i][k] = y;
    for (int i = 0; i < SIDE * SIDE; i++) p->c[i] = c;
    multiply(kernel, p, true, true);
    for (int i = 1; i < SIDE * SIDE; i++)
        assert_memory_equal(p->c + i, p->c, sizeof *p->c);
    return p->c[0];
}

static void rounding(const struct gemm_kernel *kernel)
{
    const float whole = 0x1p24f; /* from here on, numbers are two apart */
    assert_true(one_product(kernel, whole, 1, 1) == whole);
    assert_true(one_product(kernel, whole + 2, 1, 1) == whole + 4);
    assert_true(one_product(kernel, whole, 1, 1.5f) == whole + 2);
}

TEST(sums_are_rounded_to_nearest_even)
{
    each_kernel(rounding);
}

static void denormals(const struct gemm_kernel *kernel)
{
    assert_true(one_product(kernel, 1, 0x1p-130f, 0x1p127f) == 1);
    assert_true(one_product(kernel, 1, 0x1p127f, -0x1p-130f) == 1);
    assert_true(one_product(kernel, 1, 0x1p-126f, 0x1p126f) == 2);
    assert_true(one_product(kernel, 0, 0x1p-70f, 0x1p-70f) == 0);
    assert_true(one_product(kernel, 0x1p-130f, 0, 0) == 0);
}

TEST(denormals_are_zeros)
{
    each_bf16_kernel(denormals);
}

/* ---- fp32 out of bf16 ----------------------------------------------------------------------- */

TEST(products_out_of_bf16_have_all_digits_of_fp32)
{
    if (!gemm_amx_usable()) skip();
    struct panels *p = zeros();
    const struct tensor x = randn_1d(1, 2 * SIDE);
    for (int i = 0; i < SIDE; i++) {
        p->a[i][5] = ldexpf(tensor_f32(&x)[i], i - SIDE / 2);
        p->b[i][5] = tensor_f32(&x)[SIDE + i];
    }
    multiply(&gemm_bf16x6, p, false, true);
    for (int i = 0; i < SIDE * SIDE; i++) {
        const double want = (double)p->a[i / SIDE][5] * (double)p->b[i % SIDE][5];
        const double error = fabs((double)p->c[i] - want) / fabs(want);
        if (!(error < 0x1p-23)) fail_msg("[%d] is wrong by %g of itself", i, error);
    }
}

TEST(products_out_of_bf16_of_what_is_not_finite_are_not_finite)
{
    static const float ends[] = {HUGE_VALF, -HUGE_VALF, NAN, 3.4e38f};
    if (!gemm_amx_usable()) skip();
    for (int i = 0; i < 4; i++) {
        if (isfinite(one_product(&gemm_bf16x6, 0, ends[i], 1.5f))) fail();
        if (isfinite(one_product(&gemm_bf16x6, 0, 1.5f, ends[i]))) fail();
    }
}
