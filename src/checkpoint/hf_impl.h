/* Inside src/checkpoint, of hf_*.c only. */
#pragma once

#include <jansson.h>
#include <limits.h>

#include "checkpoint/hf.h"
#include "model/param.h"

/* The architecture that a config.json describes; `path` is for messages. */
MUST_USE status_t hf_config_parse(const char *path, const json_t *root, struct arch *a,
                                  const char **family);

/* A tensor of a Hugging Face file, and the parameters it holds: one as it is or transposed
 * (transformers' gpt2 multiplies by [in, out], "Conv1D"), or queries, keys and values, head by
 * head (gpt_neox). */
struct hf_tensor {
    char name[96];
    int n_dims;
    int64_t shape[2]; /* in the file */
    bool transposed;
    int n_parts;
    int parts[3]; /* parameters */
};

/* Where a tensor is. */
struct hf_place {
    const struct safetensors *file;
    const struct safetensors_tensor *tensor;
};

struct hf {
    char folder[PATH_MAX];
    struct arch arch;
    struct safetensors **files;
    int n_files;
    struct checkpoint_param *params;
    int n_params;
    struct hf_tensor *tensors;
    struct hf_place *places; /* of the tensors */
    int n_tensors;
};

/* All tensors for the parameters of a model of architecture `a`, in their order; *list is the
 * caller's to free.  Returns how many; -1: no memory. */
int hf_list_tensors(struct hf_tensor **list, const struct arch *a,
                    const struct checkpoint_param *params, int n_params);

/* Is `name` that tensor?  Files of bare models leave out what is in front of the first dot. */
bool hf_is(const struct hf_tensor *t, const char *name);

/* Tensors that are no parameters: masks and tables that transformers once saved, and a head that is
 * the embedding. */
bool hf_ignored(const struct arch *a, const char *name);

/* y [cols, rows] = transpose of x [rows, cols]. */
void hf_transpose(float *y, const float *x, int64_t rows, int64_t cols);
