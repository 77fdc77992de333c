#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "core/log.h"

status_t checkpoint_next(const char *run_dir, int64_t *step, char *path)
{
    int64_t *steps, n;
    path[0] = '\0';
    status_t st = ckpt_list_steps(run_dir, &steps, &n);
    for (int64_t i = 0; i < n && st == STATUS_OK && !path[0]; i++) {
        char folder[PATH_MAX], model[PATH_MAX];
        if (steps[i] >= *step) continue;
        ckpt_step_folder(folder, run_dir, steps[i]);
        file_join(model, sizeof model, folder, "model.h5");
        if (!file_exists(model)) {
            log_warn("%s: was never finished, skipped", folder);
            continue;
        }
        snprintf(path, PATH_MAX, "%s", folder);
        *step = steps[i];
    }
    free(steps);
    return st;
}

status_t checkpoint_find_before(const char *run_dir, int64_t before, char *path,
                                int64_t *step)
{
    int64_t at = before, refused = 0;
    for (;; refused++) {
        struct checkpoint *c;
        TRY(checkpoint_next(run_dir, &at, path));
        if (!path[0]) break;
        if (checkpoint_open(&c, path) == STATUS_OK) {
            checkpoint_close(&c);
            *step = at;
            return STATUS_OK;
        }
        log_warn("refused: %s", status_message());
    }
    if (refused == 0) return STATUS_OK;
    return status_set(STATUS_CHECKPOINT,
                      "%s: holds %lld checkpoints and all are refused, see the warnings",
                      run_dir, (long long)refused);
}

status_t checkpoint_find_latest(const char *run_dir, char *path)
{
    int64_t step;
    return checkpoint_find_before(run_dir, INT64_MAX, path, &step);
}
