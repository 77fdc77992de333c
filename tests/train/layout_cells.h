/* layout_cells - every combination of settings there is for up to 8 ranks, and a choice of them in
 * which every two values of two settings meet.  A function of nothing but a seed: all ranks, and
 * runs with other numbers of ranks, choose alike. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "harness/harness.h"

enum { CELL_MODELS = 6, CELL_MAX_RANKS = 8 };
enum {
    CELL_DP,
    CELL_CP,
    CELL_TP,
    CELL_PP,
    CELL_SCHEDULE,
    CELL_ZERO,
    CELL_RECOMPUTE,
    CELL_SEQUENCE,
    CELL_MODEL,
    CELL_SETTINGS
};
enum { CELL_VALUES = 9 }; /* of a setting, at most, counted from 0 */

/* Settings by number; a schedule is the name's number, the model's is in test_layouts.c. */
struct cell {
    int value[CELL_SETTINGS];
    bool chosen;
};

struct cells {
    struct cell *all;
    int n;
};

static inline int cell_ranks(const struct cell *c)
{
    return c->value[CELL_DP] * c->value[CELL_CP] * c->value[CELL_TP] * c->value[CELL_PP];
}

/* Of the models in test_layouts.c; an emulated GPU has smaller ones. */
static inline int cell_layers(int model)
{
    static const int layers[2][CELL_MODELS] = {{7, 9, 5, 4, 8, 4}, {4, 5, 4, 4, 5, 4}};
    return layers[strcmp(test_device_name(), "cpu") != 0][model];
}

/* What would be refused, and what would be another cell by another name. */
static inline bool cell_is_one(const struct cell *c)
{
    enum { INTERLEAVED = 2, CHUNKS = 2, ONE_F_ONE_B = 1 };
    const int pp = c->value[CELL_PP], schedule = c->value[CELL_SCHEDULE];
    const int parts = schedule == INTERLEAVED ? CHUNKS * pp : pp;
    if (cell_ranks(c) > CELL_MAX_RANKS || parts > cell_layers(c->value[CELL_MODEL]))
        return false;
    if (pp == 1 && schedule != ONE_F_ONE_B) return false;
    if (c->value[CELL_TP] == 1 && !c->value[CELL_SEQUENCE]) return false;
    return c->value[CELL_DP] * c->value[CELL_CP] > 1 || c->value[CELL_ZERO] != 0;
}

static inline struct cells cells_list(void)
{
    static const int low[CELL_SETTINGS] = {1, 1, 1, 1, 0, 0, 0, 0, 0};
    static const int high[CELL_SETTINGS] = {8, 8, 8, 8, 3, 2, 2, 1, CELL_MODELS - 1};
    struct cells list = {.all = test_alloc(200000 * sizeof *list.all)};
    struct cell c = {.chosen = false};
    memcpy(c.value, low, sizeof low);
    for (int i = 0; i < CELL_SETTINGS;) {
        if (cell_is_one(&c)) list.all[list.n++] = c;
        for (i = 0; i < CELL_SETTINGS && ++c.value[i] > high[i]; i++) c.value[i] = low[i];
        assert_true(list.n < 200000);
    }
    return list;
}

/* Which pairs of values have met. */
struct cell_pairs {
    bool met[CELL_SETTINGS][CELL_VALUES][CELL_SETTINGS][CELL_VALUES];
};

/* How many pairs of the cell have not met; marks them if `meet`. */
static inline int cell_new_pairs(struct cell_pairs *p, const struct cell *c, bool meet)
{
    int n = 0;
    for (int i = 0; i < CELL_SETTINGS; i++)
        for (int j = i + 1; j < CELL_SETTINGS; j++) {
            bool *met = &p->met[i][c->value[i]][j][c->value[j]];
            n += !*met;
            if (meet) *met = true;
        }
    return n;
}

/* Greedy: always a cell in which most pairs meet for the first time, of equal ones the first from a
 * place that the seed gives. */
static inline void cells_choose_pairs(struct cells *list, uint64_t seed)
{
    struct cell_pairs *p = test_alloc(sizeof *p);
    for (uint64_t round = 0;; round++) {
        const int from =
            (int)(rng_u64(rng_key(seed, "cells", ""), round) % (uint64_t)list->n);
        int best = -1, most = 0;
        for (int k = 0; k < list->n; k++) {
            const int i = (from + k) % list->n;
            const int n = cell_new_pairs(p, &list->all[i], false);
            if (n > most) best = i, most = n;
        }
        if (best < 0) return;
        cell_new_pairs(p, &list->all[best], true);
        list->all[best].chosen = true;
    }
}

/* `n` cells, all different; of so many ranks, unless `ranks` is 0. */
static inline void cells_choose_some(struct cells *list, uint64_t seed, int n, int ranks)
{
    const uint64_t key = rng_key(seed, "some", "");
    for (int i = 0; i < list->n && n > 0; i++) {
        struct cell *c = &list->all[rng_permute(key, (uint64_t)list->n, (uint64_t)i)];
        if (ranks > 0 && cell_ranks(c) != ranks) continue;
        c->chosen = true;
        n--;
    }
}

static inline void cells_choose_all(struct cells *list)
{
    for (int i = 0; i < list->n; i++) list->all[i].chosen = true;
}
