/* @ranks 2 4  @timeout 120
 * What each axis sends in a step is, to the byte, what docs/parallelism.md says. */
#include "run.h"

#include "train/trainer.h"

/* ---- the formulas of docs/parallelism.md ------------------------------------------------------ */

static int64_t slice(int64_t n, const struct comm *c)
{
    int64_t first, count;
    comm_slice(n, comm_size(c), comm_rank(c), &first, &count);
    return count;
}

/* Bytes that this rank sends of a vector of `rows` rows of `row` bytes. */
static int64_t all_gather(int64_t rows, int64_t row, const struct comm *c)
{
    return slice(rows, c) * row * (comm_size(c) - 1);
}

static int64_t reduce_scatter(int64_t rows, int64_t row, const struct comm *c)
{
    return comm_size(c) > 1 ? (rows - slice(rows, c)) * row : 0;
}

static int64_t all_reduce(int64_t rows, int64_t row, const struct comm *c)
{
    return reduce_scatter(rows, row, c) + all_gather(rows, row, c);
}

/* Layers, and whether the ends of the model are here. */
struct here {
    int64_t layers;
    bool embeds, heads;
};

static struct here here_of(const struct trainer *t)
{
    const struct shard *s = &t->layout.shard;
    struct here h = {.embeds = shard_has_embedding(s, 0),
                     .heads = shard_has_head(s, s->n_chunks - 1)};
    for (int c = 0; c < s->n_chunks; c++) {
        int64_t first, end;
        shard_layers(s, &t->config->arch, c, &first, &end);
        h.layers += end - first;
    }
    return h;
}

/* Rows of this rank in micro-batch m of a step. */
static int64_t rows_of(const struct trainer *t, int m)
{
    const struct loader_options o = layout_loader_options(&t->layout, t->config);
    const int64_t left = loader_sequences(&o) - m * t->config->micro_batch;
    return (left < t->config->micro_batch ? left : t->config->micro_batch) * t->layout.T;
}

/* kv heads that several ranks hold, and the numbers of a head's keys or values. */
static int64_t shared_elements(const struct trainer *t)
{
    const struct arch *a = &t->config->arch;
    int64_t shared = 0;
    for (int64_t j = 0; j < a->n_kv_heads; j++) {
        bool several;
        shard_kv_owner(a, comm_size(t->layout.tp), j, &several);
        shared += several;
    }
    const int64_t row = 2 * (a->hidden + (a->qkv_bias ? 1 : 0)) + (a->qk_norm ? 1 : 0);
    return shared * a->head_size * row;
}

static int64_t tensor_parallel(const struct trainer *t)
{
    const struct config *c = t->config;
    const struct comm *tp = t->layout.tp;
    const struct here h = here_of(t);
    const int64_t row = c->arch.hidden * (int64_t)dtype_bytes(t->dtype);
    const bool again = c->recompute == CONFIG_RECOMPUTE_FULL;
    const bool later = c->pipeline == PP_ZERO_BUBBLE && t->pp;
    int64_t bytes = 0;
    if (comm_size(tp) == 1) return 0;
    for (int m = 0; m < t->schedule.n_micro; m++) {
        const int64_t N = rows_of(t, m);
        const int64_t G = all_gather(N, row, tp), R = reduce_scatter(N, row, tp);
        if (c->sequence_parallel)
            bytes += h.layers * (6 * G + 4 * R + (again ? 2 * G + 2 * R : 0) +
                                 (later ? 2 * G : 0)) +
                     (h.embeds + h.heads) * (G + R);
        else
            bytes += (h.layers * (again ? 6 : 4) + h.embeds + h.heads) * (G + R);
        if (c->arch.qk_norm)
            bytes += h.layers * (again ? 3 : 2) * all_reduce(2 * N, 4, tp);
        if (h.heads) bytes += 3 * 4 * N * (comm_size(tp) - 1);
    }
    const int sums = t->units ? t->schedule.n_micro : 1;
    for (int u = 0; u < t->params.n_units; u++) {
        const struct param_span *r = &t->params.replicated[u];
        if (c->sequence_parallel) bytes += sums * all_reduce(r->high - r->low, 4, tp);
        if (u > 0 && u < t->params.n_units - 1)
            bytes += sums * all_reduce(shared_elements(t), 4, tp);
    }
    return bytes;
}

static int64_t context_parallel(const struct trainer *t)
{
    const struct config *c = t->config;
    const struct shard *s = &t->layout.shard;
    const int size = comm_size(t->layout.cp), rank = comm_rank(t->layout.cp);
    const struct shard_widths w = shard_widths(&c->arch, s->tp_rank, s->tp_size);
    const int64_t kv = 2 * w.kv_heads * c->arch.head_size;
    const bool again = c->recompute == CONFIG_RECOMPUTE_FULL;
    int64_t bytes = 0;
    if (size == 1) return 0;
    for (int m = 0; m < t->schedule.n_micro; m++) {
        const int64_t B = rows_of(t, m) / t->layout.T;
        /* all keys but those of the rank behind, which come last and go nowhere */
        const int64_t keys =
            c->sequence_length - cp_rows(c->sequence_length, size, (rank + 1) % size);
        const int64_t turn = B * keys * kv * (int64_t)dtype_bytes(t->dtype);
        bytes += here_of(t).layers *
                 ((again ? 3 : 2) * turn + B * c->sequence_length * kv * 4);
    }
    return bytes;
}

static int64_t pipeline_parallel(const struct trainer *t)
{
    const struct pp_schedule *s = &t->schedule;
    const int64_t row = t->config->arch.hidden * (int64_t)dtype_bytes(t->dtype);
    const struct here h = here_of(t);
    int64_t bytes = 0;
    if (!t->pp) return 0;
    for (int m = 0; m < s->n_micro; m++)
        for (int c = 0; c < s->n_chunks; c++) {
            const int part = pp_part(s, t->layout.shard.stage, c);
            const int ways =
                (pp_to(s, part, PP_FORWARD) >= 0) + (pp_to(s, part, PP_BACKWARD) >= 0);
            const int64_t N = rows_of(t, m);
            const bool shared =
                comm_size(t->layout.tp) > 1 && t->config->sequence_parallel;
            bytes += ways * (shared ? slice(N, t->layout.tp) : N) * row;
        }
    if (t->config->arch.tied_embeddings && (h.embeds || h.heads))
        bytes += t->units ? 4 * slice(t->params.unit[1], t->layout.data)
                          : 4 * t->params.params[0].n;
    return bytes;
}

static int64_t data_parallel(const struct trainer *t)
{
    const struct dp_buckets b = parts_buckets(&(struct parts_options){
        .config = t->config, .layout = &t->layout, .params = &t->params});
    const struct comm *c = t->layout.data;
    int64_t bytes = 0;
    int index;
    const int n_near = comm_near(c, &index);
    for (int64_t k = 0; k < b.n_buckets && comm_size(c) > 1; k++) {
        int64_t start, end;
        dp_bucket(&b, k, &start, &end);
        const int64_t n = end - start;
        const int64_t weights =
            slice(n, c) * (int64_t)dtype_bytes(t->dtype) * (comm_size(c) - n_near);
        const int times = t->units ? t->schedule.n_micro : 1;
        bytes += t->config->zero == 0 ? all_reduce(n, 4, c)
                                      : times * reduce_scatter(n, 4, c) + weights;
    }
    return bytes;
}

/* ---- measured ---------------------------------------------------------------------------------- */

static void check_axis(const char *layout, const char *axis, const struct comm *c,
                       uint64_t before, int64_t want)
{
    const int64_t sent = (int64_t)(comm_stats(c).bytes_sent - before);
    if (sent != want)
        fail_msg("%s: %s sends %jd bytes, not %jd", layout, axis, (intmax_t)sent,
                 (intmax_t)want);
}

static void check(const char *folder, const char *layout, const char *model)
{
    const char *const overrides[] = {layout, model, "train.batch_sequences=10",
                                     "model.layers=4"};
    struct trainer t;
    struct config c;
    struct step_stats s;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    ASSERT_OK(config_load(&c, path, overrides, 4));
    ASSERT_OK(trainer_init(&t, test_world(), &c));
    ASSERT_OK(trainer_start_fresh(&t));
    ASSERT_OK(trainer_start_loader(&t));
    const struct comm *axes[] = {t.layout.tp, t.layout.cp, t.layout.pp, t.layout.data};
    uint64_t before[4];
    for (int i = 0; i < 4; i++) before[i] = comm_stats(axes[i]).bytes_sent;
    train_step(&t, &s);
    train_settle(&t);
    check_axis(layout, "tp", axes[0], before[0], tensor_parallel(&t));
    check_axis(layout, "cp", axes[1], before[1], context_parallel(&t));
    check_axis(layout, "pp", axes[2], before[2], pipeline_parallel(&t));
    check_axis(layout, "dp and cp", axes[3], before[3], data_parallel(&t));
    trainer_release(&t);
    config_release(&c);
}

TEST(every_axis_sends_what_its_formula_says)
{
    static const char *const of_two[] = {
        "parallel={zero: 0}",
        "parallel={zero: 1}",
        "parallel={zero: 2}",
        "parallel={tp: 2}",
        "parallel={tp: 2, sequence: false}",
        "parallel={cp: 2}",
        "parallel={cp: 2, zero: 2}",
        "parallel={pp: 2}",
        "parallel={pp: 2, schedule: zero_bubble}",
        "parallel={pp: 2, schedule: interleaved, chunks: 2}"};
    static const char *const of_four[] = {
        "parallel={tp: 2, pp: 2, schedule: zero_bubble}",
        "parallel={tp: 2, cp: 2, sequence: false}", "parallel={tp: 4}",
        "parallel={cp: 2, pp: 2, zero: 2}", "parallel={tp: 2, zero: 2}"};
    static const char *const models[] = {"model.recompute=none", "model.recompute=full",
                                         "model={family: gpt2, kv_heads: 6}",
                                         "model={family: olmo2, recompute: full}",
                                         "model={family: gpt_neox, kv_heads: 6}"};
    enum { N_MODELS = sizeof models / sizeof *models };
    struct comm *world = test_world();
    const char *folder = test_folder();
    if (comm_rank(world) == 0) run_prepare(folder);
    comm_barrier(world);
    const bool loud = log_set_quiet(true);
    for (size_t k = 0; k < N_MODELS; k++) {
        if (comm_size(world) == 2)
            for (size_t i = 0; i < sizeof of_two / sizeof *of_two; i++)
                check(folder, of_two[i], models[k]);
        for (size_t i = 0; comm_size(world) == 4 && i < sizeof of_four / sizeof *of_four;
             i++)
            check(folder, of_four[i], models[k]);
    }
    log_set_quiet(loud);
}
