/* Weights as a Hugging Face folder. */
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_impl.h"
#include "core/file.h"

/* Tensors [first, end) are in one file. */
struct part {
    int first, end;
    char name[64];
};

/* What is written, and into which files. */
struct parts {
    const struct arch *arch;
    enum safetensors_dtype dtype;
    struct hf_tensor *tensors;
    int n_tensors;
    struct part *items;
    int n;
    int64_t bytes; /* of all tensors */
};

static int64_t elements(const struct hf_tensor *t)
{
    return t->shape[0] * t->shape[1];
}

static status_t divide(struct parts *parts, const struct checkpoint_source *s,
                       int64_t shard_bytes)
{
    int64_t bytes = 0;
    parts->n_tensors =
        hf_list_tensors(&parts->tensors, parts->arch, s->params, s->n_params);
    parts->items = calloc((size_t)s->n_params + 1, sizeof *parts->items);
    if (!parts->items || parts->n_tensors < 0)
        return status_set(STATUS_NOMEM, "no memory for a list of files");
    for (int i = 0; i < parts->n_tensors; i++) {
        const int64_t n =
            elements(&parts->tensors[i]) * (parts->dtype == SAFETENSORS_F32 ? 4 : 2);
        if (parts->n == 0 || bytes + n > shard_bytes) {
            parts->items[parts->n++].first = i;
            bytes = 0;
        }
        bytes += n;
        parts->bytes += n;
        parts->items[parts->n - 1].end = i + 1;
    }
    for (int k = 0; k < parts->n; k++)
        if (parts->n == 1)
            snprintf(parts->items[k].name, sizeof parts->items[k].name,
                     "model.safetensors");
        else
            snprintf(parts->items[k].name, sizeof parts->items[k].name,
                     "model-%05d-of-%05d.safetensors", k + 1, parts->n);
    return STATUS_OK;
}

/* Queries, keys or values, the part-th, head by head between the others. */
static void place_heads(float *y, const float *x, const struct arch *a, int part,
                        int64_t cols)
{
    const int64_t n = a->head_size * cols;
    for (int64_t head = 0; head < a->n_heads; head++)
        memcpy(y + (3 * head + part) * n, x + head * n, (size_t)n * sizeof *y);
}

static status_t make_tensor(float *y, struct checkpoint_source *s, const struct arch *a,
                            const struct hf_tensor *t)
{
    status_t st = STATUS_OK;
    if (t->n_parts == 1 && !t->transposed)
        return s->read(s, t->parts[0], CHECKPOINT_MASTER, y);
    float *x = malloc((size_t)elements(t) / (size_t)t->n_parts * sizeof *x);
    if (!x) return status_set(STATUS_NOMEM, "no memory for %s", t->name);
    for (int i = 0; i < t->n_parts && st == STATUS_OK; i++) {
        const struct checkpoint_param *p = &s->params[t->parts[i]];
        st = s->read(s, t->parts[i], CHECKPOINT_MASTER, x);
        if (st != STATUS_OK) break;
        if (t->transposed)
            hf_transpose(y, x, p->shape[0], p->shape[1]);
        else
            place_heads(y, x, a, i, p->shape[1]);
    }
    free(x);
    return st;
}

static status_t write_tensor(struct safetensors_writer *w, struct checkpoint_source *s,
                             const struct arch *a, const struct hf_tensor *t)
{
    const int64_t n = elements(t);
    float *y = malloc((size_t)n * sizeof *y);
    status_t st = y ? make_tensor(y, s, a, t)
                    : status_set(STATUS_NOMEM, "no memory for %s", t->name);
    if (st == STATUS_OK) st = safetensors_write(w, y, n);
    free(y);
    return st;
}

static status_t write_part(const char *folder, struct checkpoint_source *s,
                           const struct parts *parts, const struct part *part)
{
    char path[PATH_MAX];
    struct safetensors_writer *w = NULL;
    const int n = part->end - part->first;
    struct safetensors_tensor *tensors = calloc((size_t)n + 1, sizeof *tensors);
    if (!tensors) return status_set(STATUS_NOMEM, "no memory for a list of tensors");
    for (int i = 0; i < n; i++) {
        const struct hf_tensor *t = &parts->tensors[part->first + i];
        tensors[i] = (struct safetensors_tensor){.name = t->name,
                                                 .dtype = parts->dtype,
                                                 .n_dims = t->n_dims,
                                                 .shape = {t->shape[0], t->shape[1]}};
    }
    file_join(path, sizeof path, folder, part->name);
    status_t st = safetensors_create(&w, path, tensors, n);
    for (int i = part->first; i < part->end && st == STATUS_OK; i++)
        st = write_tensor(w, s, parts->arch, &parts->tensors[i]);
    if (st == STATUS_OK) st = safetensors_commit(w);
    safetensors_destroy(&w);
    free(tensors);
    return st;
}

static status_t write_index(const char *folder, const struct parts *parts)
{
    char path[PATH_MAX];
    json_t *map = json_object();
    for (int k = 0; k < parts->n; k++)
        for (int i = parts->items[k].first; i < parts->items[k].end; i++)
            json_object_set_new(map, parts->tensors[i].name,
                                json_string(parts->items[k].name));
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size",
                             (json_int_t)parts->bytes, "weight_map", map);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text) return status_set(STATUS_NOMEM, "%s: no memory for its index", folder);
    file_join(path, sizeof path, folder, "model.safetensors.index.json");
    const status_t st = file_replace(path, text, strlen(text));
    free(text);
    return st;
}

status_t hf_write(const char *folder, struct checkpoint_source *s, const struct arch *a,
                  enum safetensors_dtype dtype, int64_t shard_bytes)
{
    struct parts parts = {.arch = a, .dtype = dtype};
    status_t st = divide(&parts, s, shard_bytes);
    for (int k = 0; k < parts.n && st == STATUS_OK; k++)
        st = write_part(folder, s, &parts, &parts.items[k]);
    if (st == STATUS_OK && parts.n > 1) st = write_index(folder, &parts);
    free(parts.tensors);
    free(parts.items);
    return st;
}
