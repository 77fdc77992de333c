/* arch - what makes a model family, as data.  Nothing else in the runtime asks for a family's
 * name. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum arch_norm { ARCH_LAYERNORM, ARCH_RMSNORM };
enum arch_position { ARCH_LEARNED, ARCH_ROTARY };
/* GELU in its tanh form or, GELU_ERF, as the integral it stands for */
enum arch_activation { ARCH_GELU, ARCH_GELU_ERF, ARCH_SWIGLU };

/* A block of the residual stream x, of attention a and feed-forward f:
 *   norm first   x2 = x + a(norm1(x))   y = x2 + f(norm2(x2))
 *   norm last    x2 = x + norm1(a(x))   y = x2 + norm2(f(x2))
 *   parallel     y = x + a(norm1(x)) + f(norm2(x)) */
enum arch_block { ARCH_NORM_FIRST, ARCH_NORM_LAST, ARCH_PARALLEL };

/* Initial standard deviations, of matrices that write into the residual stream and of all others:
 *   scaled   init_std / sqrt(2 layers), init_std (Radford et al. 2019, section 2.3)
 *   plain    init_std for all
 *   small    2 / (layers sqrt(hidden)), sqrt(2 / (5 hidden)) (GPT-NeoX; Nguyen and Salazar 2019,
 *            arXiv:1910.05895, section 2.2) */
enum arch_init { ARCH_INIT_SCALED, ARCH_INIT_PLAIN, ARCH_INIT_SMALL };

/* How rotary frequencies are stretched to sequences longer than they were trained on. */
enum arch_rope_scaling {
    ARCH_ROPE_NONE,
    ARCH_ROPE_LINEAR,
    ARCH_ROPE_LLAMA3,
    ARCH_ROPE_YARN
};

/* Which names transformers gives the parameters: model/names.h. */
enum arch_names { ARCH_NAMES_LLAMA, ARCH_NAMES_GPT2, ARCH_NAMES_OLMO2, ARCH_NAMES_NEOX };

struct arch {
    int64_t n_layers, hidden, n_heads, n_kv_heads, head_size, ffn;
    int64_t vocab_size;
    int64_t max_positions; /* longest sequence; rows of the learned position table */
    enum arch_norm norm;
    enum arch_block block;
    enum arch_position position;
    enum arch_activation activation;
    bool qkv_bias, out_bias; /* of the attention's linear layers */
    bool mlp_bias;           /* of all of the feed-forward half's */
    bool qk_norm; /* RMSNorm of queries and keys, each over all heads, before rotary */
    bool tied_embeddings; /* the LM head is the embedding */
    double norm_eps;
    double rope_theta, rope_fraction; /* of a head's dims that are turned */
    int64_t rope_skip; /* every so many layers one is not turned; 0: none */
    enum arch_rope_scaling rope_scaling;
    double rope_factor;
    int64_t rope_original;      /* positions before scaling; llama3 and yarn */
    double rope_low, rope_high; /* llama3: frequency factors; yarn: beta slow and fast */
    double rope_attention;      /* yarn: of cosines and sines; 0: 0.1 ln(factor) + 1 */
    enum arch_init init;
    double init_std, init_cutoff; /* weights stay within so many deviations; 0: all do */
    enum arch_names names;
};

/* Set the knobs that the family fixes ("gpt2", "llama", ...); sizes are left alone.
 * STATUS_CONFIG lists the families. */
MUST_USE status_t arch_family(struct arch *a, const char *family);
/* Names of the families, NULL-terminated. */
const char *const *arch_families(void);

/* Is every size possible with every other?  STATUS_CONFIG names the two keys that are not. */
MUST_USE status_t arch_check(const struct arch *a);

/* Dims of a head that are turned, even; and whether those of this layer are. */
int64_t arch_rope_dims(const struct arch *a);
bool arch_layer_turns(const struct arch *a, int64_t layer);

/* Initial standard deviation of a matrix. */
double arch_init_std(const struct arch *a, bool writes_residual);

int64_t arch_parameters(const struct arch *a);
/* Model flops of forward and backward for one token of a sequence of T tokens:
 * 6 per matrix parameter + 6 L C T for causal attention (Kaplan et al. 2020, arXiv:2001.08361,
 * section 2.1, with the causal half counted once). */
double arch_flops_per_token(const struct arch *a, int64_t T);
