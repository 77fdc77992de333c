/* What the wrappers promise: measuring checks shapes and touches no data, and what does not fit
 * ends the process. */
#include "each_nn.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 5, C = 12, V = 7, P = 6 };

/* tensors without data: an operation that touched them would crash */
struct blanks {
    struct tensor x, y, z, wide, wide_too, w, b, dw, db, rstd, stats, table, square;
};

static struct blanks blanks(void)
{
    const struct tensor x = tensor_2d(NULL, DTYPE_F32, N, C),
                        w = tensor_1d(NULL, DTYPE_F32, C);
    const struct tensor wide = tensor_2d(NULL, DTYPE_F32, N, 2 * C);
    return (struct blanks){.x = x,
                           .y = x,
                           .z = x,
                           .wide = wide,
                           .wide_too = wide,
                           .w = w,
                           .b = w,
                           .dw = w,
                           .db = w,
                           .rstd = tensor_1d(NULL, DTYPE_F32, N),
                           .stats = tensor_2d(NULL, DTYPE_F32, N, 2),
                           .table = tensor_2d(NULL, DTYPE_F32, V, C),
                           .square = tensor_2d(NULL, DTYPE_F32, C, C)};
}

typedef void call(struct nn *nn, struct blanks *t);

static void bias_add(struct nn *nn, struct blanks *t)
{
    nn_bias_add(nn, &t->y, &t->x, &t->b);
}

static void bias_bwd(struct nn *nn, struct blanks *t)
{
    nn_bias_bwd(nn, &t->db, &t->x);
}

static struct nn_norm norm(struct blanks *t, bool center)
{
    return (struct nn_norm){.eps = 1e-5f,
                            .w = &t->w,
                            .b = center ? &t->b : NULL,
                            .dw = &t->dw,
                            .db = center ? &t->db : NULL};
}

static void rmsnorm_fwd(struct nn *nn, struct blanks *t)
{
    const struct nn_norm p = norm(t, false);
    nn_rmsnorm_fwd(nn, &t->y, &t->rstd, &t->x, &t->z, &p);
}

static void rmsnorm_bwd(struct nn *nn, struct blanks *t)
{
    const struct nn_norm p = norm(t, false);
    nn_rmsnorm_bwd(nn, &t->y, &t->z, &t->x, &t->rstd, &p, NN_ACCUM);
}

static void layernorm_fwd(struct nn *nn, struct blanks *t)
{
    const struct nn_norm p = norm(t, true);
    nn_layernorm_fwd(nn, &t->y, &t->stats, &t->x, &t->z, &p);
}

static void layernorm_bwd(struct nn *nn, struct blanks *t)
{
    const struct nn_norm p = norm(t, true);
    nn_layernorm_bwd(nn, &t->y, &t->z, &t->x, &t->stats, &p, NN_ASSIGN);
}

static void rope(struct nn *nn, struct blanks *t)
{
    const struct nn_rope r = {.n_heads = 3, .head_size = 4, .half = 2, .n_positions = P};
    nn_rope_fwd(nn, &t->x, &r);
    nn_rope_bwd(nn, &t->x, &r);
}

static void gelu_fwd(struct nn *nn, struct blanks *t)
{
    nn_gelu_fwd(nn, &t->y, &t->x);
}

static void gelu_bwd(struct nn *nn, struct blanks *t)
{
    nn_gelu_bwd(nn, &t->y, &t->z, &t->db, &t->z, &t->x);
}

static void swiglu_fwd(struct nn *nn, struct blanks *t)
{
    nn_swiglu_fwd(nn, &t->y, &t->wide);
}

static void swiglu_bwd(struct nn *nn, struct blanks *t)
{
    nn_swiglu_bwd(nn, &t->wide_too, &t->z, NULL, &t->y, &t->wide);
}

static void embedding_fwd(struct nn *nn, struct blanks *t)
{
    nn_embedding_fwd(nn, &t->y, &t->table, &t->table, NULL, NULL, NN_ALL_TOKENS);
}

static void embedding_bwd(struct nn *nn, struct blanks *t)
{
    nn_embedding_bwd(nn, &t->table, &t->table, &t->y, NULL, NULL, NN_ALL_TOKENS);
}

static void linear_fwd(struct nn *nn, struct blanks *t)
{
    nn_linear_fwd(nn, &t->y, &t->x, &t->square, &t->b, &t->z);
}

static void linear_gelu_fwd(struct nn *nn, struct blanks *t)
{
    nn_linear_gelu_fwd(nn, &t->y, &t->z, &t->x, &t->square, &t->b);
}

static void adamw_update(struct nn *nn, struct blanks *t)
{
    (void)t;
    const struct nn_adamw p = {.c1 = 1, .c2 = 1};
    const struct nn_adamw_range r = {.n = 100};
    nn_adamw_update(nn, &r, &p);
}

/* scratch_bytes: of one thread; fits: letters of the tensors that must fit together, in the
 * order of struct blanks: x y z W(ide) V(wide_too) w b d(w) e(db) r(std) s(tats) t(able) q(square);
 * any_rows: those of them that may have any number of rows */
static const struct {
    const char *name, *fits, *any_rows;
    call *run;
    size_t scratch_bytes;
} calls[] = {
    {"bias_add", "xyb", "", bias_add, 0},
    {"bias_bwd", "xe", "x", bias_bwd, 0},
    {"rmsnorm_fwd", "xyzwr", "", rmsnorm_fwd, 0},
    {"rmsnorm_bwd", "xyzwdr", "", rmsnorm_bwd, 64}, /* 12 floats, in whole cache lines */
    {"layernorm_fwd", "xyzwbs", "", layernorm_fwd, 0},
    {"layernorm_bwd", "xyzwdes", "", layernorm_bwd, 128},
    {"rope", "", "", rope, 0}, /* its one tensor may be wider than the heads: below */
    {"gelu_fwd", "xy", "", gelu_fwd, 0},
    {"gelu_bwd", "xyze", "", gelu_bwd, 64},
    {"swiglu_fwd", "yW", "", swiglu_fwd, 0},
    {"swiglu_bwd", "yzWV", "", swiglu_bwd, 0},
    {"embedding_fwd", "yt", "yt", embedding_fwd, 0},
    {"embedding_bwd", "yt", "yt", embedding_bwd, 0},
    {"linear_fwd", "xyzqb", "", linear_fwd, 0},
    {"linear_gelu_fwd", "xyzqb", "", linear_gelu_fwd, 0},
    {"adamw_update", "", "", adamw_update, 0},
};

enum { N_CALLS = sizeof calls / sizeof *calls };

static size_t measure(call *run, struct blanks *t)
{
    struct device *dev = NULL;
    struct nn *nn = NULL;
    ASSERT_OK(device_open(&dev, "cpu", 0));
    ASSERT_OK(nn_create_measuring(&nn, dev, 1));
    run(nn, t);
    const size_t bytes = nn_scratch_peak_bytes(nn);
    nn_destroy(&nn);
    device_close(&dev);
    return bytes;
}

TEST(measuring_touches_no_data_and_adds_up_scratch)
{
    for (int i = 0; i < N_CALLS; i++) {
        struct blanks t = blanks();
        assert_int_equal(measure(calls[i].run, &t), calls[i].scratch_bytes);
    }
}

/* True in a child process, which is to leave by _exit; in the parent *code is how it left. */
static bool in_child(int *code)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) return freopen("/dev/null", "w", stderr) != NULL;
    int state = 0;
    assert_int_equal(waitpid(child, &state, 0), child);
    *code = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    return false;
}

static int exit_of(call *run, struct blanks *t)
{
    int code = 0;
    if (in_child(&code)) {
        measure(run, t);
        _exit(0);
    }
    return code;
}

static struct tensor *lettered(struct blanks *t, char letter)
{
    static const char letters[] = "xyzWVwbderstq";
    struct tensor *const all[] = {&t->x,     &t->y,     &t->z,     &t->wide, &t->wide_too,
                                  &t->w,     &t->b,     &t->dw,    &t->db,   &t->rstd,
                                  &t->stats, &t->table, &t->square};
    return all[strchr(letters, letter) - letters];
}

/* each tensor one column (or element) wider, one row longer, and of another type */
TEST(a_tensor_that_does_not_fit_dies_already_while_measuring)
{
    for (int i = 0; i < N_CALLS; i++) {
        struct blanks t = blanks();
        assert_int_equal(exit_of(calls[i].run, &t), 0);
        for (const char *letter = calls[i].fits; *letter; letter++) {
            for (int way = 0; way < 3; way++) {
                t = blanks();
                struct tensor *x = lettered(&t, *letter);
                const bool legal = way == 1 && strchr(calls[i].any_rows, *letter);
                if (way == 0)
                    x->shape[x->n_dims - 1]++;
                else if (way == 1)
                    x->shape[0]++;
                else
                    x->dtype = DTYPE_I32;
                const int want = legal ? 0 : 70;
                const int code = exit_of(calls[i].run, &t);
                if (code != want)
                    fail_msg("%s, %c, way %d: exit %d", calls[i].name, *letter, way,
                             code);
            }
        }
    }
}

TEST(rope_takes_wider_rows_but_no_narrower_ones)
{
    struct blanks t = blanks();
    t.x.shape[1]++;
    assert_int_equal(exit_of(rope, &t), 0);
    t.x.shape[1] -= 2;
    assert_int_equal(exit_of(rope, &t), 70);
}

static int exit_of_rows(int32_t token, int32_t position, bool backward)
{
    int code = 0;
    if (!in_child(&code)) return code;
    struct device *dev = NULL;
    struct nn *nn = NULL;
    if (device_open(&dev, "cpu", 0) || nn_create(&nn, dev, 1, 0)) _exit(99);
    struct tensor te = randn_2d(1, V, C), pe = randn_2d(2, P, C), y = randn_2d(3, 1, C);
    if (backward)
        nn_embedding_bwd(nn, &te, &pe, &y, &token, &position, NN_ALL_TOKENS);
    else
        nn_embedding_fwd(nn, &y, &te, &pe, &token, &position, NN_ALL_TOKENS);
    _exit(0);
}

TEST(a_token_or_position_outside_its_table_dies)
{
    for (int backward = 0; backward < 2; backward++) {
        assert_int_equal(exit_of_rows(0, 0, backward), 0);
        assert_int_equal(exit_of_rows(V - 1, P - 1, backward), 0);
        assert_int_equal(exit_of_rows(V, 0, backward), 70);
        assert_int_equal(exit_of_rows(-1, 0, backward), 70);
        assert_int_equal(exit_of_rows(0, P, backward), 70);
        assert_int_equal(exit_of_rows(0, -1, backward), 70);
    }
}
