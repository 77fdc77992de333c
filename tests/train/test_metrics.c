/* The records of a run: what is written, what a resumed run keeps, what is not a record. */
#include "harness/harness.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "core/file.h"
#include "train/metrics.h"
#include "train/metrics_impl.h"

/* A fresh folder for one test. */
static char *run_folder(const char *name)
{
    char *path = test_alloc(PATH_MAX);
    file_join(path, PATH_MAX, test_folder(), name);
    ASSERT_OK(file_make_dirs(path));
    return path;
}

static char *metrics_path(const char *run)
{
    char *path = test_alloc(PATH_MAX);
    file_join(path, PATH_MAX, run, "metrics.jsonl");
    return path;
}

static char *read_text(const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    ASSERT_OK(file_read(path, 1 << 20, &text, &bytes));
    char *copy = test_alloc(bytes + 1);
    memcpy(copy, text, bytes);
    free(text);
    return copy;
}

/* A function of the step only, with doubles that need all their digits. */
static struct metrics_record record_of(int64_t step)
{
    const double x = 1.0 / (double)(step + 2);
    return (struct metrics_record){.step = step,
                                   .tokens = 1000 * step,
                                   .loss = 2 + x,
                                   .grad_norm = sqrt(x),
                                   .lr = x / 1000,
                                   .seconds = 0.5,
                                   .tokens_per_second = 2000,
                                   .flops_per_second = 3e10,
                                   .gemm_share = 0.25,
                                   .loader_wait = 0,
                                   .comm_wait = 0.01,
                                   .memory_bytes = 1 << 28};
}

static void write_steps(const char *run, int64_t resumed, int64_t first, int64_t last)
{
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open(&m, run, 100, resumed, 0, false));
    for (int64_t step = first; step <= last; step += 10) {
        const struct metrics_record r = record_of(step);
        metrics_train(m, &r);
        if (step % 20 != 0) continue;
        const struct metrics_eval e = {.step = step,
                                       .loss = 3,
                                       .perplexity = exp(3),
                                       .sequences = 4,
                                       .targets = 400};
        metrics_validation(m, &e);
    }
    ASSERT_OK(metrics_sync(m));
    ASSERT_OK(metrics_close(&m));
    assert_null(m);
}

static void append_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

TEST(a_line_gives_every_field_back_bitwise)
{
    char line[METRICS_LINE_BYTES];
    const struct metrics_record r = record_of(30);
    const size_t n = metrics_train_line(line, &r);
    assert_int_equal(line[n - 1], '\n');
    json_t *root = json_loadb(line, n, 0, NULL);
    assert_non_null(root);
    const json_t *machine = json_object_get(root, "machine");
    assert_string_equal(json_string_value(json_object_get(root, "kind")), "train");
    assert_int_equal(json_integer_value(json_object_get(root, "step")), 30);
    assert_int_equal(json_integer_value(json_object_get(root, "tokens")), 30000);
    assert_int_equal(json_integer_value(json_object_get(root, "skipped")), 0);
    assert_true(json_number_value(json_object_get(root, "loss")) == r.loss);
    assert_true(json_number_value(json_object_get(root, "grad_norm")) == r.grad_norm);
    assert_true(json_number_value(json_object_get(root, "lr")) == r.lr);
    assert_true(json_number_value(json_object_get(machine, "seconds")) == 0.5);
    assert_true(json_number_value(json_object_get(machine, "comm_wait")) == 0.01);
    assert_int_equal(json_integer_value(json_object_get(machine, "memory_bytes")),
                     1 << 28);
    json_decref(root);
}

TEST(values_that_are_not_finite_are_null)
{
    char line[METRICS_LINE_BYTES];
    struct metrics_record r = record_of(10);
    r.loss = (double)NAN;
    r.grad_norm = HUGE_VAL;
    r.gemm_share = -HUGE_VAL;
    metrics_train_line(line, &r);
    assert_non_null(strstr(line, "\"loss\":null"));
    assert_non_null(strstr(line, "\"grad_norm\":null"));
    assert_non_null(strstr(line, "\"gemm_share\":null"));
    const struct metrics_eval e = {.step = 1, .loss = 800, .perplexity = HUGE_VAL};
    metrics_eval_line(line, &e);
    assert_non_null(strstr(line, "\"perplexity\":null"));
    assert_null(strstr(line, "inf"));
}

TEST(a_resumed_run_leaves_the_file_of_an_uninterrupted_one)
{
    char *whole = run_folder("whole"), *parts = run_folder("parts");
    write_steps(whole, 0, 10, 100);
    write_steps(parts, 0, 10, 70);   /* killed after step 70 */
    write_steps(parts, 40, 50, 60);  /* again from the checkpoint of step 40, killed */
    write_steps(parts, 60, 70, 100); /* and from that of step 60 */
    assert_string_equal(read_text(metrics_path(parts)), read_text(metrics_path(whole)));
}

TEST(a_run_from_the_start_begins_the_file_anew)
{
    char *run = run_folder("anew");
    write_steps(run, 0, 10, 50);
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open(&m, run, 100, 0, 0, false));
    ASSERT_OK(metrics_close(&m));
    assert_string_equal(read_text(metrics_path(run)), "");
}

TEST(a_torn_last_line_is_dropped)
{
    char *whole = run_folder("torn-whole"), *torn = run_folder("torn");
    write_steps(whole, 0, 10, 80);
    write_steps(torn, 0, 10, 60);
    append_text(metrics_path(torn), "{\"kind\":\"train\",\"step\":70,\"tok");
    write_steps(torn, 60, 70, 80);
    assert_string_equal(read_text(metrics_path(torn)), read_text(metrics_path(whole)));
}

TEST(a_torn_newline_alone_costs_no_record)
{
    char *run = run_folder("newline");
    char *path = metrics_path(run);
    write_steps(run, 0, 10, 60);
    char *before = read_text(path);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 1), 0);
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open(&m, run, 100, 60, 0, false));
    ASSERT_OK(metrics_close(&m));
    assert_string_equal(read_text(path), before);
}

TEST(a_file_without_excess_is_not_touched)
{
    char *run = run_folder("same");
    write_steps(run, 0, 10, 60);
    struct stat before, after;
    assert_int_equal(stat(metrics_path(run), &before), 0);
    ASSERT_OK(metrics_truncate(metrics_path(run), 60, 0));
    assert_int_equal(stat(metrics_path(run), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
}

TEST(records_are_read_back_with_null_as_nan)
{
    char *run = run_folder("read");
    write_steps(run, 0, 10, 20);
    append_text(metrics_path(run),
                "\n[]\nnull\n{\"kind\":\"other\",\"step\":1,\"loss\":1}\n"
                "{\"kind\":\"train\",\"step\":\"x\",\"loss\":1}\n"
                "{\"kind\":\"train\",\"step\":30,\"loss\":null}\n{\"kind\":");
    struct metrics_series s;
    ASSERT_OK(metrics_read(&s, run));
    assert_int_equal(s.n, 4);
    assert_int_equal(s.points[1].step, 20);
    assert_false(s.points[1].validation);
    assert_true(s.points[1].loss == record_of(20).loss);
    assert_true(s.points[2].validation);
    assert_true(s.points[2].loss == 3);
    assert_int_equal(s.points[3].step, 30);
    assert_true(isnan(s.points[3].loss));
    metrics_series_release(&s);
}

TEST(a_folder_that_is_missing_is_refused_by_name)
{
    char *run = run_folder("gone");
    assert_int_equal(rmdir(run), 0);
    struct metrics *m = NULL;
    ASSERT_REFUSED(metrics_open(&m, run, 10, 0, 0, false), STATUS_IO,
                   "gone/metrics.jsonl");
    assert_null(m);
    struct metrics_series s;
    ASSERT_REFUSED(metrics_read(&s, run), STATUS_IO, "gone/metrics.jsonl");
}

/* The disk is full in the middle of the second line. */
TEST(a_record_that_does_not_fit_leaves_no_torn_line)
{
    char *run = run_folder("full");
    char line[METRICS_LINE_BYTES];
    struct metrics *m = NULL;
    struct rlimit before;
    const struct metrics_record r = record_of(10);
    const size_t n = metrics_train_line(line, &r);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_OK(metrics_open(&m, run, 10, 0, 0, false));
    const struct rlimit full = {.rlim_cur = n + 100, .rlim_max = before.rlim_max};
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    metrics_train(m, &r);
    metrics_train(m, &r);
    metrics_train(m, &r);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_REFUSED(metrics_close(&m), STATUS_IO, "2 records could not be written");
    assert_string_equal(read_text(metrics_path(run)), line);
}

TEST(the_console_line_is_short_and_complete)
{
    char line[METRICS_LINE_BYTES];
    const struct metrics_record r = {.step = 120,
                                     .tokens = 983040,
                                     .loss = 4.12341,
                                     .grad_norm = 0.8211,
                                     .lr = 3e-4,
                                     .seconds = 2,
                                     .tokens_per_second = 10240,
                                     .flops_per_second = 41.24e9,
                                     .gemm_share = 0.211,
                                     .loader_wait = 0.0002,
                                     .memory_bytes = (int64_t)412 << 20};
    progress_line(line, sizeof line, &r, 600, 83.2);
    assert_string_equal(line, "step 120/600 loss 4.1234 tokens 0.98M 10.2k tok/s"
                              " 41.2 GFLOP/s (21% of GEMM) norm 0.82 lr 3.0e-04"
                              " mem 412 MiB data 0.0% eta 1m23s");
}

TEST(large_runs_keep_readable_units)
{
    char line[METRICS_LINE_BYTES];
    const struct metrics_record r = {.step = 1,
                                     .tokens = 1234567890123,
                                     .tokens_per_second = 999960,
                                     .flops_per_second = 2.5e15,
                                     .skipped = 7};
    progress_line(line, sizeof line, &r, 10, 200000);
    assert_non_null(strstr(line, "tokens 1.23T 1.00M tok/s 2500.0 TFLOP/s"));
    assert_non_null(strstr(line, "data 0.0% skipped 7 eta 2d07h"));
    progress_line(line, sizeof line, &r, 10, (double)NAN);
    assert_non_null(strstr(line, "eta ?"));
}

TEST(the_bar_fills_from_empty_to_full)
{
    char line[METRICS_LINE_BYTES];
    const struct metrics_record none = {0}, r = {.step = 12, .loss = 1.5};
    progress_bar(line, sizeof line, 0, &none, 24, (double)NAN);
    assert_string_equal(line, "[                        ]   0% 0/24");
    progress_bar(line, sizeof line, 12, &r, 24, 5);
    assert_string_equal(
        line, "[===========>            ]  50% 12/24 loss 1.5000 0 tok/s eta 5s");
    progress_bar(line, sizeof line, 24, &r, 24, 0);
    assert_non_null(strstr(line, "[=======================>] 100%"));
}
