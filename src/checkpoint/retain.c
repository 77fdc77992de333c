#include "checkpoint/checkpoint_impl.h"

#include <math.h>
#include <stdlib.h>

#include "core/file.h"
#include "core/log.h"

/* How many have a lower loss, or the same at an older step? */
static int64_t better_than(const struct ckpt_candidate *c, int64_t n, int64_t i)
{
    int64_t better = 0;
    for (int64_t j = 0; j < n; j++)
        better += c[j].validation_loss < c[i].validation_loss ||
                  (j > i && c[j].validation_loss == c[i].validation_loss);
    return better;
}

void ckpt_choose(struct ckpt_candidate *c, int64_t n, const struct checkpoint_keep *keep)
{
    const bool all = keep->last == 0 && keep->every == 0 && keep->best == 0;
    for (int64_t i = 0; i < n; i++) {
        const bool best = keep->best > 0 && !isnan(c[i].validation_loss) &&
                          better_than(c, n, i) < keep->best;
        const bool every = keep->every > 0 && c[i].step % keep->every == 0;
        c[i].remove = !all && i > 0 && i >= keep->last && !every && !best;
    }
}

/* Those of `steps` that are finished and open, newest first; older unfinished ones are removed. */
static int64_t survey(const char *run_dir, const int64_t *steps, int64_t n,
                      int64_t newest, struct ckpt_candidate *found)
{
    int64_t n_found = 0;
    for (int64_t i = 0; i < n; i++) {
        char folder[PATH_MAX], model[PATH_MAX];
        struct checkpoint *c;
        ckpt_step_folder(folder, run_dir, steps[i]);
        file_join(model, sizeof model, folder, "model.h5");
        if (!file_exists(model)) {
            if (steps[i] < newest) ckpt_remove(folder);
            continue;
        }
        if (steps[i] > newest || checkpoint_open(&c, folder) != STATUS_OK) continue;
        found[n_found++] = (struct ckpt_candidate){
            .step = steps[i], .validation_loss = c->meta.validation_loss};
        checkpoint_close(&c);
    }
    return n_found;
}

void ckpt_retain(const char *run_dir, const struct checkpoint_keep *keep, int64_t newest)
{
    int64_t *steps = NULL, n = 0;
    if (ckpt_list_steps(run_dir, &steps, &n) != STATUS_OK) return;
    struct ckpt_candidate *c = calloc((size_t)n + 1, sizeof *c);
    const int64_t n_found = c ? survey(run_dir, steps, n, newest, c) : 0;
    if (c) ckpt_choose(c, n_found, keep);
    for (int64_t i = 0; i < n_found; i++) {
        char folder[PATH_MAX];
        if (!c[i].remove) continue;
        ckpt_step_folder(folder, run_dir, c[i].step);
        if (ckpt_remove(folder))
            log_info("removed %s", folder);
        else
            log_warn("%s: cannot be removed", folder);
    }
    free(c);
    free(steps);
}

void checkpoint_remove_after(const char *run_dir, int64_t step)
{
    int64_t *steps = NULL, n = 0;
    if (ckpt_list_steps(run_dir, &steps, &n) != STATUS_OK) return;
    for (int64_t i = 0; i < n && steps[i] > step; i++) {
        char folder[PATH_MAX];
        ckpt_step_folder(folder, run_dir, steps[i]);
        if (ckpt_remove(folder)) log_info("removed %s", folder);
    }
    free(steps);
}
