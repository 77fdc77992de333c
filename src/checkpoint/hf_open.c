/* A Hugging Face folder: its files, and which tensor of which is what. */
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_impl.h"
#include "core/file.h"
#include "core/log.h"

enum { MAX_INDEX_BYTES = 64 << 20, SHAPE_BYTES = 24 * SAFETENSORS_MAX_DIMS };

/* ---- the files -------------------------------------------------------------------------------- */

static status_t add_file(struct hf *h, const char *name)
{
    char path[PATH_MAX];
    struct safetensors **more =
        realloc(h->files, (size_t)(h->n_files + 1) * sizeof *more);
    if (!more) return status_set(STATUS_NOMEM, "%s: no memory for its files", h->folder);
    h->files = more;
    file_join(path, sizeof path, h->folder, name);
    TRY(safetensors_open(&h->files[h->n_files], path));
    h->n_files++;
    return STATUS_OK;
}

static bool has_file(const struct hf *h, const char *path)
{
    for (int i = 0; i < h->n_files; i++)
        if (strcmp(safetensors_path(h->files[i]), path) == 0) return true;
    return false;
}

/* The files that "weight_map" names, each once. */
static status_t open_indexed(struct hf *h, const char *path)
{
    char *text = NULL;
    size_t bytes;
    json_error_t error;
    TRY(file_read(path, MAX_INDEX_BYTES, &text, &bytes));
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!root)
        return status_set(STATUS_CHECKPOINT, "%s:%d: %s", path, error.line, error.text);
    json_t *map = json_object_get(root, "weight_map"), *value;
    status_t st = json_is_object(map) ? STATUS_OK
                                      : status_set(STATUS_CHECKPOINT,
                                                   "%s: has no object weight_map", path);
    const char *tensor;
    json_object_foreach(map, tensor, value)
    {
        char file[PATH_MAX];
        const char *name = json_string_value(value);
        if (!name || !name[0] || strchr(name, '/')) {
            st = status_set(STATUS_CHECKPOINT,
                            "%s: tensor %.80s is not mapped to the name of a file", path,
                            tensor);
            break;
        }
        file_join(file, sizeof file, h->folder, name);
        if (!has_file(h, file)) st = add_file(h, name);
        if (st != STATUS_OK) break;
    }
    json_decref(root);
    return st;
}

static status_t open_files(struct hf *h)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, h->folder, "model.safetensors.index.json");
    if (file_exists(path)) return open_indexed(h, path);
    file_join(path, sizeof path, h->folder, "model.safetensors");
    if (file_exists(path)) return add_file(h, "model.safetensors");
    return status_set(
        STATUS_CHECKPOINT,
        "%s: holds neither model.safetensors nor model.safetensors.index.json",
        h->folder);
}

/* ---- what is in them ---------------------------------------------------------------------------- */

/* The parameters of the model, as a checkpoint names them, and the tensors they are in. */
static status_t list_params(struct hf *h)
{
    struct param_table t;
    TRY(param_table_init(&t, &h->arch, NULL, 0));
    h->params = calloc((size_t)t.n_params + 1, sizeof *h->params);
    h->n_params = h->params ? t.n_params : 0;
    for (int i = 0; i < h->n_params; i++) {
        const struct param *p = &t.params[i];
        h->params[i] = (struct checkpoint_param){.n_dims = p->n_dims,
                                                 .shape = {p->shape[0], p->shape[1]}};
        memcpy(h->params[i].name, p->name, sizeof h->params[i].name);
    }
    param_table_release(&t);
    h->n_tensors = hf_list_tensors(&h->tensors, &h->arch, h->params, h->n_params);
    if (h->n_tensors > 0) h->places = calloc((size_t)h->n_tensors, sizeof *h->places);
    return h->places
               ? STATUS_OK
               : status_set(STATUS_NOMEM, "%s: no memory for its tensors", h->folder);
}

static int find_tensor(const struct hf *h, const char *name)
{
    for (int i = 0; i < h->n_tensors; i++)
        if (hf_is(&h->tensors[i], name)) return i;
    return -1;
}

static bool shape_fits(const struct hf_tensor *want, const struct safetensors_tensor *t)
{
    return t->n_dims == want->n_dims && t->shape[0] == want->shape[0] &&
           (want->n_dims == 1 || t->shape[1] == want->shape[1]);
}

/* "[2, 3]" */
static const char *shape_text(char text[SHAPE_BYTES], int n_dims, const int64_t *shape)
{
    int n = snprintf(text, SHAPE_BYTES, "[%" PRId64, shape[0]);
    for (int i = 1; i < n_dims; i++)
        n += snprintf(text + n, SHAPE_BYTES - (size_t)n, ", %" PRId64, shape[i]);
    snprintf(text + n, SHAPE_BYTES - (size_t)n, "]");
    return text;
}

/* Put a tensor where it belongs; what is wrong is logged and counted. */
static void place_tensor(struct hf *h, const struct safetensors *file,
                         const struct safetensors_tensor *t, int *n_bad)
{
    const char *path = safetensors_path(file);
    char found[SHAPE_BYTES], wanted[SHAPE_BYTES];
    const int i = find_tensor(h, t->name);
    if (i < 0 && hf_ignored(&h->arch, t->name)) return;
    ++*n_bad;
    if (i < 0)
        log_error("%s: tensor %.80s is not one of this model", path, t->name);
    else if (h->places[i].tensor)
        log_error("%s: tensor %.80s is there twice, also in %s", path, t->name,
                  safetensors_path(h->places[i].file));
    else if (t->dtype == SAFETENSORS_OTHER)
        log_error("%s: tensor %.80s is of type %s; valid: F32, BF16, F16", path, t->name,
                  t->dtype_name);
    else if (!shape_fits(&h->tensors[i], t))
        log_error("%s: tensor %.80s has shape %s; wanted %s", path, t->name,
                  shape_text(found, t->n_dims, t->shape),
                  shape_text(wanted, h->tensors[i].n_dims, h->tensors[i].shape));
    else
        --*n_bad;
    if (i >= 0) h->places[i] = (struct hf_place){file, t};
}

static status_t place_all(struct hf *h)
{
    int n_bad = 0;
    for (int f = 0; f < h->n_files; f++)
        for (int i = 0; i < safetensors_n(h->files[f]); i++)
            place_tensor(h, h->files[f], &safetensors_tensors(h->files[f])[i], &n_bad);
    for (int i = 0; i < h->n_tensors; i++) {
        if (h->places[i].tensor) continue;
        log_error("%s: tensor %s is missing", h->folder, h->tensors[i].name);
        n_bad++;
    }
    if (n_bad == 0) return STATUS_OK;
    return status_set(STATUS_CHECKPOINT,
                      "%s: its tensors are not those of the model that its config.json "
                      "describes: see the %d above",
                      h->folder, n_bad);
}

/* ---- life ------------------------------------------------------------------------------------- */

status_t hf_open(struct hf **out, const char *folder, const struct arch *a)
{
    struct hf *h = calloc(1, sizeof *h);
    *out = h;
    if (!h) return status_set(STATUS_NOMEM, "%s: no memory to open it", folder);
    snprintf(h->folder, sizeof h->folder, "%s", folder);
    h->arch = *a;
    status_t st = list_params(h);
    if (st == STATUS_OK) st = open_files(h);
    if (st == STATUS_OK) st = place_all(h);
    if (st != STATUS_OK) hf_close(out);
    return st;
}

void hf_close(struct hf **out)
{
    struct hf *h = *out;
    if (!h) return;
    for (int i = 0; i < h->n_files; i++) safetensors_close(&h->files[i]);
    free(h->files);
    free(h->params);
    free(h->tensors);
    free(h->places);
    free(h);
    *out = NULL;
}
