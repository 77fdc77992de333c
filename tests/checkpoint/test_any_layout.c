/* @ranks 1 2 3 4   @timeout 120
 * Saved by one layout, read by another: every element of weights and moments is bitwise the same,
 * also in the copies that several ranks hold. */
#include "fixture.h"

static const struct arch models[] = {{.n_layers = 4,
                                      .hidden = 12,
                                      .n_heads = 6,
                                      .n_kv_heads = 3,
                                      .head_size = 2,
                                      .ffn = 67,
                                      .vocab_size = 101,
                                      .max_positions = 8,
                                      .norm = ARCH_RMSNORM,
                                      .position = ARCH_ROTARY,
                                      .activation = ARCH_SWIGLU,
                                      .norm_eps = 1e-5,
                                      .rope_theta = 1e4,
                                      .rope_fraction = 1},
                                     {.n_layers = 4,
                                      .hidden = 12,
                                      .n_heads = 6,
                                      .n_kv_heads = 6,
                                      .head_size = 2,
                                      .ffn = 30,
                                      .vocab_size = 101,
                                      .max_positions = 8,
                                      .norm = ARCH_LAYERNORM,
                                      .position = ARCH_LEARNED,
                                      .activation = ARCH_GELU,
                                      .qkv_bias = true,
                                      .out_bias = true,
                                      .mlp_bias = true,
                                      .tied_embeddings = true,
                                      .norm_eps = 1e-5,
                                      .names = ARCH_NAMES_GPT2}};

/* tp x pp x dp = the ranks; of every width, uneven cuts. */
struct cut {
    int tp, pp, dp;
};

static void table_of(struct param_table *t, const struct arch *a, const struct cut *c,
                     int rank)
{
    static const int64_t layers[5][5] = {
        {0}, {0, 4}, {0, 1, 4}, {0, 1, 3, 4}, {0, 1, 2, 3, 4}};
    const struct shard s = {.tp_rank = rank % c->tp,
                            .tp_size = c->tp,
                            .stage = rank / c->tp / c->dp,
                            .n_stages = c->pp,
                            .n_chunks = 1,
                            .first_layer = layers[c->pp]};
    ASSERT_OK(param_table_init(t, a, &s, 0));
}

/* What is at a global element: bits of its parameter's name and place. */
static uint32_t bits_of(const struct param *p, int64_t local, int kind)
{
    return bits_at(rng_key(3, "layouts", p->name), kind, param_run_at(p, local).global);
}

/* Every element of the ranges that is a parameter's is set to `salt`'s bits, or compared. */
static void each_element(const struct param_table *t, const struct checkpoint_range *r,
                         int n, bool compare)
{
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        for (int64_t k = 0; k < p->n; k++)
            for (int j = 0; j < n; j++) {
                const int64_t at = p->offset + k - r[j].start;
                if (at < 0 || at >= r[j].count) continue;
                for (int kind = 0; kind < KINDS; kind++) {
                    const uint32_t want = bits_of(p, k, kind);
                    uint32_t *bits = (uint32_t *)(void *)(range_data(&r[j], kind) + at);
                    if (!compare)
                        *bits = want;
                    else if (*bits != want)
                        fail_msg("%s: element %jd of kind %d: %08x, want %08x", p->name,
                                 (intmax_t)k, kind, *bits, want);
                }
            }
    }
}

static void pass_on(const char *run, const struct arch *a, const struct cut *from,
                    const struct cut *to, int64_t step)
{
    struct comm *world = test_world();
    const int rank = comm_rank(world);
    struct param_table whole, saves, loads;
    struct checkpoint_range ranges[MAX_RANGES];
    ASSERT_OK(param_table_init(&whole, a, NULL, 0));
    table_of(&saves, a, from, rank);
    const int dp = rank / from->tp % from->dp;
    int n = cut_ranges(&saves, dp, from->dp, 3, 0, ranges);
    each_element(&saves, ranges, n, false);
    const struct checkpoint_meta meta = some_meta(step);
    ASSERT_OK(checkpoint_save(run, world, &whole, &saves, ranges, n, &meta));

    char name[32];
    snprintf(name, sizeof name, "step-%08jd", (intmax_t)step);
    struct checkpoint *c;
    ASSERT_OK(checkpoint_open(&c, path_in(run, name)));
    table_of(&loads, a, to, rank);
    n = cut_ranges(&loads, rank / to->tp % to->dp, to->dp, 4, 0xdbdbdbdb, ranges);
    ASSERT_OK(checkpoint_read(c, &whole, &loads, ranges, n));
    each_element(&loads, ranges, n, true);
    checkpoint_close(&c);
    param_table_release(&loads);
    param_table_release(&saves);
    param_table_release(&whole);
}

TEST(any_layout_reads_what_any_other_saved)
{
    struct comm *world = test_world();
    const char *run = test_folder();
    struct cut cuts[64];
    const int size = comm_size(world);
    int n = 0;
    int64_t step = 0;
    for (int tp = 1; tp <= size; tp++)
        for (int pp = 1; tp * pp <= size; pp++)
            if (size % (tp * pp) == 0) cuts[n++] = (struct cut){tp, pp, size / tp / pp};
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                pass_on(run, &models[m], &cuts[i], &cuts[j], ++step);
}
