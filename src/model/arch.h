/* arch - what makes a model family, as data.  Nothing else in the runtime asks for a family's
 * name. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum arch_norm { ARCH_LAYERNORM, ARCH_RMSNORM };
enum arch_position { ARCH_LEARNED, ARCH_ROTARY };
enum arch_activation { ARCH_GELU, ARCH_SWIGLU };

struct arch {
    int64_t n_layers, hidden, n_heads, n_kv_heads, head_size, ffn;
    int64_t vocab_size;
    int64_t max_positions; /* longest sequence; rows of the learned position table */
    enum arch_norm norm;
    enum arch_position position;
    enum arch_activation activation;
    bool attention_bias, mlp_bias; /* on every linear of the block's half */
    bool tied_embeddings;          /* the LM head is the embedding */
    double norm_eps, rope_theta, init_std;
    bool hf_gpt2_names; /* parameter names of transformers' gpt2, else of llama */
};

/* Set the knobs that the family fixes ("gpt2", "llama"); sizes are left alone.
 * STATUS_CONFIG lists the families. */
MUST_USE status_t arch_family(struct arch *a, const char *family);
/* Names of the families, NULL-terminated. */
const char *const *arch_families(void);

/* Is every size possible with every other?  STATUS_CONFIG names the two keys that are not. */
MUST_USE status_t arch_check(const struct arch *a);

int64_t arch_parameters(const struct arch *a);
/* Model flops of forward and backward for one token of a sequence of T tokens:
 * 6 per matrix parameter + 6 L C T for causal attention (Kaplan et al. 2020, arXiv:2001.08361,
 * section 2.1, with the causal half counted once). */
double arch_flops_per_token(const struct arch *a, int64_t T);
