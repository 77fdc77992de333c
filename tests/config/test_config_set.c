/* Overrides and the resolved dump: what is printed is what runs. */
#include "harness/harness.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>

#include "config/config.h"
#include "config/config_impl.h" /* the table of keys, to compare every one */
#include "core/file.h"

static const char base[] = "model: {family: llama, layers: 2, hidden: 64, heads: 4}\n"
                           "data: {train: tokens.h5, sequence_length: 32}\n"
                           "train: {run_dir: run, steps: 100, batch_sequences: 8}\n";

/* The base with overrides, NULL-terminated. */
static status_t parse(struct config *c, const char *const *overrides)
{
    int n = 0;
    while (overrides[n]) n++;
    memset(c, 0xA5, sizeof *c); /* an output starts dirty */
    return config_parse(c, "run.yaml", base, strlen(base), overrides, n);
}

#define SET(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const char *override, const char *want)
{
    struct config c;
    const status_t st = parse(&c, SET(override));
    assert_null(c.places);
    if (st != STATUS_CONFIG || strcmp(status_message(), want) != 0)
        fail_msg("%s: want STATUS_CONFIG: %s\ngot %s: %s", override, want,
                 status_name(st), status_message());
}

TEST(an_override_replaces_and_the_last_one_counts)
{
    struct config c;
    ASSERT_OK(parse(&c, SET("train.steps=7", "optim.lr=0.5", "train.steps=9",
                            "data.train=[a, {path: b, weight: 2}]")));
    assert_int_equal(c.steps, 9);
    assert_true(c.optim.lr == 0.5);
    assert_int_equal(c.train.n, 2);
    assert_string_equal(c.train.items[0].path, "a");
    assert_true(c.train.items[1].weight == 2);
    config_release(&c);
}

TEST(an_override_may_be_a_section_or_empty_text)
{
    struct config c;
    ASSERT_OK(parse(&c, SET("log={interval: 3, tensorboard: false}", "data.tokenizer=x",
                            "data.tokenizer=")));
    assert_int_equal(c.log_interval, 3);
    assert_false(c.tensorboard);
    assert_string_equal(c.tokenizer, "");
    config_release(&c);
}

TEST(a_refused_override_is_named_as_it_was_given)
{
    assert_refused("optim.lr=abc",
                   "--set optim.lr=abc: optim.lr: \"abc\" is not a number (valid: a "
                   "number from 0 to 10)");
    assert_refused("model.hiden=3", "--set model.hiden=3: model.hiden: unknown key; did "
                                    "you mean model.hidden?");
    assert_refused("optim.lr=", "--set optim.lr=: optim.lr: has no value (valid: a "
                                "number from 0 to 10)");
    assert_refused("optim=1", "--set optim=1: optim: is a section, not a value (valid: "
                              "optim.KEY)");
    assert_refused("optim={lr: 1, lr: 2}",
                   "--set optim={lr: 1, lr: 2}: optim.lr: is given twice");
    assert_refused("train.run_dir=&a b",
                   "--set train.run_dir=&a b: anchors (&name) are not supported");
    assert_refused("train.micro_batch=9",
                   "--set train.micro_batch=9: train.micro_batch: 9 is more than the "
                   "global batch of 8 sequences (valid: 1 to 8, or auto)");
    assert_refused("schedule.kind=step",
                   "--set schedule.kind=step: schedule.kind: \"step\" is not known "
                   "(valid: constant, linear, cosine, wsd)");
    assert_refused("data.train=[]", "--set data.train=[]: data.train: is an empty list "
                                    "(valid: at least one token file)");
}

TEST(an_override_that_is_not_yaml_is_refused)
{
    struct config c;
    ASSERT_REFUSED(parse(&c, SET("data.train=[a")), STATUS_CONFIG, "not valid YAML");
    ASSERT_REFUSED(parse(&c, SET("data.train=\"")), STATUS_CONFIG, "--set data.train=\"");
    ASSERT_REFUSED(parse(&c, SET("train.steps=1\n---\n2")), STATUS_CONFIG, "second doc");
}

TEST(an_override_without_a_key_or_value_is_a_usage_error)
{
    struct config c;
    ASSERT_REFUSED(parse(&c, SET("optim.lr")), STATUS_USAGE, "KEY=VALUE");
    ASSERT_REFUSED(parse(&c, SET("=3")), STATUS_USAGE, "KEY=VALUE");
    ASSERT_REFUSED(parse(&c, SET("")), STATUS_USAGE, "KEY=VALUE");
}

TEST(a_long_override_is_cut_in_messages)
{
    struct config c;
    char *text = test_alloc(5001);
    memset(text, 'x', 5000);
    memcpy(text, "a.b=", 4);
    ASSERT_REFUSED(parse(&c, SET(text)), STATUS_CONFIG, "...: a.b: unknown key");
    assert_true(strlen(status_message()) < 200);
    memset(text, 'x', 5000);
    text[4000] = '=';
    ASSERT_REFUSED(parse(&c, SET(text)), STATUS_CONFIG, "unknown key");
    assert_true(strlen(status_message()) < 300);
}

/* The dump of c is read back to the same values and has the same dump; releases c. */
static void assert_round_trip(struct config *c)
{
    struct config back;
    char *text = NULL, *again = NULL;
    ASSERT_OK(config_dump(c, &text));
    ASSERT_OK(config_parse(&back, "dump", text, strlen(text), NULL, 0));
    for (int i = 0; i < config_n_keys; i++)
        if (!config_same_value(c, &back, &config_keys[i]))
            fail_msg("%s changed on the way through\n%s", config_keys[i].name, text);
    ASSERT_OK(config_dump(&back, &again));
    assert_string_equal(text, again);
    free(text);
    free(again);
    config_release(c);
    config_release(&back);
}

TEST(the_dump_reads_back_to_the_same_values)
{
    struct config c;
    ASSERT_OK(parse(&c, SET("log.interval=10")));
    assert_round_trip(&c);
    ASSERT_OK(parse(
        &c, SET("model.family=gpt2", "model.norm_eps=0.30000000000000004",
                "model.tied_embeddings=false", "model.init_std=0.3333333333333333",
                "model.vocab_size=50257", "model.recompute=full",
                "data.tokenizer='it''s \"quoted\" \\ #: ü 日本.json'",
                "data.validation=[v, {path: 'a: {b}', weight: 1e-9}]", "data.verify=seal",
                "data.document_mask=false", "train.batch_sequences=0",
                "train.batch_tokens=64", "train.seed=1000000000000000",
                "train.run_dir='null'", "train.device=cuda", "train.threads=3",
                "train.precision=bf16", "train.graphs=false", "optim.rounding=stochastic",
                "parallel.comm=nccl", "parallel.share_gpu=true",
                "parallel.timeout_seconds=2.5", "optim.lr=1e-08", "optim.weight_decay=0",
                "optim.clip=1e6", "optim.decay_norms=true", "schedule.kind=wsd",
                "schedule.decay=sqrt", "schedule.warmup_tokens=65",
                "schedule.min_ratio=1", "parallel.dp=2", "parallel.zero=0",
                "checkpoint.interval=0", "checkpoint.resume=never")));
    assert_int_equal(c.schedule.warmup_steps, 2);
    assert_round_trip(&c);
}

TEST(the_dump_holds_every_key_in_table_order)
{
    struct config c;
    char *text = NULL;
    ASSERT_OK(parse(&c, SET("log.interval=10")));
    ASSERT_OK(config_dump(&c, &text));
    const char *at = text;
    for (int i = 0; i < config_n_keys; i++) {
        char line[CONFIG_NAME_BYTES + 8];
        snprintf(line, sizeof line, "\n  %s:", strchr(config_keys[i].name, '.') + 1);
        at = strstr(at, line);
        if (!at) fail_msg("%s is missing or out of order", config_keys[i].name);
        at++;
    }
    assert_non_null(strstr(text, "\n  vocab_size: auto\n"));
    assert_non_null(strstr(text, "\n  eps: 1.0e-08\n"));
    free(text);
    config_release(&c);
}

TEST(the_reference_documents_every_key)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    config_reference(out);
    fclose(out);
    for (int i = 0; i < config_n_keys; i++) {
        char row[2 * CONFIG_VALID_BYTES], valid[CONFIG_VALID_BYTES];
        config_valid(&config_keys[i], valid);
        snprintf(row, sizeof row, "| `%s` | ", config_keys[i].name);
        if (!strstr(text, row) || !strstr(text, config_keys[i].doc))
            fail_msg("%s is not documented", config_keys[i].name);
        assert_non_null(strstr(text, valid));
        assert_true(strlen(config_keys[i].name) < CONFIG_NAME_BYTES);
        assert_true(strlen(valid) < CONFIG_VALID_BYTES - 1);
        assert_null(strchr(config_keys[i].doc, '|'));
    }
    free(text);
}

TEST(every_file_in_configs_parses)
{
    const char *source = getenv("YOKE_SOURCE");
    if (!source) skip();
    char folder[PATH_MAX], path[PATH_MAX];
    file_join(folder, sizeof folder, source, "configs");
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        struct config c;
        file_join(path, sizeof path, folder, e->d_name);
        ASSERT_OK(config_load(&c, path, NULL, 0));
        assert_round_trip(&c);
        n++;
    }
    closedir(dir);
    assert_true(n >= 4);
}

TEST(missing_files_are_named_with_key_and_place)
{
    struct config c;
    char train[PATH_MAX], override[PATH_MAX + 16];
    file_join(train, sizeof train, test_folder(), "a.h5");
    ASSERT_OK(file_replace(train, "x", 1));
    snprintf(override, sizeof override, "data.train=%s", train);

    ASSERT_OK(parse(&c, SET("log.interval=1")));
    ASSERT_REFUSED(config_check_files(&c), STATUS_CONFIG,
                   "run.yaml:2: data.train: tokens.h5: does not exist");
    config_release(&c);

    ASSERT_OK(parse(&c, SET(override)));
    ASSERT_OK(config_check_files(&c));
    config_release(&c);

    ASSERT_OK(parse(&c, SET(override, "data.validation=/")));
    ASSERT_REFUSED(config_check_files(&c), STATUS_CONFIG,
                   "--set data.validation=/: data.validation: /: is a folder");
    config_release(&c);

    ASSERT_OK(parse(&c, SET(override, "data.tokenizer=no.json")));
    ASSERT_REFUSED(config_check_files(&c), STATUS_CONFIG, "data.tokenizer: \"no.json\"");
    config_release(&c);

    ASSERT_OK(parse(&c, SET(override, "checkpoint.resume=atuo")));
    ASSERT_REFUSED(config_check_files(&c), STATUS_CONFIG, "auto, never");
    config_release(&c);

    ASSERT_OK(parse(&c, SET(override, "checkpoint.resume=/")));
    ASSERT_OK(config_check_files(&c));
    config_release(&c);
}

TEST(release_accepts_what_was_never_loaded_and_itself_twice)
{
    struct config c = {0};
    config_release(&c);
    ASSERT_OK(parse(&c, SET("log.interval=1")));
    config_release(&c);
    config_release(&c);
    assert_null(c.family);
}
