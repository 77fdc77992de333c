/* The configurations of published recipes amount to what was published: parameters, first values,
 * what decays, batch, AdamW, z-loss and the learning rate of ten steps, as tests/fixtures/recipes.txt
 * has them, which knows the publications and not this program. */
#include "train/recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/harness.h"

enum { LINE = 256 };

struct fixture {
    FILE *file;
    char line[LINE]; /* the one at hand; "" at the end */
};

static bool next(struct fixture *f)
{
    do {
        if (!fgets(f->line, sizeof f->line, f->file)) f->line[0] = '\0';
    } while (f->line[0] == '#');
    return f->line[0] != '\0';
}

static bool at(const struct fixture *f, const char *word)
{
    return strncmp(f->line, word, strlen(word)) == 0;
}

static void numbers(struct fixture *f, const char *word, double *x, int n)
{
    if (!at(f, word)) fail_msg("want a line \"%s\", got: %s", word, f->line);
    char *text = f->line + strlen(word);
    for (int i = 0; i < n; i++) x[i] = strtod(text, &text);
    assert_true(*text == '\n');
    next(f);
}

static void near(const char *what, double got, double want, double most)
{
    if (!(fabs(got - want) <= most))
        fail_msg("%s: got %.15g, want %.15g", what, got, want);
}

static void check_groups(struct fixture *f, const char *name, const struct recipe *r)
{
    static const char *const kinds[] = {[PARAM_MATRIX] = "group matrix",
                                        [PARAM_EMBEDDING] = "group embedding",
                                        [PARAM_NORM] = "group norm",
                                        [PARAM_BIAS] = "group bias"};
    bool seen[RECIPE_MAX_GROUPS] = {false};
    int n = 0;
    for (; at(f, "group"); n++) {
        int kind = 0;
        while (!at(f, kinds[kind])) kind++;
        double want[6]; /* tensors, parameters, mean, deviation, cutoff, decay */
        numbers(f, kinds[kind], want, 6);
        int i = 0;
        for (; i < r->n_groups; i++) {
            const struct recipe_group *g = &r->groups[i];
            if (seen[i] || (int)g->kind != kind || g->init_mean != want[2] ||
                fabs(g->init_std - want[3]) > 1e-12 || g->n_tensors != (int64_t)want[0] ||
                g->n_parameters != (int64_t)want[1] || g->weight_decay != want[5] ||
                (want[3] > 0 && g->init_cutoff != want[4]))
                continue;
            seen[i] = true;
            break;
        }
        if (i == r->n_groups)
            fail_msg("%s: no %s of %.0f tensors, %.0f parameters, mean %g, deviation "
                     "%.12g, cutoff %g, decay %g",
                     name, kinds[kind], want[0], want[1], want[2], want[3], want[4],
                     want[5]);
    }
    assert_int_equal(r->n_groups, n);
}

/* `part`: the stage of c, or c. */
static void check_recipe(struct fixture *f, const char *name, const struct config *c,
                         const struct config *part)
{
    struct recipe r;
    double x[5], close, lr[2];
    ASSERT_OK(recipe_make(&r, part));
    numbers(f, "parameters", x, 1);
    assert_int_equal(r.n_parameters, (int64_t)x[0]);
    check_groups(f, name, &r);
    numbers(f, "batch", x, 2);
    assert_int_equal(config_global_batch(part), (int64_t)x[0]);
    assert_int_equal(part->sequence_length, (int64_t)x[1]);
    numbers(f, "steps", x, 1);
    assert_int_equal(part->span.end_step - part->span.first_step, (int64_t)x[0]);
    numbers(f, "adamw", x, 5);
    near("beta1", part->optim.beta1, x[0], 0);
    near("beta2", part->optim.beta2, x[1], 0);
    near("eps", part->optim.eps, x[2], 0);
    near("clip", part->optim.clip, x[3], 0);
    near("clip_eps", part->optim.clip_eps, x[4], 0);
    numbers(f, "z_loss", x, 1);
    near("z_loss", part->z_loss, x[0], 0);
    numbers(f, "close", &close, 1);
    int n = 0;
    for (; at(f, "lr"); n++) {
        numbers(f, "lr", lr, 2);
        near(name, recipe_lr(c, (int64_t)lr[0]), lr[1], close * part->optim.lr);
    }
    assert_int_equal(n, 10);
}

/* "-": all of it */
static const struct config *stage_of(struct config *c, const char *name)
{
    for (int i = 0; i < config_n_segments(c); i++) {
        const struct config *part = config_segment(c, i);
        if (strcmp(part->span.name ? part->span.name : "-", name) == 0) return part;
    }
    fail_msg("no stage %s", name);
    return c;
}

TEST(every_recipe_is_what_was_published)
{
    const char *source = getenv("YOKE_SOURCE");
    char path[4096], name[64], stage[64];
    int recipes = 0;
    assert_non_null(source);
    snprintf(path, sizeof path, "%s/tests/fixtures/recipes.txt", source);
    struct fixture f = {.file = fopen(path, "r")};
    assert_non_null(f.file);
    for (next(&f); f.line[0]; recipes++) {
        assert_int_equal(sscanf(f.line, "recipe %63s %63s", name, stage), 2);
        next(&f);
        snprintf(path, sizeof path, "%s/configs/%s.yaml", source, name);
        struct config c;
        ASSERT_OK(config_load(&c, path, NULL, 0));
        check_recipe(&f, name, &c, stage_of(&c, stage));
        config_release(&c);
    }
    assert_in_range(recipes, 25, 100);
    fclose(f.file);
}
