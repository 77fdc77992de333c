#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "core/log.h"

status_t checkpoint_find_before(const char *run_dir, int64_t before, char *path,
                                int64_t *step)
{
    int64_t *steps, n, refused = 0;
    path[0] = '\0';
    status_t st = ckpt_list_steps(run_dir, &steps, &n);
    for (int64_t i = 0; i < n && st == STATUS_OK; i++) {
        char folder[PATH_MAX], model[PATH_MAX];
        struct checkpoint *c;
        if (steps[i] >= before) continue;
        ckpt_step_folder(folder, run_dir, steps[i]);
        file_join(model, sizeof model, folder, "model.h5");
        if (!file_exists(model)) {
            log_warn("%s: was never finished, skipped", folder);
            continue;
        }
        if (checkpoint_open(&c, folder) == STATUS_OK) {
            checkpoint_close(&c);
            snprintf(path, PATH_MAX, "%s", folder);
            *step = steps[i];
            break;
        }
        log_warn("refused: %s", status_message());
        refused++;
    }
    free(steps);
    if (st == STATUS_OK && path[0] == '\0' && refused > 0)
        st =
            status_set(STATUS_CHECKPOINT,
                       "%s: holds %lld checkpoints and all are refused, see the warnings",
                       run_dir, (long long)refused);
    return st;
}

status_t checkpoint_find_latest(const char *run_dir, char *path)
{
    int64_t step;
    return checkpoint_find_before(run_dir, INT64_MAX, path, &step);
}
