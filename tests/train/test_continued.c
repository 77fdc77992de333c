/* @needs-binary   @timeout 300
 * Models that transformers saved, imported and trained on, have the losses of the same steps in PyTorch,
 * in any layout: tests/fixtures/reference (scripts/fixtures/make_reference_fixtures.py). */
#include "run.h"

static const char *const models[] = {"gpt2",  "llama",   "llama_tied_biases", "qwen2",
                                     "olmo2", "smollm3", "gpt_neox"};
enum { N_MODELS = sizeof models / sizeof *models, WINDOWS = 4, WINDOW = 12, STEPS = 20 };

static json_t *read_reference(const char *model)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/tests/fixtures/reference/%s/reference.json",
             getenv("YOKE_SOURCE"), model);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    return root;
}

/* FOLDER/train.h5: the training text as one document. */
static void write_text(const char *folder, const json_t *tokens)
{
    char path[PATH_MAX], hex[HASH_SHA256_HEX];
    struct token_writer *w = NULL;
    int32_t ids[WINDOWS * WINDOW + 1];
    const size_t n = json_array_size(tokens);
    assert_int_equal(n, WINDOWS * WINDOW + 1);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    hash_sha256("", 0, hex);
    file_join(path, sizeof path, folder, "train.h5");
    ASSERT_OK(token_writer_create(&w, path, 29, -1, hex));
    ASSERT_OK(token_writer_document(w, ids, (int64_t)n, (int64_t)n));
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
}

/* The configuration that the import wrote, with what the reference was trained with: every step has
 * all windows, so their order does not matter. */
static void run_steps(const char *folder, const char *name, int ranks, const char *layout)
{
    char command[8192];
    snprintf(
        command, sizeof command,
        "mpirun -n %d \"$YOKE\" train %s/imported/config.yaml "
        "--set checkpoint.resume=%s/imported --set train.run_dir=%s/%s "
        "--set data.train=%s/train.h5 --set data.sequence_length=%d "
        "--set train.batch_sequences=%d --set train.micro_batch=2 --set train.steps=%d "
        "--set train.threads=1 --set train.device=cpu --set train.precision=fp32 "
        "--set optim.lr=2e-3 --set optim.beta2=0.95 --set optim.eps=1e-8 "
        "--set optim.weight_decay=0.1 --set optim.clip=1 --set optim.clip_eps=1e-6 "
        "--set log.interval=1 --set log.tensorboard=false --set checkpoint.interval=0 "
        "--set 'parallel={%s}' > %s/%s.log 2>&1",
        ranks, folder, folder, folder, name, folder, WINDOW, WINDOWS, STEPS, layout,
        folder, name);
    if (system(command) == 0) return;
    snprintf(command, sizeof command, "cat %s/%s.log >&2", folder, name);
    (void)!system(command);
    fail_msg("training on failed with parallel={%s}", layout);
}

static void check_losses(const char *folder, const char *name, const char *model,
                         const json_t *want)
{
    json_t *got = run_metrics(folder, name);
    size_t n = 0, i;
    const json_t *record;
    double worst = 0;
    json_array_foreach(got, i, record)
    {
        const json_t *loss = json_object_get(record, "loss");
        const json_int_t step = json_integer_value(json_object_get(record, "step"));
        if (!loss || step < 1 || step > STEPS) continue;
        const double w = json_real_value(json_array_get(want, (size_t)step - 1));
        worst = fmax(worst, fabs(json_real_value(loss) / w - 1));
        n++;
    }
    print_message("%s, %s: losses of %zu steps differ by %.2g\n", model, name, n, worst);
    assert_int_equal(n, STEPS);
    assert_true(worst <= 1e-3);
    json_decref(got);
}

static void continue_model(const char *model)
{
    char folder[PATH_MAX], command[4 * PATH_MAX];
    file_join(folder, sizeof folder, test_folder(), model);
    ASSERT_OK(file_make_dirs(folder));
    json_t *root = read_reference(model);
    const json_t *train = json_object_get(root, "train"),
                 *losses = json_object_get(train, "losses");
    write_text(folder, json_object_get(train, "tokens"));
    snprintf(command, sizeof command,
             "\"$YOKE\" import \"$YOKE_SOURCE\"/tests/fixtures/reference/%s %s/imported "
             "> %s/import.log 2>&1",
             model, folder, folder);
    assert_int_equal(system(command), 0);
    run_steps(folder, "one", 1, "tp: 1");
    check_losses(folder, "one", model, losses);
    run_steps(folder, "laid", 4, "tp: 2, pp: 2");
    check_losses(folder, "laid", model, losses);
    json_decref(root);
}

TEST(training_on_from_an_import_gives_the_losses_of_pytorch)
{
    for (int i = 0; i < N_MODELS; i++) continue_model(models[i]);
}
