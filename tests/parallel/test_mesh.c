/* The grid of ranks: coordinates, their inverse, and what is refused. */
#include "harness/harness.h"

#include "parallel/mesh/mesh.h"

TEST(every_rank_has_its_own_place_and_innermost_axis_is_tp)
{
    const int sizes[MESH_AXES] = {
        [MESH_TP] = 2, [MESH_CP] = 3, [MESH_DP] = 4, [MESH_PP] = 5};
    int expected[MESH_AXES] = {0};
    for (int rank = 0; rank < 120; rank++) {
        struct mesh m;
        memset(&m, 0x5a, sizeof m);
        ASSERT_OK(mesh_init(&m, rank, 120, sizes));
        assert_int_equal(m.world_rank, rank);
        assert_int_equal(m.world_size, 120);
        assert_memory_equal(m.size, sizes, sizeof sizes);
        assert_memory_equal(m.coord, expected, sizeof expected);
        assert_int_equal(mesh_rank_at(&m, m.coord), rank);
        /* count on, tp first */
        for (int axis = MESH_TP; axis < MESH_AXES; axis++) {
            if (++expected[axis] < sizes[axis]) break;
            expected[axis] = 0;
        }
    }
}

TEST(sizes_that_do_not_make_the_world_are_refused)
{
    struct mesh m;
    const int too_many[MESH_AXES] = {1, 1, 3, 1};
    ASSERT_REFUSED(mesh_init(&m, 0, 4, too_many), STATUS_CONFIG, "4 ranks");
    const int none[MESH_AXES] = {1, 1, 0, 1};
    ASSERT_REFUSED(mesh_init(&m, 0, 4, none), STATUS_CONFIG, "parallel.dp is 0");
    const int negative[MESH_AXES] = {-2, -2, 1, 1};
    ASSERT_REFUSED(mesh_init(&m, 0, 4, negative), STATUS_CONFIG, "parallel.tp is -2");
    /* the product is 2^64 + 4 */
    const int huge[MESH_AXES] = {384773, 49477, 34724, 27905};
    ASSERT_REFUSED(mesh_init(&m, 0, 4, huge), STATUS_CONFIG, "4 ranks");
}

TEST(axes_have_the_names_of_the_configuration)
{
    assert_string_equal(mesh_axis_name(MESH_TP), "tp");
    assert_string_equal(mesh_axis_name(MESH_CP), "cp");
    assert_string_equal(mesh_axis_name(MESH_DP), "dp");
    assert_string_equal(mesh_axis_name(MESH_PP), "pp");
}
