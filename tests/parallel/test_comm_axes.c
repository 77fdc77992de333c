/* @ranks 2 3 4   @timeout 60   @devices cpu cuda
 * Comms along axes of a mesh: who is in them, and messages whose orders cross. */
#include "harness/harness.h"

#include "parallel/place.h"

/* Lines along `axis` of a mesh of 2 x 2 ranks. */
static void check_line(struct place *p, enum mesh_axis axis)
{
    struct comm *world = test_world();
    int sizes[MESH_AXES] = {1, 1, 1, 1};
    sizes[axis] = sizes[(axis + 1) % MESH_AXES] = 2;
    struct mesh m;
    ASSERT_OK(mesh_init(&m, comm_rank(world), 4, sizes));
    struct comm *line = NULL;
    ASSERT_OK(comm_create(&line, world, &m, MESH_BIT(axis)));
    assert_int_equal(comm_size(line), 2);
    assert_int_equal(comm_rank(line), m.coord[axis]);
    assert_string_equal(comm_transport_name(line), comm_transport_name(world));
    int64_t ranks = 1 << comm_rank(world), want = 0;
    float x[7], large = 0;
    for (int k = 0; k < 2; k++) {
        int coord[MESH_AXES];
        memcpy(coord, m.coord, sizeof coord);
        coord[axis] = k;
        want |= 1 << mesh_rank_at(&m, coord);
        large += (float)(1 << mesh_rank_at(&m, coord));
    }
    for (int i = 0; i < 7; i++) x[i] = (float)ranks;
    comm_sum_i64(line, &ranks, 1);
    assert_int_equal(ranks, want);
    struct comm_request *r = request_for(line, 7);
    float *v = vector_in(p, x, sizeof x);
    comm_start_op(r, COMM_ALL_REDUCE, v, DTYPE_F32, 7, 0);
    comm_wait(r);
    const float *got = vector_out(p, v, sizeof x);
    for (int i = 0; i < 7; i++) assert_true(got[i] == large);
    comm_request_destroy(&r);
    comm_destroy(&line);
    assert_null(line);
}

TEST(a_line_of_the_mesh_reduces_among_itself_only)
{
    if (comm_size(test_world()) != 4) return;
    for (struct place p = {.n_seeds = 3}; place_next(&p);)
        for (int axis = 0; axis < MESH_AXES; axis++) check_line(&p, (enum mesh_axis)axis);
}

/* All 4 ranks: they differ along two axes. */
static void check_plane(struct place *p, bool over_host)
{
    struct comm *world = test_world(), *plane = NULL;
    const int sizes[MESH_AXES] = {
        [MESH_TP] = 1, [MESH_CP] = 2, [MESH_DP] = 2, [MESH_PP] = 1};
    const mesh_axes axes = MESH_BIT(MESH_CP) | MESH_BIT(MESH_DP);
    struct mesh m;
    ASSERT_OK(mesh_init(&m, comm_rank(world), 4, sizes));
    ASSERT_OK(over_host ? comm_create_host(&plane, world, &m, axes)
                        : comm_create(&plane, world, &m, axes));
    assert_int_equal(comm_size(plane), 4);
    assert_int_equal(comm_rank(plane), comm_rank(world));
    if (over_host) assert_true(strcmp(comm_transport_name(plane), "nccl") != 0);
    float x[6];
    for (int i = 0; i < 6; i++) x[i] = (float)(comm_rank(world) + i);
    struct comm_request *r = request_for(plane, 6);
    float *v = vector_in(p, x, sizeof x);
    comm_start_op(r, COMM_ALL_REDUCE, v, DTYPE_F32, 6, 0);
    comm_wait(r);
    const float *got = vector_out(p, v, sizeof x);
    for (int i = 0; i < 6; i++) assert_true(got[i] == (float)(6 + 4 * i));
    comm_request_destroy(&r);
    comm_destroy(&plane);
}

TEST(a_comm_may_be_over_several_axes_and_over_mpi_alone)
{
    if (comm_size(test_world()) != 4) return;
    for (struct place p = {.n_seeds = 3}; place_next(&p);) {
        check_plane(&p, false);
        check_plane(&p, true);
    }
}

/* Every rank sends to its right before it receives from its left, as requests of their own, and
 * waits for them in an order of its own: in a queue that does one after the other, nobody would
 * ever come to receive. */
static void check_crossing(struct place *p, struct comm *line)
{
    enum { N = 40000 }; /* too long to be sent before somebody receives it */
    static float numbers[N];
    const int size = comm_size(line), rank = comm_rank(line);
    const int right = (rank + 1) % size, left = (rank + size - 1) % size;
    for (int i = 0; i < N; i++) numbers[i] = (float)(rank * N + i);
    float *out = vector_in(p, numbers, sizeof numbers);
    float *in = vector_in(p, numbers, sizeof numbers);
    struct comm_request *send = request_for(line, N), *receive = request_for(line, N);
    comm_start_messages(send, &(struct comm_message){right, true, out, DTYPE_F32, N}, 1,
                        0);
    comm_start_messages(receive, &(struct comm_message){left, false, in, DTYPE_F32, N}, 1,
                        0);
    comm_wait(rank % 2 ? receive : send);
    comm_wait(rank % 2 ? send : receive);
    const float *got = vector_out(p, in, sizeof numbers);
    for (int i = 0; i < N; i++) assert_true(got[i] == (float)(left * N + i));
    comm_request_destroy(&send);
    comm_request_destroy(&receive);
}

TEST(messages_over_the_host_may_cross)
{
    struct comm *world = test_world();
    int sizes[MESH_AXES] = {1, 1, 1, 1};
    sizes[MESH_PP] = comm_size(world);
    struct mesh m;
    ASSERT_OK(mesh_init(&m, comm_rank(world), comm_size(world), sizes));
    for (struct place p = {.n_seeds = 3}; place_next(&p);) {
        struct comm *line = NULL;
        ASSERT_OK(comm_create_host(&line, world, &m, MESH_BIT(MESH_PP)));
        check_crossing(&p, line);
        comm_destroy(&line);
    }
}
