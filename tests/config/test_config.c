/* What a configuration says is what the run gets, or it is refused with place and remedy. */
#include "harness/harness.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "config/config.h"
#include "config/config_impl.h" /* the table of keys, to try every one */
#include "core/file.h"

static const char *const base[] = {
    "model:",                /* 1 */
    "  family: llama",       /* 2 */
    "  layers: 2",           /* 3 */
    "  hidden: 64",          /* 4 */
    "  heads: 4",            /* 5 */
    "data:",                 /* 6 */
    "  train: tokens.h5",    /* 7 */
    "  sequence_length: 32", /* 8 */
    "train:",                /* 9 */
    "  run_dir: run",        /* 10 */
    "  steps: 100",          /* 11 */
    "  batch_sequences: 8",  /* 12 */
};
enum { BASE_LINES = sizeof base / sizeof *base, END = BASE_LINES + 1 };

/* The base with line `line` (from 1; END: behind the last) replaced. */
static const char *edited(int line, const char *text)
{
    static char out[8192];
    size_t n = 0;
    for (int i = 1; i <= END; i++) {
        const char *use = i == line ? text : i == END ? "" : base[i - 1];
        n += (size_t)snprintf(out + n, sizeof out - n, "%s\n", use);
    }
    return out;
}

static status_t parse(struct config *c, const char *text)
{
    memset(c, 0xA5, sizeof *c); /* an output starts dirty */
    return config_parse(c, "run.yaml", text, strlen(text), NULL, 0);
}

static status_t parse_with(struct config *c, const char *text, const char *override)
{
    memset(c, 0xA5, sizeof *c);
    return config_parse(c, "run.yaml", text, strlen(text), &override, 1);
}

static void assert_refused(status_t st, const char *start, const char *words)
{
    const char *message = status_message();
    if (st != STATUS_CONFIG)
        fail_msg("got %s, want a refusal of %s", status_name(st), words);
    if (strncmp(message, start, strlen(start)) != 0 || !strstr(message, words))
        fail_msg("want \"%s\" ... \"%s\", got: %s", start, words, message);
    if (strpbrk(message, "\n\r\t")) fail_msg("more than a line: %s", message);
}

struct bad {
    int line;
    const char *text;
    const char *start; /* of the message, with file and line */
    const char *words; /* what else it says */
};

static const struct bad bad[] = {
    /* keys */
    {4, "  hiden: 64", "run.yaml:4: model.hiden: unknown key",
     "did you mean model.hidden?"},
    {END, "optimm:\n  lr: 1", "run.yaml:13: optimm: unknown key", "did you mean optim?"},
    {END, "lr: 1.0", "run.yaml:13: lr: unknown key", "did you mean optim.lr?"},
    {END, "  lr: 1.0", "run.yaml:13: train.lr: unknown key", "did you mean optim.lr?"},
    {END, "  quantum_flux: 1", "run.yaml:13: train.quantum_flux: unknown key", ""},
    {END, "optim:\n  lr: {x: 1}", "run.yaml:14: optim.lr: a mapping",
     "a number from 0 to"},
    {END, "optim:\n  lr: [1]", "run.yaml:14: optim.lr: a list", "a number from 0 to 10"},
    {END, "optim: 3", "run.yaml:13: optim: is a section", "optim.KEY"},
    {END, "? [a, b]\n: 1", "run.yaml:13: a key is a word", ""},
    {END, "  steps: 5", "run.yaml:13: train.steps: is given twice", "line 11"},
    {END, "model:\n  ffn: 64", "run.yaml:13: model: is given twice", "line 1"},
    {END, "train.steps: 5", "run.yaml:13: train.steps: is given twice", "line 11"},
    /* YAML */
    {3, "  layers: &n 2", "run.yaml:3: anchors", "not supported"},
    {3, "  layers: *n", "run.yaml:3: aliases", "not supported"},
    {3, "  layers: !!int 2", "run.yaml:3: tags", "not supported"},
    {3, "\tlayers: 2", "run.yaml:3: not valid YAML", "tab character"},
    {7, "  train: [a", "run.yaml:8: not valid YAML", "flow sequence"},
    {3, "  layers: \"2", "run.yaml:", "not valid YAML"},
    {3, "  layers: 2 \xFF", "run.yaml:3: not valid YAML", "UTF-8"},
    {3, "  layers: 2 \x01", "run.yaml:3: not valid YAML", "control characters"},
    {END, "---\nlog: {interval: 1}", "run.yaml:13: a second document", ""},
    /* types and bounds */
    {3, "  layers: two", "run.yaml:3: model.layers: \"two\" is not a whole number",
     "1 to 1"},
    {3, "  layers: 2.5", "run.yaml:3: model.layers: \"2.5\" is not a whole number", ""},
    {3, "  layers: \"2\"", "run.yaml:3: model.layers: \"2\" in quotes", "whole number"},
    {3, "  layers: 010", "run.yaml:3: model.layers: \"010\" is not a whole number", ""},
    {3, "  layers:", "run.yaml:3: model.layers: has no value", "valid: a whole number"},
    {3, "  layers: 0", "run.yaml:3: model.layers: \"0\" is out of bounds",
     "from 1 to 10000"},
    {3, "  layers: -2", "run.yaml:3: model.layers: \"-2\" is out of bounds", ""},
    {3, "  layers: 99999999999999999999",
     "run.yaml:3: model.layers:", "is out of bounds"},
    {3, "  layers: -9223372036854775808",
     "run.yaml:3: model.layers:", "is out of bounds"},
    {3, "  layers: 9223372036854775808", "run.yaml:3: model.layers:", "is out of bounds"},
    {3, "  layers: 9223372036854775809", "run.yaml:3: model.layers:", "is out of bounds"},
    {3, "  layers: 99999999999999999999x", "run.yaml:3: model.layers:", "not a whole"},
    {3, "  layers: auto", "run.yaml:3: model.layers: \"auto\" is not a whole number", ""},
    {END, "  micro_batch: lots", "run.yaml:13: train.micro_batch: \"lots\"", ", or auto"},
    {END, "optim:\n  lr: abc", "run.yaml:14: optim.lr: \"abc\" is not a number",
     "valid: a number from 0 to 10)"},
    {END, "optim:\n  lr: 1e-", "run.yaml:14: optim.lr: \"1e-\" is not a number", ""},
    {END, "optim:\n  lr:\n    x", "run.yaml:15: optim.lr: \"x\" is not a number", ""},
    {END, "optim:\n  lr:\n\n  eps: 1", "run.yaml:14: optim.lr: has no value", ""},
    {END, "optim:\n  lr: 11", "run.yaml:14: optim.lr: \"11\" is out of bounds", ""},
    {END, "optim:\n  lr: nan", "run.yaml:14: optim.lr: \"nan\" is not a number", ""},
    {END, "optim:\n  lr: .inf", "run.yaml:14: optim.lr: \".inf\" is not a number", ""},
    {END, "optim:\n  lr: 1e999", "run.yaml:14: optim.lr: \"1e999\" is out of bounds", ""},
    {END, "optim:\n  lr: 0x1p3", "run.yaml:14: optim.lr: \"0x1p3\" is not a number", ""},
    {END, "optim:\n  beta2: 1.0", "run.yaml:14: optim.beta2: \"1.0\" is out of",
     "0.999999"},
    {END, "optim:\n  eps: 0", "run.yaml:14: optim.eps: \"0\" is out of bounds", ""},
    {END, "optim:\n  decay_norms: yes", "run.yaml:14: optim.decay_norms: \"yes\"",
     "true or false"},
    {END, "schedule:\n  kind: cosinus", "run.yaml:14: schedule.kind: \"cosinus\"",
     "valid: constant, linear, cosine, wsd"},
    {END, "schedule:\n  min_ratio: 1.5", "run.yaml:14: schedule.min_ratio: \"1.5\"",
     "from 0 to 1)"},
    {END, "parallel:\n  zero: 3", "run.yaml:14: parallel.zero: \"3\" is out",
     "from 0 to 2)"},
    {2, "  family: bert", "run.yaml:2: model.family: \"bert\" is not known",
     "gpt2, llama"},
    {10, "  run_dir:", "run.yaml:10: train.run_dir: has no value", ""},
    {10, "  run_dir: \"\"", "run.yaml:10: train.run_dir: \"\" in quotes is no text", ""},
    {10, "  run_dir: ~", "run.yaml:10: train.run_dir: \"~\" is no text", ""},
    {10, "  run_dir: \"a\\nb\"", "run.yaml:10: train.run_dir: \"a?b\"", "control char"},
    {10, "  run_dir: \"a\\0b\"", "run.yaml:10: train.run_dir: \"a\"", "control char"},
    {10, "  run_dir: \"a\\Lb\"", "run.yaml:10: train.run_dir:", "control char"},
    /* sources */
    {7, "  train: []", "run.yaml:7: data.train: is an empty list", "at least one"},
    {7, "  train:", "run.yaml:7: data.train: has no value", "a list of paths"},
    {7, "  train:\n  - a\n  - [b]", "run.yaml:9: data.train: a list in a list", ""},
    {7, "  train:\n  - {weight: 1}", "run.yaml:8: data.train: a source has no path", ""},
    {7, "  train:\n  - path: a\n    wait: 1",
     "run.yaml:9: data.train: a source has no key \"wait\"", "valid: path, weight"},
    {7, "  train: {path: a, path: b}", "run.yaml:7: data.train: path is given twice", ""},
    {7, "  train: {path: a, weight: 0}", "run.yaml:7: data.train: weight \"0\"", "1e-09"},
    {7, "  train: {path: a, weight: x}", "run.yaml:7: data.train: weight \"x\"", ""},
    {7, "  train: {path: {a: b}}", "run.yaml:7: data.train: path is neither", "a list"},
    {7, "  train: {path: []}", "run.yaml:7: data.train: path is neither", "a list"},
    {7, "  train: {path: [a, [b]]}", "run.yaml:7: data.train: path is neither", ""},
    {7, "  train: {path: a, dtype: int8}", "run.yaml:7: data.train: dtype \"int8\"",
     "uint32"},
    {7, "  train: {path: a, format: bin}", "run.yaml:7: data.train: format", "megatron"},
    {7, "  train: {path: a, vocab_size: 0}", "run.yaml:7: data.train: vocab_size",
     "from 1"},
    {7, "  train: {path: a, eos: -1}", "run.yaml:7: data.train: eos \"-1\"", "from 0"},
    {7, "  train: {path: a, bos: 2147483647}", "run.yaml:7: data.train: bos",
     "2147483646"},
    {7, "  train: {path: a, eos: 1, eos: 1}",
     "run.yaml:7: data.train: eos is given twice", ""},
    {7, "  train: {path: a, dtype: [1]}", "run.yaml:7: data.train: dtype is not a single",
     ""},
    {7, "", "run.yaml: data.train: is missing", "token files"},
    /* combinations */
    {12, "", "run.yaml: train.batch_sequences: is missing", "train.batch_tokens"},
    {END, "  batch_tokens: 256", "run.yaml:13: train.batch_tokens: is given together",
     "exactly one"},
    {12, "  batch_tokens: 100", "run.yaml:12: train.batch_tokens: 100 is not a multiple",
     "nearest valid: 96 or 128"},
    {12, "  batch_tokens: 20", "run.yaml:12: train.batch_tokens: 20 is not a multiple",
     "nearest valid: 32)"},
    {END, "  micro_batch: 9", "run.yaml:13: train.micro_batch: 9 is more",
     "1 to 8, or auto"},
    {END, "parallel:\n  dp: 9", "run.yaml:14: parallel.dp: 9 ranks are more", "1 to 8"},
    {5, "  heads: 6\n  head_size: 8\n  kv_heads: 4",
     "run.yaml:7: model.kv_heads: 4 does not", "valid: 1, 2, 3, 6)"},
    {5, "  heads: 4\n  kv_heads: 8", "run.yaml:6: model.kv_heads: 8 does not",
     "1, 2, 4)"},
    {5, "  heads: 5", "run.yaml:4: model.hidden: 64 is not divisible by model.heads 5",
     "e.g. 65"},
    {5, "  heads: 4\n  head_size: 7", "run.yaml:6: model.head_size: 7 is odd", "even"},
    {5, "  heads: 4\n  max_positions: 16", "run.yaml:9: data.sequence_length: 32 is more",
     "1 to 16"},
    {2, "  family: gpt2\n  head_size: 8", "run.yaml: model.", "gpt2"},
    {END, "schedule: {warmup_steps: 101}", "run.yaml:13: schedule.warmup_steps: 101",
     "train.steps 100"},
    {END, "schedule: {warmup_tokens: 25601}",
     "run.yaml:13: schedule.warmup_tokens: 101 st", "train.steps 100"},
    {END, "schedule: {warmup_steps: 9, total_steps: 8}",
     "run.yaml:13: schedule.warmup_steps", "schedule.total_steps 8"},
    {END, "schedule: {warmup_steps: 1, warmup_tokens: 1}",
     "run.yaml:13: schedule.warmup_tokens: is given together", "at most one"},
    {END, "schedule: {total_steps: 9, total_tokens: 1}",
     "run.yaml:13: schedule.total_tokens: is given together", "at most one"},
    {END, "schedule: {clock: two}", "run.yaml:13: schedule.clock: \"two\"",
     "ahead, zero, one, not_zero"},
    {END, "optim: {clip_eps: -1}", "run.yaml:13: optim.clip_eps", "from 0 to 1"},
    {8, "  sequence_length: 32\n  repetition_period: 0",
     "run.yaml:9: data.repetition_period: \"0\"", "from 1 to"},
    {END, "schedule: {decay_steps: 10}", "run.yaml:13: schedule.decay_steps: 10", "wsd"},
    {END, "schedule: {kind: wsd, warmup_steps: 50, decay_steps: 51}",
     "run.yaml:13: schedule.decay_steps: 51", "valid: 0 to 50)"},
    {END, "  eval_interval: 10", "run.yaml:13: train.eval_interval: 10",
     "data.validation"},
    {12, "  batch_sequences: 1000000000\ntrain.steps: 1",
     "run.yaml:13: train.steps: is given", "line 11"},
    {8, "  sequence_length: 16777216\ntrain.batch_tokens: 16777216\ntrain.micro_batch: 2",
     "run.yaml:9: train.batch_tokens: is given together", "exactly one"},
};

TEST(every_malformed_configuration_is_refused_with_line_and_remedy)
{
    const int n = sizeof bad / sizeof *bad;
    assert_true(n > 30);
    for (int i = 0; i < n; i++) {
        struct config c;
        const status_t st = parse(&c, edited(bad[i].line, bad[i].text));
        assert_refused(st, bad[i].start, bad[i].words);
        assert_null(c.places); /* nothing is owned after a refusal */
    }
}

TEST(an_empty_file_lacks_the_first_required_key)
{
    struct config c;
    assert_refused(parse(&c, ""), "run.yaml: model.family: is missing", "gpt2, llama");
    assert_refused(parse(&c, "# nothing\n"), "run.yaml: model.family: is missing", "");
}

TEST(a_file_that_is_no_mapping_is_refused)
{
    struct config c;
    assert_refused(parse(&c, "\n- a\n"), "run.yaml:2: is not a mapping of sections", "");
    assert_refused(parse(&c, "words"), "run.yaml:1: is not a mapping of sections", "");
}

TEST(a_file_of_more_than_a_mebibyte_is_refused)
{
    struct config c;
    const size_t bytes = CONFIG_MAX_BYTES + 1;
    char *text = test_alloc(bytes + 1);
    memset(text, '\n', bytes);
    assert_refused(parse(&c, text), "run.yaml: has 1048577 bytes", "1048576");
}

TEST(deep_nesting_ends_at_the_first_level_that_means_nothing)
{
    struct config c;
    const size_t bytes = 100000;
    char *text = test_alloc(bytes + 1);
    memset(text, '[', bytes);
    assert_refused(parse(&c, text), "run.yaml:1: is not", "");
    memset(text, '{', bytes);
    assert_refused(parse(&c, text), "run.yaml:1: a key is a word", "");
}

TEST(more_tokens_than_can_be_counted_are_refused)
{
    struct config c;
    const char *text = edited(8, "  sequence_length: 16777216\n"
                                 "train.micro_batch: 1");
    assert_refused(parse_with(&c, text,
                              "train={steps: 1000000000, "
                              "batch_sequences: 1000000000}"),
                   "--set train={steps", "64 bits");
}

TEST(a_file_that_cannot_be_read_is_an_io_error)
{
    struct config c;
    memset(&c, 0xA5, sizeof c);
    ASSERT_REFUSED(config_load(&c, "/no/such.yaml", NULL, 0), STATUS_IO, "/no/such.yaml");
    assert_null(c.places);
    ASSERT_REFUSED(config_load(&c, "/", NULL, 0), STATUS_IO, "/");
}

TEST(defaults_and_derived_values_are_filled_in)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(END, "")));
    assert_string_equal(c.family, "llama");
    assert_int_equal(c.arch.n_kv_heads, 4);
    assert_int_equal(c.arch.head_size, 16);
    assert_int_equal(c.arch.ffn, 192); /* 8/3 of 64 is 170.7 */
    assert_int_equal(c.arch.vocab_size, 0);
    assert_int_equal(c.arch.max_positions, 32);
    assert_int_equal(c.micro_batch, 8);
    assert_int_equal(config_global_batch(&c), 8);
    assert_int_equal(c.eval_interval, 0); /* there is nothing to evaluate on */
    assert_int_equal(c.schedule.kind, SCHEDULE_COSINE);
    assert_int_equal(c.schedule.total_steps, 100);
    assert_int_equal(c.schedule.warmup_steps, 0);
    assert_int_equal(c.dp, 0);
    assert_int_equal(c.zero, 1);
    assert_true(c.optim.lr == 3e-4 && c.optim.beta2 == 0.95 && c.optim.eps == 1e-8);
    assert_true(c.optim.decay_embeddings && !c.optim.decay_norms);
    assert_true(c.document_mask && c.tensorboard);
    assert_int_equal(c.train.n, 1);
    assert_string_equal(c.train.items[0].path, "tokens.h5");
    assert_true(c.train.items[0].weight == 1);
    assert_string_equal(c.tokenizer, "");
    assert_int_equal(c.device, CONFIG_DEVICE_AUTO);
    assert_int_equal(c.precision, CONFIG_PRECISION_AUTO);
    assert_true(c.graphs && !c.share_gpu && c.timeout_seconds > 0);
    assert_string_equal(c.resume, "auto");
    config_release(&c);
}

TEST(gelu_has_four_times_the_width_by_default)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(2, "  family: gpt2")));
    assert_int_equal(c.arch.ffn, 256);
    config_release(&c);
}

TEST(the_familys_knobs_stay_unless_the_file_sets_them)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(2, "  family: gpt2")));
    assert_true(c.arch.tied_embeddings && c.arch.position == ARCH_LEARNED);
    assert_true(c.arch.norm_eps == 1e-5);
    config_release(&c);
    /* in front of the family, to see that the order does not matter */
    ASSERT_OK(
        parse(&c, edited(2, "  tied_embeddings: true\n  norm_eps: 0.5\n"
                            "  rope_theta: 7.0\n  init_std: 0.25\n  family: llama")));
    assert_true(c.arch.tied_embeddings && c.arch.position == ARCH_ROTARY);
    assert_true(c.arch.norm_eps == 0.5 && c.arch.rope_theta == 7);
    assert_true(c.arch.init_std == 0.25);
    config_release(&c);
}

TEST(a_batch_in_tokens_is_sequences_times_length)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(12, "  batch_tokens: 96")));
    assert_int_equal(config_global_batch(&c), 3);
    assert_int_equal(c.micro_batch, 3);
    config_release(&c);
}

TEST(micro_batch_auto_is_about_4096_tokens)
{
    struct config c;
    char *text;
    ASSERT_OK(parse(&c, edited(8, "  sequence_length: 1024")));
    assert_int_equal(c.micro_batch, 4);
    ASSERT_OK(config_dump(&c, &text)); /* which is for any layout */
    assert_non_null(strstr(text, "  micro_batch: auto\n"));
    free(text);
    config_release(&c);
    ASSERT_OK(parse(&c, edited(8, "  sequence_length: 8192")));
    assert_int_equal(c.micro_batch, 1);
    config_release(&c);
}

TEST(warmup_in_tokens_is_rounded_up_to_steps)
{
    static const struct {
        const char *text;
        int64_t steps;
    } cases[] = {{"schedule: {warmup_tokens: 1}", 1},
                 {"schedule: {warmup_tokens: 256}", 1},
                 {"schedule: {warmup_tokens: 257}", 2}};
    for (int i = 0; i < 3; i++) {
        struct config c;
        ASSERT_OK(parse(&c, edited(END, cases[i].text)));
        assert_int_equal(c.schedule.warmup_steps, cases[i].steps);
        assert_int_equal(c.warmup_tokens, 0);
        config_release(&c);
    }
}

TEST(the_schedule_may_be_longer_or_shorter_than_the_run)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(END, "schedule: {total_tokens: 256001}")));
    assert_int_equal(c.schedule.total_steps, 1001);
    assert_int_equal(c.total_tokens, 0);
    config_release(&c);
    ASSERT_OK(parse(&c, edited(END, "schedule: {total_steps: 1000, warmup_steps: 100}")));
    assert_int_equal(c.schedule.total_steps, 1000);
    config_release(&c);
    ASSERT_OK(parse(&c, edited(END, "schedule: {total_steps: 10}")));
    assert_int_equal(c.schedule.total_steps, 10);
    config_release(&c);
}

TEST(wsd_decays_over_the_last_fifth_by_default)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(END, "schedule: {kind: wsd, decay: sqrt}")));
    assert_int_equal(c.schedule.decay_steps, 20);
    assert_int_equal(c.schedule.decay, SCHEDULE_DECAY_SQRT);
    config_release(&c);
    ASSERT_OK(parse(&c, edited(END, "schedule: {kind: wsd, warmup_steps: 90}")));
    assert_int_equal(c.schedule.decay_steps, 10); /* all that warm-up leaves */
    config_release(&c);
}

TEST(sources_are_a_path_a_list_or_weighted)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(7, "  train:\n  - a.h5\n  - {path: b.h5, weight: 0.25}\n"
                                  "  - weight: 3\n    path: \"c d.h5\"\n"
                                  "  validation: {path: v.h5, weight: 2}")));
    assert_int_equal(c.train.n, 3);
    assert_string_equal(c.train.items[0].path, "a.h5");
    assert_string_equal(c.train.items[1].path, "b.h5");
    assert_string_equal(c.train.items[2].path, "c d.h5");
    assert_true(c.train.items[0].weight == 1 && c.train.items[1].weight == 0.25);
    assert_true(c.train.items[2].weight == 3);
    assert_int_equal(c.validation.n, 1);
    assert_true(c.validation.items[0].weight == 2);
    assert_int_equal(c.eval_interval, 250);
    config_release(&c);
}

TEST(a_source_says_what_its_files_do_not)
{
    struct config c;
    char *text;
    ASSERT_OK(
        parse(&c, edited(7, "  train:\n  - {eos: 0, path: [a, b-*.npy], dtype: uint32}\n"
                            "  - {path: c, format: raw, vocab_size: 9, bos: 8}")));
    for (int pass = 0; pass < 2; pass++) { /* as written, and as dumped */
        const struct data_source *a = &c.train.items[0], *b = &c.train.items[1];
        assert_int_equal(c.train.n, 2);
        assert_string_equal(a->path, "a\nb-*.npy");
        assert_true(a->file.has_eos && a->file.eos_id == 0 && !a->file.has_bos);
        assert_int_equal(a->file.token_bytes, 4);
        assert_true(b->file.format == TOKEN_FILE_RAW && b->file.vocab_size == 9);
        assert_true(b->file.has_bos && b->file.bos_id == 8 && !b->file.has_eos);
        ASSERT_OK(config_dump(&c, &text));
        config_release(&c);
        ASSERT_OK(parse(&c, text));
        free(text);
    }
    config_release(&c);
}

TEST(a_section_without_keys_is_nothing)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(6, "optim:\n# lr: 1\nlog:\ndata:")));
    assert_true(c.optim.lr == 3e-4);
    config_release(&c);
}

TEST(keys_may_be_written_with_their_section)
{
    struct config c;
    ASSERT_OK(parse(&c, edited(END, "optim.lr: 0.5")));
    assert_true(c.optim.lr == 0.5);
    config_release(&c);
}
