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

/* What becomes of sizes that are wanted; 0: auto. */
static void sizes_of(int ranks, int tp, int cp, int dp, int pp, int got[MESH_AXES])
{
    const int wanted[MESH_AXES] = {
        [MESH_TP] = tp, [MESH_CP] = cp, [MESH_DP] = dp, [MESH_PP] = pp};
    ASSERT_OK(mesh_sizes(ranks, wanted, got));
}

TEST(auto_takes_what_is_left)
{
    int got[MESH_AXES];
    sizes_of(12, 2, 1, 0, 3, got);
    assert_int_equal(got[MESH_DP], 2);
    sizes_of(12, 0, 0, 0, 0, got);
    assert_int_equal(got[MESH_DP], 12);
    assert_int_equal(got[MESH_TP], 1);
    sizes_of(12, 0, 1, 3, 2, got); /* dp is given: the other one that is auto */
    assert_int_equal(got[MESH_TP], 2);
    sizes_of(8, 2, 2, 2, 1, got);
    assert_int_equal(got[MESH_PP], 1);
}

TEST(sizes_that_do_not_fit_are_refused_with_those_that_do)
{
    int got[MESH_AXES];
    const int three[MESH_AXES] = {[MESH_TP] = 3, [MESH_CP] = 1, [MESH_PP] = 2};
    ASSERT_REFUSED(mesh_sizes(8, three, got), STATUS_CONFIG, "valid for tp: 1, 2, 4");
    assert_non_null(strstr(status_message(), "tp: 3: dp auto x cp 1 x tp 3 x pp 2 "));
    const int exact[MESH_AXES] = {
        [MESH_TP] = 2, [MESH_CP] = 1, [MESH_DP] = 5, [MESH_PP] = 1};
    ASSERT_REFUSED(mesh_sizes(8, exact, got), STATUS_CONFIG, "valid for dp: 4");
    const int two_autos[MESH_AXES] = {[MESH_DP] = 2, [MESH_PP] = 1};
    ASSERT_REFUSED(mesh_sizes(8, two_autos, got), STATUS_CONFIG, "8 ranks");
    const int huge[MESH_AXES] = {65536, 65536, 65536, 65536};
    ASSERT_REFUSED(mesh_sizes(8, huge, got), STATUS_CONFIG, "none with the other axes");
}

TEST(a_group_is_named_by_its_lowest_rank)
{
    const int sizes[MESH_AXES] = {2, 3, 2, 2};
    for (int rank = 0; rank < 24; rank++)
        for (unsigned axes = 0; axes < 16; axes++) {
            struct mesh m;
            int lowest = -1, coord[MESH_AXES];
            ASSERT_OK(mesh_init(&m, rank, 24, sizes));
            for (int other = 23; other >= 0; other--) {
                bool together = true;
                mesh_coord_of(&m, other, coord);
                for (int axis = 0; axis < MESH_AXES; axis++)
                    if (!(axes & MESH_BIT(axis)) && coord[axis] != m.coord[axis])
                        together = false;
                if (together) lowest = other;
            }
            assert_int_equal(mesh_group(&m, axes), lowest);
        }
}

TEST(who_is_where_is_told_in_lines)
{
    static const char hosts[24][8] = {"ox1", "ox1", "ox2", "ox2"};
    const int four[MESH_AXES] = {2, 1, 1, 2}, many[MESH_AXES] = {4, 1, 6, 1};
    struct mesh m;
    ASSERT_OK(mesh_init(&m, 0, 4, four));
    char *text = mesh_describe(&m, hosts[0], sizeof hosts[0]);
    assert_string_equal(text, "rank 0: host ox1, dp 0 cp 0 tp 0 pp 0\n"
                              "rank 1: host ox1, dp 0 cp 0 tp 1 pp 0\n"
                              "rank 2: host ox2, dp 0 cp 0 tp 0 pp 1\n"
                              "rank 3: host ox2, dp 0 cp 0 tp 1 pp 1\n");
    free(text);
    static const char one[24][8] = {{0}};
    ASSERT_OK(mesh_init(&m, 0, 24, many));
    text = mesh_describe(&m, one[0], sizeof one[0]);
    assert_non_null(strstr(text, "ranks 4 to 7: host , dp 1 cp 0 tp 0-3 pp 0\n"));
    free(text);
    static const char hosts_of_line[24][8] = {[10] = "ox2", [11] = "ox2"};
    const int line[MESH_AXES] = {1, 1, 24, 1};
    ASSERT_OK(mesh_init(&m, 0, 24, line));
    text = mesh_describe(&m, hosts_of_line[0],
                         sizeof hosts_of_line[0]); /* a run ends where the host does */
    assert_string_equal(text, "ranks 0 to 9: host , dp 0-9 cp 0 tp 0 pp 0\n"
                              "ranks 10 to 11: host ox2, dp 10-11 cp 0 tp 0 pp 0\n"
                              "ranks 12 to 23: host , dp 12-23 cp 0 tp 0 pp 0\n");
    free(text);
}
