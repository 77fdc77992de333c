#!/usr/bin/env python3
"""Make a Hugging Face folder with the shapes of OLMo 2 13B, in bf16, whose weights take no disk.

usage: make_sparse_model.py FOLDER [LAYERS]        (standard library only)

Files of up to 5 GB and an index, as the published model has them; the data are holes, which read as
zeros.  LAYERS: of the 40.  For measuring what an import needs:

    scripts/dev/make_sparse_model.py /tmp/13b && /usr/bin/time -v build/yoke import /tmp/13b /tmp/run
"""

import json
import os
import sys

HIDDEN, FFN, VOCAB, HEADS = 5120, 13824, 100352, 40
FILE_BYTES = 5 * 10**9


def tensors(layers):
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    for i in range(layers):
        block = f"model.layers.{i}."
        for name in "qkvo":
            yield f"{block}self_attn.{name}_proj.weight", [HIDDEN, HIDDEN]
        for name in "qk":
            yield f"{block}self_attn.{name}_norm.weight", [HIDDEN]
        for name in ("gate", "up"):
            yield f"{block}mlp.{name}_proj.weight", [FFN, HIDDEN]
        yield f"{block}mlp.down_proj.weight", [HIDDEN, FFN]
        for name in ("attention", "feedforward"):
            yield f"{block}post_{name}_layernorm.weight", [HIDDEN]
    yield "model.norm.weight", [HIDDEN]
    yield "lm_head.weight", [VOCAB, HIDDEN]


def n_bytes(shape):
    size = 2
    for n in shape:
        size *= n
    return size


def files(layers):
    """Lists of tensors, as many as fit."""
    part, size = [], 0
    for name, shape in tensors(layers):
        if part and size + n_bytes(shape) > FILE_BYTES:
            yield part
            part, size = [], 0
        part.append((name, shape))
        size += n_bytes(shape)
    yield part


def write_file(path, part):
    header, at = {}, 0
    for name, shape in part:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n_bytes(shape)]}
        at += n_bytes(shape)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + at)


def main():
    folder, layers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40
    os.makedirs(folder)
    config = {
        "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": VOCAB, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6, "rope_theta": 500000, "rope_scaling": None, "hidden_act": "silu",
        "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
    parts = list(files(layers))
    weight_map = {}
    for i, part in enumerate(parts):
        name = f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        write_file(os.path.join(folder, name), part)
        weight_map.update({tensor: name for tensor, _ in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f)


if __name__ == "__main__":
    main()
