/* Whole runs on token files in the published forms.   @needs-binary   @timeout 120 */
#include "run.h"

#include "data/published.h"

/* The tokens of FOLDER/`name`.h5 as int32, with the ends of its documents. */
static struct published read_tokens(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct token_file *f = NULL;
    snprintf(path, sizeof path, "%s/%s.h5", folder, name);
    ASSERT_OK(token_file_open(&f, path, TOKEN_FILE_CHECK_ALL));
    const struct token_file_info *i = token_file_info(f);
    int32_t *ids = test_alloc((size_t)i->n_tokens * sizeof *ids);
    int64_t *ends = test_alloc((size_t)i->n_documents * sizeof *ends), first;
    ASSERT_OK(token_file_read(f, 0, i->n_tokens, ids));
    for (int64_t d = 0; d < i->n_documents; d++)
        token_file_document(f, d, &first, &ends[d]);
    const struct published p = {ids, i->n_tokens, ends, (int)i->n_documents, 2};
    token_file_close(&f);
    return p;
}

static void write_forms(const char *folder, const struct published *p)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/raw.npy", folder);
    published_raw(path, p);
    snprintf(path, sizeof path, "%s/numpy.npy", folder);
    published_npy(path, p);
    snprintf(path, sizeof path, "%s/documents", folder);
    published_megatron(path, p, 20);
    snprintf(path, sizeof path, "%s/folder.ds", folder);
    published_datatrove(path, p, true);
    for (int k = 0; k < 3; k++) {
        const struct published part = published_part(p, p->n * k / 3, p->n * (k + 1) / 3);
        snprintf(path, sizeof path, "%s/shard_%06d.bin", folder, k);
        published_llmc(path, &part);
    }
}

/* What `command` prints; it must succeed. */
static char *output(const char *command)
{
    char *text = test_alloc(4096);
    FILE *in = popen(command, "r");
    const size_t n = fread(text, 1, 4095, in);
    if (pclose(in) != 0) fail_msg("%s failed: %.*s", command, (int)n, text);
    return text;
}

TEST(a_run_on_published_files_is_the_run_on_their_tokens)
{
    char options[16384], command[2 * PATH_MAX], path[PATH_MAX];
    const char *d = test_folder();
    run_prepare(d);
    const struct published p = read_tokens(d, "train");
    const struct published validation = read_tokens(d, "validation");
    write_forms(d, &p);
    snprintf(path, sizeof path, "%s/validation.npy", d);
    published_npy(path, &validation);

    snprintf(options, sizeof options,
             "--set train.steps=6 --set train.eval_interval=2 "
             "--set 'data.train=[%s/train.h5, %s/train.h5, %s/train.h5, %s/train.h5, "
             "%s/train.h5]'",
             d, d, d, d, d);
    run_must(d, "own", 2, options);
    snprintf(
        options, sizeof options,
        "--set train.steps=6 --set train.eval_interval=2 --set model.vocab_size=97 "
        "--set 'data.validation={path: %s/validation.npy, eos: 0}' "
        "--set 'data.train=[{path: %s/raw.npy, dtype: uint16, eos: 0, vocab_size: 97}, "
        "{path: %s/numpy.npy, eos: 0}, %s/documents, %s/folder.ds, "
        "{path: %s/shard_*.bin, vocab_size: 97, eos: 0}]'",
        d, d, d, d, d, d);
    run_must(d, "published", 2, options);
    run_check_equal(d, "own", "published");

    snprintf(command, sizeof command, "\"$YOKE\" eval %s/own 2>%s/err", d, d);
    const char *own = output(command);
    snprintf(command, sizeof command, "\"$YOKE\" eval %s/published 2>%s/err", d, d);
    assert_string_equal(output(command), own);
    assert_non_null(strstr(own, "validation loss"));
    snprintf(command, sizeof command,
             "\"$YOKE\" eval %s/own --set 'data.validation={path: %s/validation.npy, "
             "eos: 0}' 2>%s/err",
             d, d, d);
    assert_string_equal(output(command), own);

    snprintf(command, sizeof command,
             "\"$YOKE\" inspect '%s/shard_*.bin' --vocab_size 97 --eos 0 --sample 3 "
             "--verify",
             d);
    const char *facts = output(command);
    assert_non_null(strstr(facts, "llmc, 3 shards"));
    assert_non_null(strstr(facts, "every id is below the vocabulary"));

    /* another file under the same name is noticed when the run goes on */
    ((int32_t *)(uintptr_t)p.ids)[7] ^= 1;
    snprintf(path, sizeof path, "%s/raw.npy", d);
    published_raw(path, &p);
    strcat(options, " --set train.steps=7 ");
    run_must(d, "published", 2, options);
    snprintf(command, sizeof command,
             "grep -c 'raw.npy: its tokens or documents are not those' %s/published.log",
             d);
    assert_string_equal(output(command), "1\n");
}

TEST(hosts_with_different_files_are_refused)
{
    char path[PATH_MAX], command[8 * PATH_MAX], options[2 * PATH_MAX];
    const char *d = test_folder();
    run_prepare(d);
    const struct published all = read_tokens(d, "train");
    const struct published part = published_part(&all, 0, all.n - 1);
    for (int k = 0; k < 2; k++) { /* a folder for each rank, as if on a host of its own */
        snprintf(path, sizeof path, "%s/host%d/data", d, k);
        ASSERT_OK(file_make_dirs(path));
        snprintf(path, sizeof path, "%s/host%d/data/t.npy", d, k);
        published_npy(path, k == 0 ? &all : &part);
    }
    snprintf(options, sizeof options,
             "\"$YOKE\" train %s/config.yaml --set model.vocab_size=97 --set "
             "'data.train={path: data, eos: 0}'",
             d);
    snprintf(command, sizeof command,
             "mpirun -n 1 -wdir %s/host0 %s : -n 1 -wdir %s/host1 %s >%s/log 2>&1; "
             "test $? = 4 && grep -c 'rank 1 of 2: data/t.npy: has other tokens' %s/log",
             d, options, d, options, d, d);
    assert_string_equal(output(command), "1\n");
}
