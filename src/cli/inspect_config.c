#include "cli/inspect_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "train/recipe.h"

enum { MOST_STEPS = 64, USUAL_STEPS = 10 };

static status_t read_steps(const char *text, int64_t *steps, int *n)
{
    *n = 0;
    for (const char *at = text; *at;) {
        const size_t length = strcspn(at, ",");
        char one[32];
        if (*n == MOST_STEPS)
            return status_set(STATUS_USAGE, "--steps: more than %d", (int)MOST_STEPS);
        snprintf(one, sizeof one, "%.*s", (int)(length < 31 ? length : 31), at);
        TRY(option_int("--steps", one, 0, INT64_MAX, &steps[(*n)++]));
        at += length + (at[length] == ',');
    }
    return STATUS_OK;
}

static int usual_steps(const struct config *c, int64_t *steps)
{
    for (int64_t i = 0; i < USUAL_STEPS; i++)
        steps[i] = (c->steps - 1) / (USUAL_STEPS - 1) * i +
                   (c->steps - 1) % (USUAL_STEPS - 1) * i / (USUAL_STEPS - 1);
    return USUAL_STEPS;
}

static status_t describe(const struct config *c, const int64_t *steps, int n)
{
    struct recipe r;
    printf("model          %s, %jd layers, hidden %jd, heads %jd (%jd kv), ffn %jd\n",
           c->family, (intmax_t)c->arch.n_layers, (intmax_t)c->arch.hidden,
           (intmax_t)c->arch.n_heads, (intmax_t)c->arch.n_kv_heads,
           (intmax_t)c->arch.ffn);
    if (c->arch.vocab_size == 0) {
        printf("parameters     depend on the vocabulary, which the token files tell\n");
        return STATUS_OK;
    }
    TRY(recipe_make(&r, c));
    recipe_print(&r, c, steps, n, stdout);
    return STATUS_OK;
}

status_t inspect_config(const char *path, const char *text)
{
    struct config c = {0};
    int64_t steps[MOST_STEPS];
    int n = 0;
    if (text) TRY(read_steps(text, steps, &n));
    status_t st = config_load(&c, path, NULL, 0);
    if (st == STATUS_OK) {
        printf("configuration  %s\n", path);
        if (!text) n = usual_steps(&c, steps);
        st = describe(&c, steps, n);
    }
    config_release(&c);
    return st;
}
