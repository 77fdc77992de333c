/* The parts of yoke doctor that judge what was seen. */
#include <stdio.h>

#include "harness/harness.h"
#include "train/doctor_impl.h"

TEST(every_pair_of_ranks_meets_exactly_once)
{
    enum { MOST = 17 };
    for (int size = 2; size <= MOST; size++) {
        int met[MOST][MOST] = {{0}};
        for (int round = 0; round < doctor_rounds(size); round++)
            for (int rank = 0; rank < size; rank++) {
                const int partner = doctor_partner(size, rank, round);
                if (partner < 0) continue;
                assert_in_range(partner, 0, size - 1);
                assert_int_equal(doctor_partner(size, partner, round), rank);
                met[rank][partner]++;
            }
        for (int a = 0; a < size; a++)
            for (int b = 0; b < size; b++) assert_int_equal(met[a][b], a != b);
    }
}

TEST(cores_are_written_as_ranges)
{
    uint64_t cores[LAUNCH_MASK_WORDS] = {0};
    char text[64] = "dirty";
    launch_name_cores(cores, text, sizeof text);
    assert_string_equal(text, "");
    cores[0] = 0x10f;
    cores[1] = 1;
    launch_name_cores(cores, text, sizeof text);
    assert_string_equal(text, "0-3,8,64");
    cores[0] = cores[1] = UINT64_MAX;
    launch_name_cores(cores, text, sizeof text);
    assert_string_equal(text, "0-127");
    for (int i = 0; i < LAUNCH_MASK_WORDS; i++) cores[i] = 0x5555555555555555u;
    launch_name_cores(cores, text, sizeof text);
    assert_string_equal(text + strlen(text) - 4, ",...");
}

TEST(sizes_are_written_with_units)
{
    assert_string_equal(doctor_bytes(1023), "1023 bytes");
    assert_string_equal(doctor_bytes(1536), "1.5 KiB");
    assert_string_equal(doctor_bytes(64.0 * 1024 * 1024), "64.0 MiB");
}

TEST(bridges_of_containers_are_known)
{
    static const char *const bridges[] = {"docker0", "virbr0", "br-1a2b", "veth12"};
    static const char *const others[] = {"eth0", "ib0", "eno1", "bond0", "lo", "brain0"};
    for (size_t i = 0; i < 4; i++) assert_true(doctor_is_bridge(bridges[i]));
    for (size_t i = 0; i < 6; i++) assert_false(doctor_is_bridge(others[i]));
}

/* ---- who has which GPU ------------------------------------------------------------------------ */

static struct doctor_note *seat(struct doctor_note *n, const char *host, int local,
                                int n_visible, const char *id)
{
    *n = (struct doctor_note){.local = local, .n_visible = n_visible, .index = -1};
    snprintf(n->launch.host, sizeof n->launch.host, "%s", host);
    if (id) n->index = local % n_visible;
    if (id) snprintf(n->info.id, sizeof n->info.id, "%s", id);
    return n;
}

/* The report's table for these ranks. */
static const char *table(const struct doctor_note *notes, int size, int *n_advices)
{
    static char text[8192];
    struct doctor_report r = {.out = fmemopen(text, sizeof text, "w")};
    assert_non_null(r.out);
    doctor_ranks(&r, notes, size);
    fclose(r.out);
    *n_advices = r.n_advices;
    return text;
}

TEST(a_gpu_for_each_rank_needs_no_advice)
{
    struct doctor_note *n = test_alloc(4 * sizeof *n);
    int n_advices = -1;
    seat(&n[0], "a", 0, 2, "0000:01");
    seat(&n[1], "a", 1, 2, "0000:02");
    seat(&n[2], "b", 0, 2, "0000:01"); /* another host's */
    seat(&n[3], "b", 1, 2, "0000:02");
    table(n, 4, &n_advices);
    assert_int_equal(n_advices, 0);
}

TEST(two_ranks_on_one_gpu_are_named)
{
    struct doctor_note *n = test_alloc(3 * sizeof *n);
    int n_advices = -1;
    seat(&n[0], "a", 0, 2, "0000:01");
    seat(&n[1], "a", 1, 2, "0000:02");
    seat(&n[2], "a", 2, 2, "0000:01");
    const char *text = table(n, 3, &n_advices);
    assert_int_equal(n_advices, 1);
    assert_non_null(strstr(text, "ranks 0 and 2 are both on GPU 0000:01 of a"));
    assert_non_null(strstr(text, "parallel.share_gpu: true"));
}

TEST(a_job_that_shows_each_rank_one_gpu_gets_advice)
{
    struct doctor_note *n = test_alloc(2 * sizeof *n);
    int n_advices = -1;
    seat(&n[0], "a", 0, 1, "0000:01");
    seat(&n[1], "a", 1, 1, "0000:02");
    const char *text = table(n, 2, &n_advices);
    assert_int_equal(n_advices, 1);
    assert_non_null(strstr(text, "--gpus-per-node"));
}

TEST(ranks_without_a_gpu_share_none)
{
    struct doctor_note *n = test_alloc(2 * sizeof *n);
    int n_advices = -1;
    seat(&n[0], "a", 0, 0, NULL);
    seat(&n[1], "a", 1, 0, NULL);
    const char *text = table(n, 2, &n_advices);
    assert_int_equal(n_advices, 0);
    assert_non_null(strstr(text, "no GPU"));
}
