/* Token files in the published forms give the sequences that the same tokens give in the form of
 * yoke tokenize: whatever says where documents end, in one file or in many. */
#include <unistd.h>

#include "corpus.h"
#include "core/file.h"
#include "data/sampler.h"
#include "published.h"

enum { EOS = 0, V = 300, DOCUMENTS = 60 };

/* Documents of 2 to 41 tokens that begin with V - 1 and end with EOS, and neither inside. */
static struct published make_tokens(int width)
{
    int64_t *ends = test_alloc(DOCUMENTS * sizeof *ends), n = 0;
    int32_t *ids = test_alloc(DOCUMENTS * 41 * sizeof *ids);
    for (int d = 0; d < DOCUMENTS; d++) {
        int64_t end = n + 2 + (int64_t)(rng_u64(5, (uint64_t)d) % 40);
        if (n <= 1023 && end > 1025) end = 1025; /* where a block of the sampler ends */
        for (ids[n++] = V - 1; n < end - 1; n++)
            ids[n] = 1 + (int32_t)(rng_u64(6, (uint64_t)n) % (V - 2));
        ids[n++] = EOS;
        ends[d] = n;
    }
    return (struct published){ids, n, ends, DOCUMENTS, width};
}

static struct data_source own_form(const struct published *p)
{
    char *path = (char *)(uintptr_t)corpus_path("own.h5");
    struct token_writer *w = NULL;
    ASSERT_OK(token_writer_create(&w, path, V, EOS, ""));
    for (int d = 0; d < p->n_documents; d++) {
        const int64_t begin = d ? p->ends[d - 1] : 0;
        ASSERT_OK(token_writer_document(w, p->ids + begin, p->ends[d] - begin, 1));
    }
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
    return (struct data_source){.path = path, .weight = 1};
}

static struct data_source source_of(const char *path, struct token_file_options file)
{
    return (struct data_source){(char *)(uintptr_t)path, 1, file};
}

static struct sampler_options options_of(const struct data_source *sources, int n,
                                         int64_t T, bool mask)
{
    return (struct sampler_options){.sources = sources,
                                    .n_sources = n,
                                    .T = T,
                                    .seed = 1,
                                    .shuffle = true,
                                    .document_mask = mask,
                                    .check = TOKEN_FILE_CHECK_ALL};
}

/* All rows of the first `n` samples, [4][n][T]; caller frees. */
static int32_t *sequences(const struct sampler_options *o, int64_t n)
{
    struct sampler *s = NULL;
    ASSERT_OK(sampler_create(&s, o));
    const int64_t N = n * o->T;
    int32_t *rows = malloc((size_t)(4 * N) * sizeof *rows);
    memset(rows, 0x5a, (size_t)(4 * N) * sizeof *rows);
    struct batch b = {n, o->T, rows, rows + N, rows + 2 * N, rows + 3 * N, 0};
    for (int64_t i = 0; i < n; i++) ASSERT_OK(sampler_fill(s, i, &b, i));
    sampler_destroy(&s);
    return rows;
}

/* The source gives what the own form gives; at T = 1100 a window has two of the blocks in which
 * the sampler looks for documents. */
static void check_same(const struct data_source *own, const struct data_source *other,
                       bool mask)
{
    static const int64_t lengths[] = {1, 7, 64, 1100};
    for (int i = 0; i < 4; i++) {
        const int64_t T = lengths[i], n = T == 1 ? 1300 : 200;
        const struct sampler_options a = options_of(own, 1, T, mask);
        const struct sampler_options b = options_of(other, 1, T, mask);
        int32_t *want = sequences(&a, n), *got = sequences(&b, n);
        if (memcmp(got, want, (size_t)(4 * n * T) * sizeof *want) != 0)
            fail_msg("%s differs at T = %d", other->path, (int)T);
        free(want);
        free(got);
    }
}

static const struct token_file_options with_vocab = {.vocab_size = V};

TEST(every_form_gives_the_same_sequences)
{
    for (int width = 2; width <= 4; width += 2) {
        const struct published p = make_tokens(width);
        const struct data_source own = own_form(&p);
        struct token_file_options vocab = with_vocab, eos = with_vocab;
        eos.has_eos = true;
        eos.eos_id = EOS;
        struct token_file_options bos = with_vocab, both = eos;
        bos.has_bos = both.has_bos = true;
        bos.bos_id = both.bos_id = V - 1;
        struct token_file_options raw = eos, raw_alone = vocab;
        raw.token_bytes = raw_alone.token_bytes = width;

        published_npy(corpus_path("a.npy"), &p);
        published_llmc(corpus_path("b.bin"), &p);
        published_raw(corpus_path("c.npy"), &p); /* as OLMo calls it */
        published_raw(corpus_path("d.u16"), &p);
        published_raw(corpus_path("e.npy"), &p);
        published_csv(corpus_path("e"), &p);
        published_megatron(corpus_path("f"), &p, 1000);
        published_megatron(corpus_path("g"), &p, 5);
        published_datatrove(corpus_path("h.ds"), &p, true);
        published_datatrove(corpus_path("i.ds"), &p, false);
        const struct data_source others[] = {
            source_of(corpus_path("a.npy"), eos),
            source_of(corpus_path("a.npy"), bos),
            source_of(corpus_path("a.npy"), both),
            source_of(corpus_path("b.bin"), bos),
            source_of(corpus_path("b.bin"), eos),
            source_of(corpus_path("c.npy"), raw),
            source_of(corpus_path("d.u16"), raw),
            source_of(corpus_path("e.npy"), raw_alone),
            source_of(corpus_path("f.bin"), vocab),
            source_of(corpus_path("f.idx"), vocab),
            source_of(corpus_path("f"), vocab),
            source_of(corpus_path("g.bin"), vocab),
            source_of(corpus_path("h.ds"), vocab),
            source_of(corpus_path("i.ds"), raw),
        };
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            check_same(&own, &others[i], true);
            check_same(&own, &others[i], false);
        }
    }
}

/* ---- many files ------------------------------------------------------------------------- */

static const char *folder_of(const char *name)
{
    const char *path = corpus_path(name);
    ASSERT_OK(file_make_dirs(path));
    return path;
}

TEST(shards_are_one_row)
{
    const struct published p = make_tokens(2);
    const struct data_source own = own_form(&p);
    /* cuts inside documents, at their ends, and a shard of a single token */
    const int64_t cuts[] = {0, 1, 100, p.ends[20], p.ends[21], p.ends[40] - 1, p.n};
    const char *llmc = folder_of("llmc"), *megatron = folder_of("megatron");
    const char *ds = folder_of("ds");
    char name[4096], list[3 * 4096];
    for (int k = 0; k < 6; k++) {
        const struct published part = published_part(&p, cuts[k], cuts[k + 1]);
        snprintf(name, sizeof name, "%s/part-%06d.bin", llmc, k);
        published_llmc(name, &part);
    }
    const int64_t whole[] = {0, p.ends[3], p.ends[30], p.n}; /* whole documents */
    for (int k = 0; k < 3; k++) {
        const struct published part = published_part(&p, whole[k], whole[k + 1]);
        snprintf(name, sizeof name, "%s/%d_text_document", megatron, k);
        published_megatron(name, &part, 9);
        snprintf(name, sizeof name, "%s/%d.ds", ds, k);
        published_datatrove(name, &part, true);
    }
    struct token_file_options bos = with_vocab, eos = with_vocab;
    bos.has_bos = eos.has_eos = true;
    bos.bos_id = V - 1;
    check_same(&own, &(struct data_source){(char *)(uintptr_t)llmc, 1, bos}, true);
    check_same(&own, &(struct data_source){(char *)(uintptr_t)llmc, 1, eos}, true);
    check_same(&own, &(struct data_source){(char *)(uintptr_t)megatron, 1, with_vocab},
               true);
    check_same(&own, &(struct data_source){(char *)(uintptr_t)ds, 1, with_vocab}, true);
    snprintf(name, sizeof name, "%s/part-*", llmc);
    check_same(&own, &(struct data_source){name, 1, bos}, true);
    snprintf(name, sizeof name, "%s/*_document.*", megatron); /* .bin and .idx are one */
    check_same(&own, &(struct data_source){name, 1, with_vocab}, true);
    snprintf(list, sizeof list, "%s/0.ds\n%s/1*\n%s/2.ds", ds, ds, ds);
    check_same(&own, &(struct data_source){list, 1, with_vocab}, true);

    struct token_file *f = NULL;
    ASSERT_OK(token_file_open_with(&f, ds, &with_vocab));
    const struct token_file_info *i = token_file_info(f);
    assert_int_equal(i->n_shards, 3);
    assert_int_equal(i->n_documents, DOCUMENTS);
    assert_int_equal(i->n_tokens, p.n);
    assert_string_equal(i->tokenizer_name, "my/tokenizer");
    for (int d = 0; d < DOCUMENTS; d++) {
        int64_t first = -1, end = -1;
        token_file_document(f, d, &first, &end);
        assert_int_equal(first, d ? p.ends[d - 1] : 0);
        assert_int_equal(end, p.ends[d]);
        assert_int_equal(token_file_document_at(f, first), d);
        assert_int_equal(token_file_document_at(f, end - 1), d);
    }
    token_file_close(&f);
}

TEST(shards_must_be_alike)
{
    const struct published p = make_tokens(2);
    struct token_file *f = NULL;
    char path[2 * 4096];
    published_npy(corpus_path("a.npy"), &p);
    published_llmc(corpus_path("b.bin"), &p);
    snprintf(path, sizeof path, "%s\n%s", corpus_path("a.npy"), corpus_path("b.bin"));
    ASSERT_REFUSED(token_file_open_with(&f, path, &with_vocab), STATUS_DATA, "be alike");
    ASSERT_REFUSED(token_file_open_with(&f, test_folder(), &with_vocab), STATUS_DATA,
                   "files (valid: token files of one kind");
    published_raw(corpus_path("c.npy"), &p);
    published_csv(corpus_path("c"), &p);
    published_raw(corpus_path("d.npy"), &p);
    snprintf(path, sizeof path, "%s\n%s", corpus_path("c.npy"), corpus_path("d.npy"));
    struct token_file_options raw = with_vocab;
    raw.token_bytes = 2;
    ASSERT_REFUSED(token_file_open_with(&f, path, &raw), STATUS_DATA, "different ways");
    assert_null(f);
    snprintf(path, sizeof path, "%s/none-*.npy", test_folder());
    ASSERT_REFUSED(token_file_open_with(&f, path, &raw), STATUS_IO, "matches no file");
}

/* ---- mixtures --------------------------------------------------------------------------- */

TEST(a_mixture_may_have_any_forms)
{
    const struct published p = make_tokens(2), wide = make_tokens(4);
    published_npy(corpus_path("a.npy"), &p);
    published_megatron(corpus_path("m"), &wide, 100);
    published_datatrove(corpus_path("d.ds"), &p, true);
    const struct data_source own = own_form(&p);
    struct token_file_options eos = {.has_eos = true, .eos_id = EOS};
    const struct data_source sources[] = {
        own, source_of(corpus_path("a.npy"), eos),
        source_of(corpus_path("m"), with_vocab),
        source_of(corpus_path("d.ds"), (struct token_file_options){0})};
    const struct data_source same[] = {own, own, own, own};
    /* a.npy and d.ds do not say their vocabulary: the first source's counts */
    const struct sampler_options a = options_of(sources, 4, 33, true);
    const struct sampler_options b = options_of(same, 4, 33, true);
    int32_t *got = sequences(&a, 400), *want = sequences(&b, 400);
    assert_memory_equal(got, want, 4 * 400 * 33 * sizeof *want);
    free(got);
    free(want);

    struct sampler *s = NULL;
    struct data_source other[] = {own, sources[2]};
    other[1].file.vocab_size = V + 1;
    struct sampler_options o = options_of(other, 2, 33, true);
    ASSERT_REFUSED(sampler_create(&s, &o), STATUS_DATA, "need the same tokenizer");
    o = options_of(&sources[1], 1, 33, true);
    ASSERT_REFUSED(sampler_create(&s, &o), STATUS_DATA, "how large its vocabulary");
    o.vocab_size = V - 2; /* the model's: ids are held against it */
    ASSERT_REFUSED(sampler_create(&s, &o), STATUS_DATA, "ids are below the vocabulary");
    o.vocab_size = V;
    ASSERT_OK(sampler_create(&s, &o));
    sampler_destroy(&s);
    other[0] = source_of(corpus_path("a.npy"), with_vocab);
    o = options_of(other, 1, 33, true);
    ASSERT_REFUSED(sampler_create(&s, &o), STATUS_DATA,
                   "where documents end (valid: eos");
    o.document_mask = false;
    ASSERT_OK(sampler_create(&s, &o));
    sampler_destroy(&s);
}

/* ---- what a file says ------------------------------------------------------------------- */

TEST(the_magic_of_llmc_stands_for_a_tokenizer)
{
    struct token_file *f = NULL;
    const struct published gpt2 = make_tokens(2), llama = make_tokens(4);
    published_llmc(corpus_path("a.bin"), &gpt2);
    ASSERT_OK(token_file_open(&f, corpus_path("a.bin"), TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->format, TOKEN_FILE_LLMC);
    assert_int_equal(token_file_info(f)->vocab_size, 50257);
    assert_int_equal(token_file_info(f)->bos_id, 50256);
    assert_int_equal(token_file_info(f)->largest_id, V - 1);
    token_file_close(&f);
    published_llmc(corpus_path("b.bin"), &llama);
    ASSERT_OK(token_file_open(&f, corpus_path("b.bin"), TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->vocab_size, 128256);
    assert_int_equal(token_file_info(f)->bos_id, 128000);
    assert_int_equal(token_file_info(f)->token_bytes, 4);
    token_file_close(&f);
}

static uint64_t name_of(const char *path, const struct token_file_options *o)
{
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open_with(&f, path, o));
    const uint64_t name = token_file_info(f)->xxh3;
    token_file_close(&f);
    return name;
}

TEST(another_file_has_another_name)
{
    const struct published p = make_tokens(2);
    int32_t *ids = test_alloc((size_t)p.n * sizeof *ids);
    memcpy(ids, p.ids, (size_t)p.n * sizeof *ids);
    struct published changed = p;
    changed.ids = ids;
    struct token_file_options seal = with_vocab, all = with_vocab, eos = with_vocab;
    all.check = TOKEN_FILE_CHECK_ALL;
    eos.has_eos = true;
    published_npy(corpus_path("a.npy"), &p);
    published_npy(corpus_path("moved.npy"), &p);
    const uint64_t before = name_of(corpus_path("a.npy"), &seal);
    assert_true(name_of(corpus_path("a.npy"), &all) == before);
    assert_true(name_of(corpus_path("moved.npy"), &seal) == before);
    assert_true(name_of(corpus_path("a.npy"), &eos) != before);
    ids[p.n / 2] ^= 1;
    published_npy(corpus_path("a.npy"), &changed);
    assert_true(name_of(corpus_path("a.npy"), &seal) != before);

    published_megatron(corpus_path("m"), &p, 100);
    const uint64_t indexed = name_of(corpus_path("m"), &seal);
    int64_t *ends = test_alloc(DOCUMENTS * sizeof *ends);
    memcpy(ends, p.ends, DOCUMENTS * sizeof *ends);
    ends[3]--; /* another index over the same tokens */
    changed = p;
    changed.ends = ends;
    published_megatron(corpus_path("m"), &changed, 100);
    assert_true(name_of(corpus_path("m"), &seal) != indexed);
}
