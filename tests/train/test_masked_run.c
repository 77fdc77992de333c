/* @needs-binary  @timeout 240
 * What a loss mask leaves out has no part in the loss: it is the mean over the other tokens, in
 * training and evaluation and in every layout, also where ranks have nothing to predict. */
#include "run.h"

enum { T = 6 };

/* FOLDER/NAME.h5: the T + 1 tokens of one document, of which those in `predicted` (bit i: token i)
 * are to be predicted. */
static void write_window(const char *folder, const char *name, unsigned predicted)
{
    static const int32_t ids[T + 1] = {5, 17, 80, 33, 2, 64, 9};
    int32_t loss[T + 1];
    char path[PATH_MAX];
    struct token_writer *w = NULL;
    snprintf(path, sizeof path, "%s/%s.h5", folder, name);
    for (int i = 0; i <= T; i++) loss[i] = predicted >> i & 1;
    ASSERT_OK(token_writer_create(&w, path, RUN_VOCAB, 0, ""));
    ASSERT_OK(token_writer_masked(w, ids, loss, T + 1, 0));
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
}

/* Loss and targets of the first step, before any update. */
static double first_loss(const char *folder, const char *name, unsigned predicted,
                         int64_t *targets)
{
    char options[4 * PATH_MAX];
    write_window(folder, name, predicted);
    snprintf(
        options, sizeof options,
        "--set data.train=%s/%s.h5 --set data.sequence_length=%d --set train.steps=1 "
        "--set train.batch_sequences=1 --set train.micro_batch=1 "
        "--set data.validation=[] --set train.eval_interval=0 "
        "--set schedule.warmup_steps=0",
        folder, name, T);
    run_must(folder, name, 1, options);
    json_t *all = run_metrics(folder, name), *first = json_array_get(all, 0);
    const double loss = json_real_value(json_object_get(first, "loss"));
    *targets = json_integer_value(json_object_get(first, "tokens"));
    json_decref(all);
    return loss;
}

TEST(the_loss_is_the_mean_over_the_tokens_to_be_predicted)
{
    const char *folder = test_folder();
    double alone[T + 1] = {0};
    int64_t targets = 0;
    char name[32];
    run_prepare(folder);
    for (int i = 1; i <= T; i++) {
        snprintf(name, sizeof name, "alone-%d", i);
        alone[i] = first_loss(folder, name, 1u << i, &targets);
        assert_int_equal(targets, 1);
        for (int k = 1; k < i; k++) assert_true(alone[i] != alone[k]);
    }
    static const unsigned masks[] = {0x7f, 0x7e, 0x2a, 0x60, 0x13};
    for (int m = 0; m < 5; m++) {
        double sum = 0;
        int n = 0;
        for (int i = 1; i <= T; i++)
            if (masks[m] >> i & 1) {
                sum += alone[i];
                n++;
            }
        snprintf(name, sizeof name, "some-%d", m);
        const double loss = first_loss(folder, name, masks[m], &targets);
        assert_int_equal(targets, n);
        if (!(fabs(loss - sum / n) <= 1e-6 * loss))
            fail_msg("mask %x: loss %.9g, mean of its tokens alone %.9g", masks[m], loss,
                     sum / n);
    }
}

/* Model FLOP of the first step, as its metrics tell. */
static double first_flops(const char *folder, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, name);
    json_t *first = json_load_file(path, JSON_DISABLE_EOF_CHECK, NULL);
    const json_t *machine = json_object_get(first, "machine");
    const double rate = json_real_value(json_object_get(machine, "flops_per_second"));
    const double flops = rate * json_real_value(json_object_get(machine, "seconds"));
    json_decref(first);
    return flops;
}

TEST(a_token_without_a_target_is_work_too)
{
    const char *folder = test_folder();
    int64_t targets = 0;
    run_prepare(folder);
    first_loss(folder, "seven", 0x7f, &targets);
    first_loss(folder, "single", 0x02, &targets);
    const double all = first_flops(folder, "seven"), one = first_flops(folder, "single");
    assert_true(all > 0 && fabs(all - one) < 1e-4 * all);
}

/* The corpus of run_prepare, with the first half of each document left out, and all of one in
 * three, so that whole windows have no target. */
static void write_corpus(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct token_file *f = NULL;
    struct token_writer *w = NULL;
    snprintf(path, sizeof path, "%s/%s.h5", folder, name);
    ASSERT_OK(token_file_open(&f, path, TOKEN_FILE_CHECK_ALL));
    snprintf(path, sizeof path, "%s/masked-%s.h5", folder, name);
    ASSERT_OK(token_writer_create(&w, path, RUN_VOCAB, 0,
                                  token_file_info(f)->tokenizer_sha256));
    for (int64_t d = 0; d < token_file_info(f)->n_documents; d++) {
        int64_t first, end;
        int32_t ids[64], loss[64];
        token_file_document(f, d, &first, &end);
        ASSERT_OK(token_file_read(f, first, end - first, ids));
        for (int64_t i = 0; i < end - first; i++)
            loss[i] = d % 3 != 0 && 2 * i >= end - first;
        ASSERT_OK(token_writer_masked(w, ids, loss, end - first, 0));
    }
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
    token_file_close(&f);
}

TEST(masked_data_gives_the_same_losses_in_every_layout)
{
    static const struct {
        const char *name, *options;
        int ranks;
    } layouts[] = {{"dp", "--set train.micro_batch=1", 2},
                   {"dp3", "", 3},
                   {"cp", "--set parallel.cp=2", 2},
                   {"pp", "--set parallel.pp=2 --set train.micro_batch=2", 2},
                   {"tp", "--set parallel.tp=2", 2},
                   {"all", "--set parallel.cp=2 --set parallel.pp=2", 4}};
    const char *folder = test_folder();
    char data[4 * PATH_MAX], options[5 * PATH_MAX];
    run_prepare(folder);
    write_corpus(folder, "train");
    write_corpus(folder, "validation");
    const int n = snprintf(data, sizeof data,
                           "--set 'data.train=[{path: %s/masked-train.h5, weight: 3}, "
                           "{path: %s/train.h5, weight: 1}]' "
                           "--set data.validation=%s/masked-validation.h5 "
                           "--set train.steps=10 --set train.eval_interval=5 ",
                           folder, folder, folder);
    assert_true(n > 0 && (size_t)n < sizeof data);
    run_must(folder, "reference", 1, data);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        snprintf(options, sizeof options, "%s %s", data, layouts[i].options);
        run_must(folder, layouts[i].name, layouts[i].ranks, options);
        run_check_close(folder, "reference", layouts[i].name, 1e-5);
    }
    json_t *all = run_metrics(folder, "reference");
    int64_t counted = 0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *tokens = json_object_get(json_array_get(all, i), "tokens");
        if (tokens) counted = json_integer_value(tokens);
    }
    assert_in_range(counted, 1, 10 * 12 * 33 * 6 / 10);
    json_decref(all);
}

TEST(a_batch_without_any_target_has_no_loss_and_breaks_nothing)
{
    const char *folder = test_folder();
    char options[4 * PATH_MAX];
    run_prepare(folder);
    write_window(folder, "nothing", 0);
    snprintf(
        options, sizeof options,
        "--set data.train=%s/nothing.h5 --set data.sequence_length=%d "
        "--set train.steps=2 --set train.batch_sequences=1 --set train.micro_batch=1 "
        "--set data.validation=[] --set train.eval_interval=0 "
        "--set schedule.warmup_steps=0",
        folder, T);
    run_must(folder, "nothing", 1, options);
    json_t *all = run_metrics(folder, "nothing");
    const json_t *first = json_array_get(all, 0);
    assert_true(json_is_null(json_object_get(first, "loss")));
    assert_int_equal(json_integer_value(json_object_get(first, "tokens")), 0);
    json_decref(all);
}
