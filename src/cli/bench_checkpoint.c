/* What checkpoints cost, against the machine's own speed in the same run: the wait of an asynchronous
 * save against a copy in memory, writing and reading against the same bytes through plain files, and
 * steps with saves against steps without. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "train/saving.h"
#include "train/trainer.h"

enum { ROUNDS = 5, INTERVAL = 20, CHUNK = 64 << 20 };

struct bench {
    struct trainer *t;
    struct config *c;
    const char *folder;
    float *copy; /* room for what this rank owns */
    int64_t n;   /* elements of it, of all three kinds */
};

/* The slowest rank's seconds since `begin`, all having begun together. */
static double elapsed(const struct bench *b, double begin)
{
    comm_barrier(b->t->world);
    return clock_seconds() - begin;
}

static double start(const struct bench *b)
{
    comm_barrier(b->t->world);
    return clock_seconds();
}

static int64_t owned(const struct trainer *t)
{
    int64_t n = 0;
    for (int64_t i = 0; i < zero_n_owned(t->zero); i++) n += zero_owned(t->zero, i).count;
    return n;
}

/* What a save copies, by as many threads as compute. */
static double copy_owned(const struct bench *b)
{
    const double begin = start(b);
    float *to = b->copy;
    for (int64_t i = 0; i < zero_n_owned(b->t->zero); i++) {
        const struct zero_range r = zero_owned(b->t->zero, i);
        const float *from[] = {r.master, r.exp_avg, r.exp_avg_sq};
        for (int k = 0; k < 3; k++, to += r.count) {
            enum { BLOCK = 1 << 16 };
#pragma omp parallel for schedule(static)
            for (int64_t at = 0; at < r.count; at += BLOCK)
                memcpy(to + at, from[k] + at,
                       (size_t)(r.count - at < BLOCK ? r.count - at : BLOCK) *
                           sizeof *to);
        }
    }
    return elapsed(b, begin);
}

/* Each rank its own file: written as a whole, then fsync. */
static double write_plain(const struct bench *b, const char *path)
{
    const char *from = (const char *)b->copy;
    const size_t bytes = (size_t)b->n * sizeof *b->copy;
    const double begin = start(b);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    if (fd < 0) die("cannot make %s", path);
    for (size_t i = 0; i < bytes;) {
        const ssize_t n =
            pwrite(fd, from + i, bytes - i < CHUNK ? bytes - i : CHUNK, (off_t)i);
        if (n <= 0) die("%s: cannot write", path);
        i += (size_t)n;
    }
    if (fsync(fd) != 0 || close(fd) != 0) die("%s: cannot sync", path);
    return elapsed(b, begin);
}

static double read_plain(const struct bench *b, const char *path)
{
    char *to = (char *)b->copy;
    const size_t bytes = (size_t)b->n * sizeof *b->copy;
    const double begin = start(b);
    const int fd = open(path, O_RDONLY);
    if (fd < 0) die("cannot open %s", path);
    for (size_t i = 0; i < bytes;) {
        const ssize_t n =
            pread(fd, to + i, bytes - i < CHUNK ? bytes - i : CHUNK, (off_t)i);
        if (n <= 0) die("%s: cannot read", path);
        i += (size_t)n;
    }
    close(fd);
    return elapsed(b, begin);
}

static void step(struct trainer *t)
{
    struct step_stats s;
    train_step(t, &s);
    train_settle(t);
}

/* Medians over rounds, of each in turn. */
struct figures {
    double copy, stall, write, save, read, load, verify;
    int64_t bytes; /* on disk */
};

/* This rank's part into where it came from. */
static status_t read_owned(const struct bench *b, const struct checkpoint *c)
{
    struct trainer *t = b->t;
    const int64_t n = zero_n_ranges(t->zero);
    struct checkpoint_range *ranges = malloc((size_t)(n + 1) * sizeof *ranges);
    if (!ranges) return status_set(STATUS_NOMEM, "no memory for the list of ranges");
    for (int64_t i = 0; i < n; i++) ranges[i] = mirror_range(&t->mirror, i);
    const status_t st = checkpoint_read(c, &t->whole, &t->params, ranges, (int)n);
    free(ranges);
    return st;
}

static status_t load(const struct bench *b, const char *path, double *seconds,
                     double *verify, int64_t *bytes)
{
    struct checkpoint *c = NULL;
    const int rank = comm_rank(b->t->world), ranks = comm_size(b->t->world);
    double begin = start(b);
    status_t st = checkpoint_open(&c, path);
    if (st == STATUS_OK) st = read_owned(b, c);
    *seconds = elapsed(b, begin);
    st = comm_agree(b->t->world, st);
    if (st == STATUS_OK) {
        begin = start(b);
        st = checkpoint_verify(c, rank, ranks);
        *verify = elapsed(b, begin);
        *bytes = checkpoint_bytes(c);
        st = comm_agree(b->t->world, st);
    }
    checkpoint_close(&c);
    return st;
}

static status_t measure_rounds(struct bench *b, struct figures *f)
{
    char plain[PATH_MAX], path[PATH_MAX], name[64];
    double copy[ROUNDS], stall[ROUNDS], writes[ROUNDS], save[ROUNDS], reads[ROUNDS],
        loads[ROUNDS], verify[ROUNDS];
    struct trainer *t = b->t;
    snprintf(name, sizeof name, "plain-%d", comm_rank(t->world));
    file_join(plain, sizeof plain, b->folder, name);
    for (int i = -1; i < ROUNDS; i++) { /* the first warms up */
        const int k = i < 0 ? 0 : i;
        step(t); /* as in a run: what the last save left to remove is gone by now */
        copy[k] = copy_owned(b);
        const double begin = start(b);
        TRY(saving_begin(t));
        stall[k] = elapsed(b, begin);
        TRY(saving_finish(t, true));
        writes[k] = write_plain(b, plain);
        step(t);
        snprintf(name, sizeof name, "step-%08jd", (intmax_t)t->progress.step);
        file_join(path, sizeof path, b->c->run_dir, name);
        const double saving = start(b);
        TRY(saving_now(t));
        save[k] = elapsed(b, saving);
        reads[k] = read_plain(b, plain);
        TRY(load(b, path, &loads[k], &verify[k], &f->bytes));
        unlink(plain);
    }
    f->copy = bench_median(copy, ROUNDS);
    f->stall = bench_median(stall, ROUNDS);
    f->write = bench_median(writes, ROUNDS);
    f->save = bench_median(save, ROUNDS);
    f->read = bench_median(reads, ROUNDS);
    f->load = bench_median(loads, ROUNDS);
    f->verify = bench_median(verify, ROUNDS);
    return STATUS_OK;
}

/* Seconds a step, with a save every INTERVAL steps or without any; the last save's end is outside,
 * as it is in a run. */
static status_t measure_steps(struct bench *b, int64_t steps, bool save, double *seconds)
{
    struct step_stats s = {0};
    struct trainer *t = b->t;
    train_settle(t);
    const double begin = start(b);
    for (int64_t i = 1; i <= steps; i++) {
        train_step(t, &s);
        TRY(saving_poll(t, s.saving));
        if (save && i % INTERVAL == 0) TRY(saving_begin(t));
    }
    train_settle(t);
    *seconds = elapsed(b, begin) / (double)steps;
    return saving_finish(t, true);
}

/* The two kinds of steps in turns, so that both see the same machine. */
static status_t compare_steps(struct bench *b, int64_t rounds, double *with,
                              double *without)
{
    double x[2][BENCH_MAX_ROUNDS];
    for (int64_t i = 0; i < rounds; i++) {
        TRY(measure_steps(b, INTERVAL, false, &x[0][i]));
        TRY(measure_steps(b, INTERVAL, true, &x[1][i]));
    }
    *without = bench_median(x[0], rounds);
    *with = bench_median(x[1], rounds);
    return STATUS_OK;
}

static void print(const struct bench *b, const struct figures *f, double with,
                  double without)
{
    const double mb = 12e-6 * (double)b->t->whole.n_real;
    printf("%.1f M parameters, %.0f MB, %d ranks x %d threads\n", mb / 12, mb,
           comm_size(b->t->world), b->t->n_threads);
    printf("copy of what is owned    %8.3f s\n", f->copy);
    printf("wait of a save           %8.3f s  %.2f of the copy\n", f->stall,
           f->stall / f->copy);
    printf("plain write and fsync    %8.3f s  %.0f MB/s\n", f->write, mb / f->write);
    printf("save                     %8.3f s  %.0f MB/s, %.2f of plain writing\n",
           f->save, mb / f->save, f->write / f->save);
    printf("plain read, warm         %8.3f s  %.0f MB/s\n", f->read, mb / f->read);
    printf("load, warm               %8.3f s  %.0f MB/s, %.2f of plain reading, %.2f of "
           "plain "
           "writing\n",
           f->load, mb / f->load, f->read / f->load, f->write / f->load);
    printf("verify, warm             %8.3f s  %.0f MB/s\n", f->verify, mb / f->verify);
    printf("on disk                  %jd bytes, %.6f of 12 a parameter\n",
           (intmax_t)f->bytes, (double)f->bytes * 1e-6 / mb);
    printf("step                     %8.3f s\n", without);
    printf("step, saves every %d     %8.3f s  %+.1f %%\n", INTERVAL, with,
           100 * (with / without - 1));
}

static status_t measure(struct trainer *t, struct config *c, const char *folder,
                        const struct bench_options *o)
{
    struct bench b = {.t = t, .c = c, .folder = folder, .n = 3 * owned(t)};
    struct figures f;
    double with = 0, without = 0;
    b.copy = malloc((size_t)b.n * sizeof *b.copy + 1);
    TRY(comm_agree(t->world, b.copy ? STATUS_OK
                                    : status_set(STATUS_NOMEM, "no memory for a copy")));
    status_t st = measure_rounds(&b, &f);
    if (st == STATUS_OK) st = compare_steps(&b, o->steps, &with, &without);
    log_set_step(-1);
    if (st == STATUS_OK && comm_rank(t->world) == 0) print(&b, &f, with, without);
    free(b.copy);
    return st;
}

status_t bench_checkpoint(struct comm *world, const struct bench_options *o)
{
    char folder[PATH_MAX];
    struct config c;
    struct trainer t;
    if (o->steps > BENCH_MAX_ROUNDS)
        return status_set(STATUS_USAGE, "--steps: valid is up to %d rounds",
                          BENCH_MAX_ROUNDS);
    TRY(bench_make_folder(world, o->folder, &bench_model_tokens, folder));
    const bool loud = log_set_quiet(true);
    status_t st = bench_model_config(&c, o, folder, "dp: auto");
    if (st == STATUS_OK) {
        c.keep.last = 1;
        st = trainer_init(&t, world, &c);
        if (st == STATUS_OK) st = trainer_start_fresh(&t);
        if (st == STATUS_OK) st = comm_agree(world, trainer_start_loader(&t));
        if (st == STATUS_OK) st = measure(&t, &c, folder, o);
        trainer_release(&t);
    }
    log_set_quiet(loud);
    config_release(&c);
    bench_remove_folder(world, folder);
    return st;
}
