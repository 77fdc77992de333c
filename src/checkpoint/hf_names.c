#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_impl.h"
#include "model/names.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Where `word` is in a parameter's name, followed by a dot; NULL: nowhere. */
static const char *find_word(const char *name, const char *word)
{
    const char *at = word ? strstr(name, word) : NULL;
    return at && at[strlen(word)] == '.' ? at : NULL;
}

static int find_param(const struct checkpoint_param *params, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(params[i].name, name) == 0) return i;
    return -1;
}

/* Queries, keys and values as one; `at` is where "attention.query" begins in the name of the
 * first. */
static void fuse(struct hf_tensor *t, const char *at, const struct names *names,
                 const struct checkpoint_param *params, int n_params)
{
    const char *const words[] = {names->q, names->k, names->v};
    char before[96], name[256];
    const char *suffix = at + strlen(names->q);
    const char *q = params[t->parts[0]].name;
    snprintf(before, sizeof before, "%.*s", (int)(at - q), q);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s%s", before, words[i], suffix);
        t->parts[i] = find_param(params, n_params, name);
    }
    snprintf(name, sizeof name, "%sattention.query_key_value%s", before, suffix);
    snprintf(t->name, sizeof t->name, "%.95s", name);
    t->n_parts = 3;
    t->shape[0] *= 3;
}

int hf_list_tensors(struct hf_tensor **list, const struct arch *a,
                    const struct checkpoint_param *params, int n_params)
{
    const struct names *names = names_of(a);
    const bool fused = a->names == ARCH_NAMES_NEOX;
    int n = 0;
    *list = calloc((size_t)n_params + 1, sizeof **list);
    if (!*list) return -1;
    for (int i = 0; i < n_params; i++) {
        const struct checkpoint_param *p = &params[i];
        if (fused && (find_word(p->name, names->k) || find_word(p->name, names->v)))
            continue;
        struct hf_tensor *t = &(*list)[n++];
        *t = (struct hf_tensor){.n_dims = p->n_dims,
                                .shape = {p->shape[0], p->shape[1]},
                                .n_parts = 1,
                                .parts = {i}};
        memcpy(t->name, p->name, sizeof t->name);
        t->transposed = a->names == ARCH_NAMES_GPT2 && p->n_dims == 2 &&
                        strstr(p->name, ".h.") != NULL;
        if (t->transposed) {
            t->shape[0] = p->shape[1];
            t->shape[1] = p->shape[0];
        }
        const char *q = fused ? find_word(p->name, names->q) : NULL;
        if (q) fuse(t, q, names, params, n_params);
    }
    return n;
}

bool hf_is(const struct hf_tensor *t, const char *name)
{
    static const char *const prefixes[] = {"transformer.", "model.", "gpt_neox."};
    if (strcmp(name, t->name) == 0) return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t n = strlen(prefixes[i]);
        if (strncmp(t->name, prefixes[i], n) == 0 && strcmp(name, t->name + n) == 0)
            return true;
    }
    return false;
}

bool hf_ignored(const struct arch *a, const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attn.bias",
                                       ".attn.masked_bias", ".attention.bias",
                                       ".attention.masked_bias"};
    char head[64];
    snprintf(head, sizeof head, "%s.weight", names_of(a)->head);
    if (a->tied_embeddings && strcmp(name, head) == 0) return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

void hf_transpose(float *y, const float *x, int64_t rows, int64_t cols)
{
    enum { TILE = 32 };
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < cols; j += TILE)
            for (int64_t r = i; r < rows && r < i + TILE; r++)
                for (int64_t c = j; c < cols && c < j + TILE; c++)
                    y[c * rows + r] = x[r * cols + c];
}
