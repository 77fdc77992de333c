/* @ranks 1 2 4   @timeout 120
 * A Hugging Face folder imported by any number of ranks, for any layout, a block at a time: the same
 * tensors; and no more memory than a block. */
#include <sys/resource.h>
#include <unistd.h>

#include "checkpoint/hf.h"
#include "fixture.h"

static const char *const families[] = {"gpt2",  "llama",   "qwen2",
                                       "olmo2", "smollm3", "gpt_neox"};
enum { N_FAMILIES = sizeof families / sizeof *families, MAX_STAGES = 4 };

static const char *fixture_path(const char *family)
{
    char name[64];
    snprintf(name, sizeof name, "tests/fixtures/hf_%s", family);
    return path_in(getenv("YOKE_SOURCE"), name);
}

/* tp x pp, and what is left for dp. */
struct cut {
    int tp, pp, dp;
};

/* What is imported, by this rank. */
struct imported {
    struct arch arch;
    struct hf *hf;
    struct param_table whole, local;
    struct hf_import_options options;
    struct checkpoint_meta meta;
};

static void open_import(struct imported *m, const char *folder, const struct arch *a,
                        const struct cut *c, const char *run, int64_t step)
{
    struct comm *world = test_world();
    const int rank = comm_rank(world);
    int64_t first_layer[MAX_STAGES + 1];
    for (int i = 0; i <= c->pp; i++) first_layer[i] = i * a->n_layers / c->pp;
    const struct shard s = {.tp_rank = rank % c->tp,
                            .tp_size = c->tp,
                            .stage = rank / c->tp / c->dp,
                            .n_stages = c->pp,
                            .n_chunks = 1,
                            .first_layer = first_layer};
    *m = (struct imported){.arch = *a, .meta = some_meta(step)};
    ASSERT_OK(hf_open(&m->hf, folder, a));
    ASSERT_OK(param_table_init(&m->whole, a, NULL, 0));
    ASSERT_OK(param_table_init(&m->local, a, &s, 0));
    m->options =
        (struct hf_import_options){.run_dir = run,
                                   .world = world,
                                   .whole = &m->whole,
                                   .local = &m->local,
                                   .share = rank / c->tp % c->dp,
                                   .shares = c->dp,
                                   /* for NeoX, blocks that begin inside a head */
                                   .block = a->names == ARCH_NAMES_NEOX ? 300 : 2000,
                                   .meta = &m->meta};
}

static void close_import(struct imported *m)
{
    hf_close(&m->hf);
    param_table_release(&m->local);
    param_table_release(&m->whole);
}

static const char *step_folder(const char *run, int64_t step)
{
    char name[32];
    snprintf(name, sizeof name, "step-%08jd", (intmax_t)step);
    return path_in(run, name);
}

/* Weights as the folder has them, read at once; moments zero. */
static void check_tensors(const struct imported *m, const char *path)
{
    struct checkpoint_source s;
    ASSERT_OK(checkpoint_source_open(&s, path));
    assert_int_equal(s.n_params, m->whole.n_params);
    for (int i = 0; i < s.n_params; i++) {
        const struct param *p = &m->whole.params[i];
        const size_t bytes = (size_t)p->n * sizeof(float);
        const struct hf_rectangle all = {0, 0, p->shape[0], p->shape[1]};
        float *want = test_alloc(bytes), *got = test_alloc(bytes),
              *zeros = test_alloc(bytes);
        assert_string_equal(s.params[i].name, p->name);
        ASSERT_OK(hf_read(m->hf, i, &all, want));
        ASSERT_OK(s.read(&s, i, CHECKPOINT_MASTER, got));
        assert_memory_equal(got, want, bytes);
        for (int kind = CHECKPOINT_EXP_AVG; kind < CHECKPOINT_KINDS; kind++) {
            memset(got, 0xdb, bytes);
            ASSERT_OK(s.read(&s, i, (enum checkpoint_kind)kind, got));
            assert_memory_equal(got, zeros, bytes);
        }
    }
    checkpoint_source_close(&s);
}

static void check_import(const char *family, const struct cut *c, const char *run,
                         int64_t step)
{
    struct imported m;
    struct arch a;
    const char *name;
    ASSERT_OK(hf_config_read(fixture_path(family), &a, &name));
    if (c->pp > a.n_layers || shard_check(&a, c->tp) != STATUS_OK) return;
    open_import(&m, fixture_path(family), &a, c, run, step);
    ASSERT_OK(hf_import(m.hf, &m.options));
    check_tensors(&m, step_folder(run, step));
    ASSERT_REFUSED(hf_import(m.hf, &m.options), STATUS_IO, "holds a checkpoint");
    close_import(&m);
}

TEST(every_layout_imports_the_same_tensors)
{
    const int size = comm_size(test_world());
    const char *run = test_folder();
    int64_t step = 0;
    for (int i = 0; i < N_FAMILIES; i++)
        for (int tp = 1; tp <= size; tp++)
            for (int pp = 1; tp * pp <= size; pp++)
                if (size % (tp * pp) == 0)
                    check_import(families[i], &(struct cut){tp, pp, size / tp / pp}, run,
                                 ++step);
}

/* ---- memory and failures -------------------------------------------------------------------- */

static const struct arch wide = {.n_layers = 2,
                                 .hidden = 128,
                                 .n_heads = 4,
                                 .n_kv_heads = 4,
                                 .head_size = 32,
                                 .ffn = 256,
                                 .vocab_size = 1 << 18,
                                 .max_positions = 8,
                                 .tied_embeddings = true};

/* A folder of zeros for such a model, which takes no disk; its file becomes `path`. */
static void make_hollow(const char *folder, const struct arch *a, char path[PATH_MAX])
{
    file_join(path, PATH_MAX, folder, "model.safetensors");
    if (comm_rank(test_world()) == 0) {
        struct param_table t;
        static char header[1 << 14];
        uint64_t n = 0, at = 0;
        ASSERT_OK(param_table_init(&t, a, NULL, 0));
        for (int i = 0; i < t.n_params; at += 4 * (uint64_t)t.params[i++].n) {
            const struct param *p = &t.params[i];
            char columns[32] = "";
            if (p->n_dims == 2)
                snprintf(columns, sizeof columns, ", %jd", (intmax_t)p->shape[1]);
            n += (uint64_t)snprintf(header + n, sizeof header - n,
                                    "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [%jd%s], "
                                    "\"data_offsets\": [%ju, %ju]}",
                                    i ? ", " : "{", p->name, (intmax_t)p->shape[0],
                                    columns, (uintmax_t)at,
                                    (uintmax_t)(at + 4 * (uint64_t)p->n));
        }
        header[n++] = '}';
        ASSERT_OK(file_make_dirs(folder));
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(&n, sizeof n, 1, f), 1);
        assert_int_equal(fwrite(header, 1, n, f), n);
        fclose(f);
        assert_int_equal(truncate(path, (off_t)(8 + n + at)), 0);
        param_table_release(&t);
    }
    comm_barrier(test_world());
}

static int64_t peak_bytes(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)u.ru_maxrss * 1024;
}

/* The embedding has 128 MB, a block 4. */
TEST(an_import_holds_no_more_than_a_block)
{
    struct arch a = wide;
    struct imported m;
    char file[PATH_MAX];
    const char *folder = path_in(test_folder(), "hollow");
    ASSERT_OK(arch_family(&a, "llama"));
    make_hollow(folder, &a, file);
    const struct cut c = {.tp = 1, .pp = 1, .dp = comm_size(test_world())};
    open_import(&m, folder, &a, &c, test_folder(), 1000);
    m.options.block = 1 << 20;
    const int64_t before = peak_bytes();
    ASSERT_OK(hf_import(m.hf, &m.options));
    const int64_t grown = peak_bytes() - before;
    print_message("%jd MB more\n", (intmax_t)(grown >> 20));
    assert_true(grown < (int64_t)40 << 20);
    close_import(&m);
}

/* The last rank's part cannot be read: no rank has imported, and nothing stays. */
TEST(a_file_that_ends_under_an_import_fails_on_all_ranks)
{
    struct arch a = wide;
    struct imported m;
    char file[PATH_MAX];
    const char *folder = path_in(test_folder(), "cut");
    a.vocab_size = 1000;
    ASSERT_OK(arch_family(&a, "llama"));
    make_hollow(folder, &a, file);
    const struct cut c = {.tp = 1, .pp = 1, .dp = comm_size(test_world())};
    open_import(&m, folder, &a, &c, test_folder(), 2000);
    comm_barrier(test_world());
    if (comm_rank(test_world()) == 0) assert_int_equal(truncate(file, 1000 * 128 * 4), 0);
    comm_barrier(test_world());
    ASSERT_REFUSED(hf_import(m.hf, &m.options), STATUS_IO, "the file ends too early");
    comm_barrier(test_world());
    assert_false(file_exists(step_folder(test_folder(), 2000)));
    close_import(&m);
}
