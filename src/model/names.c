#include "model/names.h"

static const struct names gpt2 = {.embedding = "transformer.wte",
                                  .positions = "transformer.wpe",
                                  .block = "transformer.h.%jd.",
                                  .final_norm = "transformer.ln_f",
                                  .head = "lm_head",
                                  .norm1 = "ln_1",
                                  .norm2 = "ln_2",
                                  .qkv = "attn.c_attn",
                                  .out = "attn.c_proj",
                                  .up = "mlp.c_fc",
                                  .down = "mlp.c_proj"};

/* qwen2 and smollm3 are named like llama */
static const struct names llama = {.embedding = "model.embed_tokens",
                                   .block = "model.layers.%jd.",
                                   .final_norm = "model.norm",
                                   .head = "lm_head",
                                   .norm1 = "input_layernorm",
                                   .norm2 = "post_attention_layernorm",
                                   .q = "self_attn.q_proj",
                                   .k = "self_attn.k_proj",
                                   .v = "self_attn.v_proj",
                                   .out = "self_attn.o_proj",
                                   .gate = "mlp.gate_proj",
                                   .up = "mlp.up_proj",
                                   .down = "mlp.down_proj"};

static const struct names olmo2 = {.embedding = "model.embed_tokens",
                                   .block = "model.layers.%jd.",
                                   .final_norm = "model.norm",
                                   .head = "lm_head",
                                   .norm1 = "post_attention_layernorm",
                                   .norm2 = "post_feedforward_layernorm",
                                   .q = "self_attn.q_proj",
                                   .k = "self_attn.k_proj",
                                   .v = "self_attn.v_proj",
                                   .q_norm = "self_attn.q_norm",
                                   .k_norm = "self_attn.k_norm",
                                   .out = "self_attn.o_proj",
                                   .gate = "mlp.gate_proj",
                                   .up = "mlp.up_proj",
                                   .down = "mlp.down_proj"};

/* q, k and v are one matrix there, head by head (checkpoint/hf_names.c puts them together). */
static const struct names neox = {.embedding = "gpt_neox.embed_in",
                                  .block = "gpt_neox.layers.%jd.",
                                  .final_norm = "gpt_neox.final_layer_norm",
                                  .head = "embed_out",
                                  .norm1 = "input_layernorm",
                                  .norm2 = "post_attention_layernorm",
                                  .q = "attention.query",
                                  .k = "attention.key",
                                  .v = "attention.value",
                                  .out = "attention.dense",
                                  .up = "mlp.dense_h_to_4h",
                                  .down = "mlp.dense_4h_to_h"};

const struct names *names_of(const struct arch *a)
{
    switch (a->names) {
    case ARCH_NAMES_GPT2:
        return &gpt2;
    case ARCH_NAMES_OLMO2:
        return &olmo2;
    case ARCH_NAMES_NEOX:
        return &neox;
    case ARCH_NAMES_LLAMA:
        break;
    }
    return &llama;
}
