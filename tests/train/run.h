/* run - whole runs of build/yoke under mpirun, on a made-up corpus, for tests that compare what
 * they wrote. */
#pragma once

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/token_file.h"
#include "harness/harness.h"

enum { RUN_VOCAB = 97 };

/* Documents in which a token mostly follows from the one before it: something to learn. */
static inline void run_write_tokens(const char *path, uint64_t key, int64_t n_documents)
{
    struct token_writer *w = NULL;
    char hex[HASH_SHA256_HEX];
    hash_sha256("", 0, hex);
    ASSERT_OK(token_writer_create(&w, path, RUN_VOCAB, 0, hex));
    uint64_t draw = 0;
    for (int64_t d = 0; d < n_documents; d++) {
        int32_t ids[64];
        const int64_t n = 5 + (int64_t)(rng_u64(key, draw++) % 58);
        ids[0] = 1 + (int32_t)(rng_u64(key, draw++) % (RUN_VOCAB - 1));
        for (int64_t i = 1; i + 1 < n; i++) {
            const int32_t noise = (int32_t)(rng_u64(key, draw++) % 3);
            ids[i] = 1 + (ids[i - 1] * 5 + noise) % (RUN_VOCAB - 1);
        }
        ids[n - 1] = 0;
        ASSERT_OK(token_writer_document(w, ids, n, n));
    }
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
}

/* FOLDER/train.h5, FOLDER/validation.h5 and FOLDER/config.yaml, which trains on them on the device
 * under test. */
static inline void run_prepare(const char *folder)
{
    static const char config[] =
        "model: {family: llama, layers: 2, hidden: 48, heads: 6,\n"
        "        kv_heads: 3, ffn: 100}\n"
        "data: {train: %s/train.h5, validation: %s/validation.h5,\n"
        "       sequence_length: 33}\n"
        "train: {run_dir: %s/run, steps: 20, batch_sequences: 12,\n"
        "        micro_batch: 4, threads: 1, eval_interval: 10,\n"
        "        device: %s, precision: fp32}\n"
        "optim: {lr: 3.0e-3, weight_decay: 0.1, clip: 1.0}\n"
        "schedule: {kind: cosine, warmup_steps: 5, min_ratio: 0.1}\n"
        "parallel: {bucket_mb: 1, share_gpu: true}\n"
        "checkpoint: {interval: 0}\n"
        "log: {interval: 1, tensorboard: false}\n";
    char path[PATH_MAX], text[8192];
    snprintf(path, sizeof path, "%s/train.h5", folder);
    run_write_tokens(path, 1, 400);
    snprintf(path, sizeof path, "%s/validation.h5", folder);
    run_write_tokens(path, 2, 60);
    const int n =
        snprintf(text, sizeof text, config, folder, folder, folder, test_device_name());
    assert_true(n > 0 && (size_t)n < sizeof text);
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    ASSERT_OK(file_replace(path, text, (size_t)n));
}

/* The command line of a run in FOLDER/`name`, output to FOLDER/`name`.log. */
static inline void run_command(char *out, size_t size, const char *folder,
                               const char *name, int ranks, const char *options)
{
    const int n = snprintf(out, size,
                           "mpirun -n %d \"$YOKE\" train %s/config.yaml --set "
                           "train.run_dir=%s/%s %s >> %s/%s.log 2>&1",
                           ranks, folder, folder, name, options, folder, name);
    assert_true(n > 0 && (size_t)n < size);
}

/* Start in the background, in a process group of its own. */
static inline pid_t run_start(const char *folder, const char *name, int ranks,
                              const char *options)
{
    char command[3 * PATH_MAX] = "exec "; /* so that pid is mpirun */
    run_command(command + 5, sizeof command - 5, folder, name, ranks, options);
    const pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        execl("/bin/bash", "bash", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static inline bool run_has_step(const char *folder, const char *name, int step)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/step-%08d/model.h5", folder, name, step);
    return file_exists(path);
}

/* Run to the end; the exit code. */
static inline int run_train(const char *folder, const char *name, int ranks,
                            const char *options)
{
    char command[3 * PATH_MAX];
    run_command(command, sizeof command, folder, name, ranks, options);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The run must succeed; its log is shown if it does not. */
static inline void run_must(const char *folder, const char *name, int ranks,
                            const char *options)
{
    const int code = run_train(folder, name, ranks, options);
    if (code == 0) return;
    char path[PATH_MAX], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/%s.log", folder, name);
    if (file_read(path, 1 << 20, &text, &n) == STATUS_OK) fputs(text, stderr);
    fail_msg("%s with %d ranks %s: exit code %d", name, ranks, options, code);
}

/* The records of a run's metrics.jsonl without what the clock decides.  Caller decrefs. */
static inline json_t *run_metrics(const char *folder, const char *name)
{
    char path[PATH_MAX], line[8192];
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, name);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s is missing", path);
    json_t *all = json_array();
    while (fgets(line, sizeof line, f)) {
        json_t *record = json_loads(line, 0, NULL);
        assert_non_null(record);
        json_object_del(record, "machine");
        json_array_append_new(all, record);
    }
    fclose(f);
    return all;
}

/* Every record equal, numbers bitwise. */
static inline void run_check_equal(const char *folder, const char *a, const char *b)
{
    json_t *x = run_metrics(folder, a), *y = run_metrics(folder, b);
    assert_int_equal(json_array_size(x), json_array_size(y));
    for (size_t i = 0; i < json_array_size(x); i++)
        if (!json_equal(json_array_get(x, i), json_array_get(y, i)))
            fail_msg("%s and %s: record %zu differs: %s and %s", a, b, i,
                     json_dumps(json_array_get(x, i), 0),
                     json_dumps(json_array_get(y, i), 0));
    json_decref(x);
    json_decref(y);
}

/* The same records, losses within `limit` of each other, relatively. */
static inline void run_check_close(const char *folder, const char *a, const char *b,
                                   double limit)
{
    json_t *x = run_metrics(folder, a), *y = run_metrics(folder, b);
    assert_int_equal(json_array_size(x), json_array_size(y));
    assert_true(json_array_size(x) > 0);
    for (size_t i = 0; i < json_array_size(x); i++) {
        const json_t *p = json_array_get(x, i), *q = json_array_get(y, i);
        const double u = json_real_value(json_object_get(p, "loss"));
        const double v = json_real_value(json_object_get(q, "loss"));
        assert_true(json_equal(json_object_get(p, "step"), json_object_get(q, "step")));
        assert_int_equal(json_integer_value(json_object_get(p, "tokens")),
                         json_integer_value(json_object_get(q, "tokens")));
        if (!(fabs(u - v) <= limit * fabs(u)))
            fail_msg("%s and %s: record %zu: loss %.9g and %.9g", a, b, i, u, v);
    }
    json_decref(x);
    json_decref(y);
}

/* Loss of the last record. */
static inline double run_last_loss(const char *folder, const char *name)
{
    json_t *x = run_metrics(folder, name);
    assert_true(json_array_size(x) > 0);
    const json_t *last = json_array_get(x, json_array_size(x) - 1);
    const double loss = json_real_value(json_object_get(last, "loss"));
    json_decref(x);
    return loss;
}
