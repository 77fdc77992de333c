/* The parameter table of a part of a model: over all ranks every element is there and answered for
 * once, wherever widths, heads and layers are cut. */
#include "harness/harness.h"

#include "core/rng.h"
#include "model/param.h"

enum { MAX_PARTS = 9 };

static const struct arch llama = {.n_layers = 7,
                                  .hidden = 24,
                                  .n_heads = 9,
                                  .n_kv_heads = 3,
                                  .head_size = 4,
                                  .ffn = 133,
                                  .vocab_size = 1021,
                                  .max_positions = 16,
                                  .norm = ARCH_RMSNORM,
                                  .position = ARCH_ROTARY,
                                  .activation = ARCH_SWIGLU,
                                  .norm_eps = 1e-5,
                                  .rope_theta = 1e4,
                                  .rope_fraction = 1,
                                  .init_std = 0.02};
static const struct arch gpt2 = {.n_layers = 5,
                                 .hidden = 24,
                                 .n_heads = 6,
                                 .n_kv_heads = 6,
                                 .head_size = 4,
                                 .ffn = 50,
                                 .vocab_size = 211,
                                 .max_positions = 16,
                                 .norm = ARCH_LAYERNORM,
                                 .position = ARCH_LEARNED,
                                 .activation = ARCH_GELU,
                                 .qkv_bias = true,
                                 .out_bias = true,
                                 .mlp_bias = true,
                                 .tied_embeddings = true,
                                 .norm_eps = 1e-5,
                                 .init_std = 0.02,
                                 .names = ARCH_NAMES_GPT2};

/* How often each element of the whole model is on some rank, and answered for. */
struct census {
    struct param_table whole;
    float *values;
    int *held, *owned; /* [whole.n_elements] */
};

static void count_run(struct census *c, const struct param *of,
                      const struct param_slice *s, const struct param *p,
                      const float *flat, int64_t at)
{
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t k = 0; k < p->local[1]; k++) {
            const int64_t global = of->offset + (s->row + r) * p->shape[1] + s->col + k;
            const int64_t local = (s->local_row + r) * p->local[1] + k;
            assert_true(s->row + r < p->shape[0] && s->col + k < p->shape[1]);
            c->held[global]++;
            c->owned[global] += s->owned;
            if (flat[at + local] != c->values[global])
                fail_msg("%s [%jd]: starts as %g, not %g", p->name, (intmax_t)local,
                         (double)flat[at + local], (double)c->values[global]);
            const struct param_run run = param_run_at(p, local);
            assert_int_equal(of->offset + run.global, global);
        }
}

static void count_table(struct census *c, const struct param_table *t, uint64_t seed)
{
    float *flat = test_alloc((size_t)t->n_elements * sizeof *flat);
    param_init_values(t, seed, 0, t->n_elements, flat);
    int64_t end = 0;
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i], *of = &c->whole.params[p->index];
        assert_string_equal(p->name, of->name);
        assert_int_equal(p->global_offset, of->offset);
        assert_true(p->offset >= end);
        assert_int_equal(p->n, p->local[0] * p->local[1]);
        end = p->offset + p->n;
        int64_t rows = 0;
        for (int k = 0; k < p->n_slices; k++) {
            assert_int_equal(p->slices[k].local_row, rows);
            rows += p->slices[k].rows;
            count_run(c, of, &p->slices[k], p, flat, p->offset);
        }
        assert_int_equal(rows, p->local[0]);
    }
    assert_true(end <= t->n_elements);
}

/* Units ascend from 0, are aligned, and their replicated parts lie in them. */
static void check_units(const struct param_table *t, int64_t align)
{
    assert_int_equal(t->unit[0], 0);
    assert_int_equal(t->unit[t->n_units], t->n_elements);
    for (int u = 0; u < t->n_units; u++) {
        assert_true(t->unit[u] <= t->unit[u + 1]);
        assert_int_equal(t->unit[u] % align, 0);
        assert_true(t->unit[u] <= t->replicated[u].low);
        assert_true(t->replicated[u].low <= t->replicated[u].high);
        assert_true(t->replicated[u].high <= t->unit[u + 1]);
    }
    for (int i = 1; i < t->n_owned; i++)
        assert_true(t->owned[i - 1].high <= t->owned[i].low);
}

/* Elements of owned spans that are not gaps. */
static int64_t owned_elements(const struct param_table *t)
{
    int64_t n = 0;
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        for (int j = 0; j < t->n_owned; j++) {
            const int64_t low = t->owned[j].low > p->offset ? t->owned[j].low : p->offset;
            const int64_t end = p->offset + p->n;
            const int64_t high = t->owned[j].high < end ? t->owned[j].high : end;
            if (low < high) n += high - low;
        }
    }
    return n;
}

static void check(const struct arch *a, int tp, int stages, int chunks)
{
    enum { SEED = 5 };
    struct census c;
    int64_t first_layer[MAX_PARTS + 1];
    const int parts = stages * chunks;
    for (int i = 0; i <= parts; i++) first_layer[i] = a->n_layers * i / parts;
    ASSERT_OK(param_table_init(&c.whole, a, NULL, 0));
    const size_t n = (size_t)c.whole.n_elements;
    c.values = test_alloc(n * sizeof *c.values);
    c.held = test_alloc(n * sizeof *c.held);
    c.owned = test_alloc(n * sizeof *c.owned);
    param_init_values(&c.whole, SEED, 0, c.whole.n_elements, c.values);
    int64_t owned = 0;
    for (int stage = 0; stage < stages; stage++)
        for (int rank = 0; rank < tp; rank++) {
            const struct shard s = {.tp_rank = rank,
                                    .tp_size = tp,
                                    .stage = stage,
                                    .n_stages = stages,
                                    .n_chunks = chunks,
                                    .first_layer = first_layer};
            const int64_t align = 16 * (1 + stage);
            struct param_table t;
            ASSERT_OK(param_table_init(&t, a, &s, align));
            check_units(&t, align);
            count_table(&c, &t, SEED);
            owned += owned_elements(&t);
            param_table_release(&t);
        }
    assert_int_equal(owned, arch_parameters(a));
    for (int i = 0; i < c.whole.n_params; i++) {
        const struct param *p = &c.whole.params[i];
        for (int64_t k = p->offset; k < p->offset + p->n; k++)
            if (c.held[k] < 1 || c.owned[k] != 1)
                fail_msg("tp %d, %d stages of %d: element %jd of %s is on %d ranks, %d "
                         "answer for it",
                         tp, stages, chunks, (intmax_t)(k - p->offset), p->name,
                         c.held[k], c.owned[k]);
    }
    param_table_release(&c.whole);
}

TEST(every_element_is_held_and_answered_for_once)
{
    const struct arch *const models[] = {&llama, &gpt2};
    for (int m = 0; m < 2; m++)
        for (int tp = 1; tp <= models[m]->n_heads; tp++)
            for (int stages = 1; stages <= 5; stages += 2)
                for (int chunks = 1; chunks <= (stages == 1 ? 1 : 2); chunks++)
                    if (stages * chunks <= models[m]->n_layers)
                        check(models[m], tp, stages, chunks);
}

TEST(widths_are_shared_out_evenly)
{
    for (int size = 1; size <= 9; size++) {
        int64_t heads = 0, ffn = 0, vocab = 0;
        for (int rank = 0; rank < size; rank++) {
            const struct shard_widths w = shard_widths(&llama, rank, size);
            assert_int_equal(w.first_head, heads);
            assert_int_equal(w.first_ffn, ffn);
            assert_int_equal(w.first_token, vocab);
            assert_true(w.heads >= 1 && w.ffn >= 1 && w.vocab >= 1);
            assert_true(w.heads <= (llama.n_heads + size - 1) / size);
            assert_int_equal(w.first_kv_head, w.first_head / 3);
            assert_int_equal(w.head_in_group, w.first_head % 3);
            heads += w.heads;
            ffn += w.ffn;
            vocab += w.vocab;
        }
        assert_int_equal(heads, llama.n_heads);
        assert_int_equal(ffn, llama.ffn);
        assert_int_equal(vocab, llama.vocab_size);
    }
}

TEST(more_ranks_than_heads_are_refused)
{
    ASSERT_OK(shard_check(&llama, 9));
    ASSERT_REFUSED(shard_check(&llama, 10), STATUS_CONFIG,
                   "parallel.tp: 10 ranks cannot share 9 heads");
}
