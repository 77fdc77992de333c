/* Weights as a Hugging Face folder. */
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_impl.h"
#include "core/file.h"

/* Parameters [first, end) are in one file. */
struct part {
    int first, end;
    char name[64];
};

struct parts {
    struct part *items;
    int n;
    int64_t bytes; /* of all tensors */
};

static int64_t tensor_bytes(const struct checkpoint_param *p,
                            enum safetensors_dtype dtype)
{
    return checkpoint_param_elements(p) * (dtype == SAFETENSORS_F32 ? 4 : 2);
}

static status_t divide(struct parts *parts, const struct checkpoint_source *s,
                       enum safetensors_dtype dtype, int64_t shard_bytes)
{
    int64_t bytes = 0;
    *parts =
        (struct parts){.items = calloc((size_t)s->n_params + 1, sizeof *parts->items)};
    if (!parts->items) return status_set(STATUS_NOMEM, "no memory for a list of files");
    for (int i = 0; i < s->n_params; i++) {
        const int64_t n = tensor_bytes(&s->params[i], dtype);
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

static void describe(struct safetensors_tensor *t, const struct arch *a,
                     const struct checkpoint_param *p, enum safetensors_dtype dtype)
{
    const bool turned = hf_transposed(a, p);
    *t = (struct safetensors_tensor){.name = p->name,
                                     .dtype = dtype,
                                     .n_dims = p->n_dims,
                                     .shape = {p->shape[turned], p->shape[!turned]}};
}

static status_t write_tensor(struct safetensors_writer *w, struct checkpoint_source *s,
                             const struct arch *a, int i)
{
    const struct checkpoint_param *p = &s->params[i];
    const int64_t n = checkpoint_param_elements(p);
    const bool turned = hf_transposed(a, p);
    float *x = malloc((size_t)n * sizeof *x);
    float *y = turned ? malloc((size_t)n * sizeof *y) : x;
    status_t st = x && y ? s->read(s, i, CHECKPOINT_MASTER, x)
                         : status_set(STATUS_NOMEM, "no memory for %s", p->name);
    if (st == STATUS_OK && turned) hf_transpose(y, x, p->shape[0], p->shape[1]);
    if (st == STATUS_OK) st = safetensors_write(w, y, n);
    if (turned) free(y);
    free(x);
    return st;
}

static status_t write_part(const char *folder, struct checkpoint_source *s,
                           const struct arch *a, enum safetensors_dtype dtype,
                           const struct part *part)
{
    char path[PATH_MAX];
    struct safetensors_writer *w = NULL;
    const int n = part->end - part->first;
    struct safetensors_tensor *tensors = calloc((size_t)n + 1, sizeof *tensors);
    if (!tensors) return status_set(STATUS_NOMEM, "no memory for a list of tensors");
    for (int i = 0; i < n; i++)
        describe(&tensors[i], a, &s->params[part->first + i], dtype);
    file_join(path, sizeof path, folder, part->name);
    status_t st = safetensors_create(&w, path, tensors, n);
    for (int i = part->first; i < part->end && st == STATUS_OK; i++)
        st = write_tensor(w, s, a, i);
    if (st == STATUS_OK) st = safetensors_commit(w);
    safetensors_destroy(&w);
    free(tensors);
    return st;
}

static status_t write_index(const char *folder, const struct checkpoint_source *s,
                            const struct parts *parts)
{
    char path[PATH_MAX];
    json_t *map = json_object();
    for (int k = 0; k < parts->n; k++)
        for (int i = parts->items[k].first; i < parts->items[k].end; i++)
            json_object_set_new(map, s->params[i].name,
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
    struct parts parts;
    status_t st = divide(&parts, s, dtype, shard_bytes);
    for (int k = 0; k < parts.n && st == STATUS_OK; k++)
        st = write_part(folder, s, a, dtype, &parts.items[k]);
    if (st == STATUS_OK && parts.n > 1) st = write_index(folder, s, &parts);
    free(parts.items);
    return st;
}
