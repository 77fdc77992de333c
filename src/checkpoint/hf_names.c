#include <string.h>

#include "checkpoint/hf_impl.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool hf_transposed(const struct arch *a, const struct checkpoint_param *p)
{
    return a->hf_gpt2_names && p->n_dims == 2 && strstr(p->name, ".h.") != NULL;
}

bool hf_is(const struct arch *a, const char *name, const char *p)
{
    static const char prefix[] = "transformer.";
    const size_t n = sizeof prefix - 1;
    if (strcmp(name, p) == 0) return true;
    return a->hf_gpt2_names && strncmp(p, prefix, n) == 0 && strcmp(name, p + n) == 0;
}

bool hf_ignored(const struct arch *a, const char *name)
{
    if (a->tied_embeddings && strcmp(name, "lm_head.weight") == 0) return true;
    return ends_with(name, ".rotary_emb.inv_freq") ||
           (a->hf_gpt2_names &&
            (ends_with(name, ".attn.bias") || ends_with(name, ".attn.masked_bias")));
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
