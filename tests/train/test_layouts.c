/* @ranks 1 2 3 4 5 6 7 8  @timeout 300  @devices cpu cuda
 * Every layout gives what one rank gives: losses of five steps, gradients, norm, updated weights.
 *
 * By default, cells of the matrix in which every two settings meet (layout_cells.h); each run takes
 * those of its number of ranks.  $YOKE_LAYOUTS: "all", or "SEED N" for N cells chosen with SEED.
 * The emulated GPU is slow: some cells of a smaller model on up to 4 ranks, unless $YOKE_LAYOUTS says
 * more.
 * The sizes are awkward: 3 kv heads, 7 layers, a vocabulary of 1021, a batch that leaves some ranks a
 * micro-batch short. */
#include "run.h"

#include "layout_cells.h"
#include "train/selfcheck.h"

enum { STEPS = 5 };

static const char *const models[CELL_MODELS] = {
    "family: llama, hidden: 72, heads: 9, kv_heads: 3, ffn: 100, vocab_size: 1021",
    "family: gpt2, hidden: 64, heads: 8, ffn: 130, vocab_size: 1021",
    "family: qwen2, hidden: 40, heads: 9, kv_heads: 3, head_size: 8, ffn: 50, "
    "vocab_size: 211",
    "family: olmo2, hidden: 40, heads: 9, kv_heads: 3, head_size: 4, ffn: 50, "
    "vocab_size: 211",
    "family: smollm3, hidden: 48, heads: 8, kv_heads: 2, ffn: 50, vocab_size: 211",
    "family: gpt_neox, hidden: 64, heads: 8, ffn: 130, vocab_size: 211"};

enum { WITH_Z_LOSS = 3 }; /* olmo2 */

static bool on_cpu(void)
{
    return strcmp(test_device_name(), "cpu") == 0;
}

static int n_steps(void)
{
    return on_cpu() ? STEPS : 2;
}

static void describe(char *text, size_t bytes, const struct cell *c)
{
    static const char *const schedules[] = {"gpipe", "1f1b", "interleaved",
                                            "zero_bubble"};
    static const char *const recompute[] = {"none", "selective", "full"};
    const int *v = c->value;
    snprintf(text, bytes,
             "{dp: %d, cp: %d, tp: %d, pp: %d, schedule: %s, chunks: %d, zero: %d, "
             "sequence: %s, bucket_mb: 1, share_gpu: true}\nmodel: recompute %s of %d",
             v[CELL_DP], v[CELL_CP], v[CELL_TP], v[CELL_PP], schedules[v[CELL_SCHEDULE]],
             v[CELL_SCHEDULE] == 2 ? 2 : 1, v[CELL_ZERO],
             v[CELL_SEQUENCE] ? "true" : "false", recompute[v[CELL_RECOMPUTE]],
             v[CELL_MODEL]);
}

static void configure(struct config *config, const char *folder, const struct cell *c)
{
    static const char *const recompute[] = {"none", "selective", "full"};
    char cell[512], text[4096];
    describe(cell, sizeof cell, c);
    *strchr(cell, '\n') = '\0';
    const int model = c->value[CELL_MODEL];
    snprintf(text, sizeof text,
             "model: {%s, layers: %d, recompute: %s}\n"
             "data: {train: %s/train.h5, sequence_length: %d}\n"
             "train: {run_dir: %s/run, steps: %d, batch_sequences: %d, micro_batch: 2,\n"
             "        threads: 1, device: %s, z_loss: %s}\n"
             "optim: {lr: 1.0e-3}\n"
             "parallel: %s\n",
             models[model], cell_layers(model), recompute[c->value[CELL_RECOMPUTE]],
             folder, on_cpu() ? 96 : 24, folder, STEPS, on_cpu() ? 10 : 5,
             test_device_name(), model == WITH_Z_LOSS ? "1.0e-2" : "0", cell);
    ASSERT_OK(config_parse(config, "cell.yaml", text, strlen(text), NULL, 0));
}

/* One rank's numbers for each model, made when first needed; on rank 0. */
static struct selfcheck_trace *reference(const struct config *c, int model)
{
    static struct selfcheck_trace traces[CELL_MODELS];
    struct comm *world = test_world();
    struct selfcheck_trace *t = &traces[model];
    if (comm_rank(world) == 0 && t->n_steps == 0)
        ASSERT_OK(selfcheck_alone(t, c, n_steps()));
    return t;
}

/* Is it equal?  All ranks say the same. */
static bool check(const char *folder, const struct cell *c)
{
    struct comm *world = test_world();
    struct config config;
    struct selfcheck_trace got = {0};
    configure(&config, folder, c);
    const struct selfcheck_trace *want = reference(&config, c->value[CELL_MODEL]);
    status_t st = selfcheck_layout(&got, world, &config, n_steps());
    if (st == STATUS_OK)
        st = comm_agree(world, comm_rank(world) == 0
                                   ? selfcheck_compare(&got, want, &selfcheck_fp32, NULL)
                                   : STATUS_OK);
    if (st != STATUS_OK && comm_rank(world) == 0) {
        char text[512];
        describe(text, sizeof text, c);
        fprintf(stderr, "parallel: %s:\n  %s\n", text, status_message());
    }
    selfcheck_release(&got);
    config_release(&config);
    return st == STATUS_OK;
}

static void choose(struct cells *list, int ranks)
{
    const char *wish = getenv("YOKE_LAYOUTS");
    unsigned long long seed = 1;
    int n = 0;
    if (!wish && on_cpu())
        cells_choose_pairs(list, seed);
    else if (!wish)
        cells_choose_some(list, seed, ranks <= 4 ? 4 : 0, ranks);
    else if (strcmp(wish, "all") == 0)
        cells_choose_all(list);
    else if (sscanf(wish, "%llu %d", &seed, &n) == 2)
        cells_choose_some(list, seed, n, 0);
    else
        fail_msg("YOKE_LAYOUTS: \"%s\" is neither \"all\" nor \"SEED N\"", wish);
}

TEST(every_layout_gives_what_one_rank_gives)
{
    struct comm *world = test_world();
    const char *folder = test_folder();
    struct cells list = cells_list();
    int n = 0, equal = 0;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/train.h5", folder);
    if (comm_rank(world) == 0) run_write_tokens(path, 1, 400);
    comm_barrier(world);
    choose(&list, comm_size(world));
    const bool loud = log_set_quiet(true);
    for (int i = 0; i < list.n; i++) {
        if (!list.all[i].chosen || cell_ranks(&list.all[i]) != comm_size(world)) continue;
        n++;
        equal += check(folder, &list.all[i]);
    }
    log_set_quiet(loud);
    if (comm_rank(world) == 0)
        printf("layouts: %d of %d equal on %d ranks\n", equal, n, comm_size(world));
    assert_int_equal(equal, n);
}

TEST(the_choice_lets_every_two_settings_meet)
{
    if (!on_cpu() || comm_rank(test_world()) > 0) skip();
    struct cells list = cells_list();
    struct cell_pairs *p = test_alloc(sizeof *p);
    int left = 0, chosen = 0;
    cells_choose_pairs(&list, 1);
    for (int i = 0; i < list.n; i++) {
        chosen += list.all[i].chosen;
        if (list.all[i].chosen) cell_new_pairs(p, &list.all[i], true);
    }
    for (int i = 0; i < list.n; i++) left += cell_new_pairs(p, &list.all[i], false);
    assert_int_equal(left, 0);
    assert_true(chosen < list.n / 10);
}
