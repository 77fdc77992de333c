/* A small model's table with gaps, values that are a function of the place, and ways to cut
 * the flat buffer among ranks.  Static functions: each test is one file. */
#pragma once

#include "harness/harness.h"

#include <limits.h>
#include <stdio.h>

#include "checkpoint/checkpoint.h"
#include "core/file.h"
#include "core/rng.h"

enum { KINDS = 3, MAX_RANGES = 64, SMALL_ELEMENTS = 720 };

/* Five parameters with padding between, before and after them. */
static inline struct param_table small_table(void)
{
    static struct param params[] = {
        {.name = "embed.weight", .n_dims = 2, .shape = {37, 12}, .offset = 16},
        {.name = "layers.0.norm.weight", .n_dims = 1, .shape = {12, 1}, .offset = 464},
        {.name = "layers.0.q.weight", .n_dims = 2, .shape = {12, 12}, .offset = 480},
        {.name = "layers.0.k.weight", .n_dims = 2, .shape = {4, 12}, .offset = 624},
        {.name = "head", .n_dims = 2, .shape = {1, 1}, .offset = 688},
    };
    struct param_table t = {
        .params = params, .n_params = 5, .n_elements = SMALL_ELEMENTS};
    for (int i = 0; i < t.n_params; i++) {
        struct param *p = &params[i];
        p->n = p->shape[0] * p->shape[1];
        p->local[0] = p->shape[0];
        p->local[1] = p->shape[1];
        p->slices[0] = (struct param_slice){.rows = p->shape[0], .owned = true};
        p->n_slices = 1;
        p->index = i;
        t.n_real += params[i].n;
    }
    return t;
}

/* Any 32 bits, NaN included: what is saved is bits, not numbers. */
static inline uint32_t bits_at(uint64_t salt, int kind, int64_t at)
{
    return rng_philox(salt, (uint64_t)kind, (uint64_t)at).word[0];
}

static inline bool in_gap(const struct param_table *t, int64_t at)
{
    for (int i = 0; i < t->n_params; i++)
        if (at >= t->params[i].offset && at < t->params[i].offset + t->params[i].n)
            return false;
    return true;
}

/* The ranges of `rank` when the buffer is cut into `buckets` and each bucket among the ranks,
 * with memory full of `fill`. */
static inline int cut_ranges(const struct param_table *t, int rank, int size, int buckets,
                             uint32_t fill, struct checkpoint_range ranges[MAX_RANGES])
{
    for (int b = 0; b < buckets; b++) {
        int64_t start, n, first, count;
        comm_slice(t->n_elements, buckets, b, &start, &n);
        comm_slice(n, size, rank, &first, &count);
        float *p[KINDS];
        for (int k = 0; k < KINDS; k++) {
            p[k] = test_alloc((size_t)count * 4);
            for (int64_t i = 0; i < count; i++) memcpy(p[k] + i, &fill, 4);
        }
        ranges[b] = (struct checkpoint_range){start + first, count, p[0], p[1], p[2]};
    }
    return buckets;
}

static inline float *range_data(const struct checkpoint_range *r, int kind)
{
    return kind == 0 ? r->master : kind == 1 ? r->exp_avg : r->exp_avg_sq;
}

static inline void fill_ranges(uint64_t salt, const struct checkpoint_range *ranges,
                               int n)
{
    for (int j = 0; j < n; j++)
        for (int k = 0; k < KINDS; k++)
            for (int64_t i = 0; i < ranges[j].count; i++) {
                const uint32_t bits = bits_at(salt, k, ranges[j].start + i);
                memcpy(range_data(&ranges[j], k) + i, &bits, 4);
            }
}

/* Bitwise what fill_ranges wrote, and zero in gaps. */
static inline void check_ranges(uint64_t salt, const struct param_table *t,
                                const struct checkpoint_range *ranges, int n)
{
    for (int j = 0; j < n; j++)
        for (int k = 0; k < KINDS; k++)
            for (int64_t i = 0; range_data(&ranges[j], k) && i < ranges[j].count; i++) {
                const int64_t at = ranges[j].start + i;
                const uint32_t want = in_gap(t, at) ? 0 : bits_at(salt, k, at);
                uint32_t got;
                memcpy(&got, range_data(&ranges[j], k) + i, 4);
                if (got != want)
                    fail_msg("element %lld of kind %d: %08x, want %08x", (long long)at, k,
                             got, want);
            }
}

static inline struct checkpoint_meta some_meta(int64_t step)
{
    return (struct checkpoint_meta){.step = step,
                                    .next_sample = 1000 + step,
                                    .data_step = step / 2,
                                    .tokens = (int64_t)1 << 60,
                                    .skipped_steps = 3,
                                    .loss_scale = 64,
                                    .loss_scale_steps = 7,
                                    .log_loss_sum = 1.0 / 3,
                                    .log_targets = 77,
                                    .seed = UINT64_MAX,
                                    .config = "model:\n  layers: 2 # \xc3\xa9\n",
                                    .versions = "{\"yoke\": \"0.1.0\"}",
                                    .data = "{}"};
}

/* Save the state that `salt` names; the status of checkpoint_save. */
static inline status_t save_state(const char *run_dir, struct comm *world, int64_t step,
                                  uint64_t salt, int buckets)
{
    const struct param_table t = small_table();
    struct checkpoint_range ranges[MAX_RANGES];
    const int n = cut_ranges(&t, comm_rank(world), comm_size(world), buckets, 0, ranges);
    fill_ranges(salt, ranges, n);
    const struct checkpoint_meta meta = some_meta(step);
    return checkpoint_save(run_dir, world, &t, &t, ranges, n, &meta);
}

/* Open `path` and read all of it: the status of whichever fails; checks the values if none. */
static inline status_t load_state(const char *path, uint64_t salt)
{
    static float x[KINDS][SMALL_ELEMENTS];
    const struct param_table t = small_table();
    const struct checkpoint_range all = {0, SMALL_ELEMENTS, x[0], x[1], x[2]};
    memset(x, 0xdb, sizeof x);
    struct checkpoint *c;
    TRY(checkpoint_open(&c, path));
    const status_t st = checkpoint_read(c, &t, &t, &all, 1);
    checkpoint_close(&c);
    if (st == STATUS_OK) check_ranges(salt, &t, &all, 1);
    return st;
}

static inline const char *path_in(const char *folder, const char *name)
{
    static char paths[8][PATH_MAX];
    static int next;
    char *path = paths[next++ % 8];
    file_join(path, PATH_MAX, folder, name);
    return path;
}
