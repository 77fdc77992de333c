/* What each axis of a layout costs: whole training steps of a model of 50 million parameters under
 * mpirun, on random tokens, with the time from the start of each operation to its end, and how much
 * of that the host spends on it: moving, adding or waiting.  The rest is hidden. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/rng.h"
#include "train/trainer.h"

enum { AXES = 4, WARM_UP = 1, VOCAB = 16384, TOKENS = 256, BATCH = 8 };

static const char *const axis_names[AXES] = {"tp", "cp", "pp", "dp+cp"};

/* 50.4 million parameters. */
static const char model[] =
    "model: {family: llama, layers: 12, hidden: 512, heads: 8, kv_heads: 8, ffn: 1408, "
    "vocab_size: 16384, tied_embeddings: true}\n";

static struct comm *axis_of(const struct layout *l, int axis)
{
    struct comm *const comms[AXES] = {l->tp, l->cp, l->pp, l->data};
    return comms[axis];
}

/* A token file of random tokens, made by rank 0. */
static status_t write_tokens(const char *path)
{
    struct token_writer *w = NULL;
    char hex[HASH_SHA256_HEX];
    enum { LENGTH = 4096, DOCUMENTS = 16 };
    int32_t ids[LENGTH];
    const uint64_t key = rng_key(1, "bench", "layouts");
    hash_sha256("", 0, hex);
    status_t st = token_writer_create(&w, path, VOCAB, 0, hex);
    for (int d = 0; d < DOCUMENTS && st == STATUS_OK; d++) {
        for (int i = 0; i < LENGTH; i++)
            ids[i] =
                1 + (int32_t)(rng_u64(key, (uint64_t)(d * LENGTH + i)) % (VOCAB - 1));
        ids[LENGTH - 1] = 0;
        st = token_writer_document(w, ids, LENGTH, LENGTH);
    }
    if (st == STATUS_OK) st = token_writer_commit(w, "[]");
    token_writer_destroy(&w);
    return st;
}

/* Of one layout, a step: medians are not needed, the sums are. */
struct figures {
    double step, inside[AXES], busy[AXES];
    uint64_t bytes[AXES];
};

static void measure(struct figures *f, struct trainer *t, int64_t steps)
{
    struct step_stats s;
    struct comm_stats before[AXES];
    for (int i = 0; i < WARM_UP; i++) train_step(t, &s);
    comm_barrier(t->world);
    for (int k = 0; k < AXES; k++) before[k] = comm_stats(axis_of(&t->layout, k));
    const double start = clock_seconds();
    for (int64_t i = 0; i < steps; i++) train_step(t, &s);
    train_settle(t);
    const double n = (double)steps;
    f->step = (clock_seconds() - start) / n;
    for (int k = 0; k < AXES; k++) {
        const struct comm_stats now = comm_stats(axis_of(&t->layout, k));
        f->inside[k] = (now.seconds - before[k].seconds) / n;
        f->busy[k] = (now.busy_seconds - before[k].busy_seconds) / n;
        f->bytes[k] = (now.bytes_sent - before[k].bytes_sent) / (uint64_t)steps;
    }
}

/* One row: rank 0's numbers, which stand for those of others to within their shares. */
static void print_row(const char *layout, const struct figures *f)
{
    printf("%-34s %8.3f s", layout, f->step);
    for (int k = 0; k < AXES; k++) {
        if (f->bytes[k] == 0) continue;
        const double hidden = f->busy[k] > 0 ? 1 - f->inside[k] / f->busy[k] : 0;
        printf("  %s %.1f MB, %.3f s, takes %.3f s (%.0f %% hidden)", axis_names[k],
               (double)f->bytes[k] * 1e-6, f->busy[k], f->inside[k],
               100 * (hidden > 0 ? hidden : 0));
    }
    printf("\n");
    fflush(stdout);
}

static status_t run(struct comm *world, const struct bench_options *o, const char *folder,
                    const char *layout)
{
    char text[4 * PATH_MAX];
    struct config c;
    struct trainer t;
    struct figures f;
    snprintf(text, sizeof text,
             "%sdata: {train: %s/tokens.h5, sequence_length: %d, document_mask: false}\n"
             "train: {run_dir: %s/run, steps: 1000, batch_sequences: %d, micro_batch: 1, "
             "threads: %jd}\nparallel: {%s, share_gpu: true}\n",
             model, folder, TOKENS, folder, BATCH, (intmax_t)o->threads, layout);
    TRY(config_parse(&c, "bench layouts", text, strlen(text), o->overrides,
                     o->n_overrides));
    c.checkpoint_async = false; /* nothing is saved */
    status_t st = trainer_init(&t, world, &c);
    if (st == STATUS_OK) st = trainer_start_fresh(&t);
    if (st == STATUS_OK) st = comm_agree(world, trainer_start_loader(&t));
    if (st == STATUS_OK) measure(&f, &t, o->steps);
    log_set_step(-1);
    trainer_release(&t);
    config_release(&c);
    if (st == STATUS_OK && comm_rank(world) == 0) print_row(layout, &f);
    return st;
}

/* Each axis alone, and two of them together where there are ranks for it. */
static status_t run_all(struct comm *world, const struct bench_options *o,
                        const char *folder)
{
    static const char *const alone[] = {"dp: %d", "dp: %d, zero: 2",
                                        "tp: %d", "cp: %d",
                                        "pp: %d", "pp: %d, schedule: zero_bubble"};
    static const char *const both[] = {"tp: 2, dp: %d", "tp: 2, pp: %d", "pp: 2, dp: %d",
                                       "cp: 2, dp: %d"};
    const int ranks = comm_size(world);
    char layout[128];
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        snprintf(layout, sizeof layout, alone[i], ranks);
        TRY(run(world, o, folder, layout));
    }
    for (size_t i = 0; ranks >= 4 && ranks % 2 == 0 && i < sizeof both / sizeof *both;
         i++) {
        snprintf(layout, sizeof layout, both[i], ranks / 2);
        TRY(run(world, o, folder, layout));
    }
    return STATUS_OK;
}

status_t bench_layouts(struct comm *world, const struct bench_options *o)
{
    char folder[] = "/tmp/yoke-bench-XXXXXX", path[PATH_MAX];
    const bool root = comm_rank(world) == 0;
    status_t st = STATUS_OK;
    if (root && !mkdtemp(folder))
        st = status_set(STATUS_IO, "/tmp: cannot make a folder for tokens");
    st = comm_agree(world, st);
    if (st != STATUS_OK) return st;
    comm_broadcast(world, folder, sizeof folder, 0);
    file_join(path, sizeof path, folder, "tokens.h5");
    st = comm_agree(world, root ? write_tokens(path) : STATUS_OK);
    if (root && st == STATUS_OK)
        printf(
            "50.4 M parameters, %d x %d tokens a step, %d ranks x %jd threads; of each "
            "axis, a step: sent by rank 0, time under way, of which it takes of the "
            "host\n",
            BATCH, TOKENS, comm_size(world), (intmax_t)o->threads);
    const bool loud = log_set_quiet(true);
    if (st == STATUS_OK) st = run_all(world, o, folder);
    log_set_quiet(loud);
    if (root) {
        unlink(path);
        rmdir(folder);
    }
    return st;
}
