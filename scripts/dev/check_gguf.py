#!/usr/bin/env python3
"""Give llama.cpp's converter a model of each family as transformers saved it and as yoke exported it.

usage: check_gguf.py LLAMA_CPP TOKENIZER_JSON [PYTHON [YOKE]]      (needs: pip install torch transformers)

LLAMA_CPP is a source tree with convert_hf_to_gguf.py and gguf-py: a checkout, or vendor/llama.cpp in the source
archive of llama-cpp-python.  TOKENIZER_JSON is one that the converter knows, GPT-2's for example: it
recognises tokenizers by what they make of a text.  The models are random, with as many tokens as that has.
PYTHON is an interpreter with the converter's own requirements, which name an older transformers.
Both files must have the same keys and values and the same tensors, bit by bit, but for names and the
model card.  Ends with the line "gguf: K of N equal".
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers as tf
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../fixtures"))
from make_hf_fixtures import rope  # noqa: E402

END = "<|endoftext|>"
CARD = ("general.", "GGUF.")  # where the model is from: folder names, model card


def models(vocab, eos):
    ends = {"vocab_size": vocab, "bos_token_id": eos, "eos_token_id": eos}
    sizes = {**ends, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4,
             "max_position_embeddings": 64, "num_attention_heads": 6, "pad_token_id": None}
    heads = {"num_key_value_heads": 3, "head_dim": 8}
    llama3 = rope(5e5, rope_type="llama3", factor=8.0, original_max_position_embeddings=16,
                  low_freq_factor=1.0, high_freq_factor=4.0)
    yield "gpt2", tf.GPT2LMHeadModel, tf.GPT2Config(**ends, n_positions=64, n_embd=48, n_layer=2, n_head=6)
    yield "llama", tf.LlamaForCausalLM, tf.LlamaConfig(
        **sizes, **heads, tie_word_embeddings=False, rope_parameters=rope(1e4))
    yield "llama, tied, llama3", tf.LlamaForCausalLM, tf.LlamaConfig(
        **sizes, **heads, tie_word_embeddings=True, rope_parameters=llama3)
    yield "qwen2", tf.Qwen2ForCausalLM, tf.Qwen2Config(
        **sizes, **heads, tie_word_embeddings=False, rope_parameters=rope(1e6))
    yield "olmo2", tf.Olmo2ForCausalLM, tf.Olmo2Config(
        **sizes, **heads, tie_word_embeddings=False, rope_parameters=rope(5e5))
    yield "smollm3", tf.SmolLM3ForCausalLM, tf.SmolLM3Config(
        **sizes, **heads, tie_word_embeddings=True, rope_parameters=rope(5e6))
    yield "gpt_neox", tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(
        **sizes, tie_word_embeddings=False, rope_parameters={**rope(1e4), "partial_rotary_factor": 0.25})


def save_tokenizer(folder, tokenizer_json):
    """Under a class that old and new versions of transformers know."""
    shutil.copy(tokenizer_json, os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}, f)


def add_published(folder):
    """What published files have and the converter reads, but transformers does not save."""
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    if config["model_type"] == "gpt2":
        config["n_ctx"] = config["n_positions"]
    if config["model_type"] == "gpt_neox":
        config["rotary_pct"] = config["rope_parameters"]["partial_rotary_factor"]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)


def convert(python, llama_cpp, folder, out):
    done = subprocess.run(
        [python, os.path.join(llama_cpp, "convert_hf_to_gguf.py"), folder, "--outfile", out,
         "--outtype", "f32"], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    return done.returncode == 0


def contents(gguf, path):
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith(CARD)}
    return keys, {t.name: (t.tensor_type, t.shape.tolist(), t.data.tobytes()) for t in reader.tensors}


def differences(a, b):
    return [name for name in sorted(a.keys() | b.keys()) if name not in a or name not in b or a[name] != b[name]]


def check(gguf, convert_with, yoke, work, model, tokenizer_json):
    original, run, export = (os.path.join(work, name) for name in ("original", "run", "export"))
    model.save_pretrained(original)
    save_tokenizer(original, tokenizer_json)
    add_published(original)
    subprocess.run([yoke, "import", original, run], check=True, capture_output=True)
    subprocess.run([yoke, "export", run, export], check=True, capture_output=True)
    files = [os.path.join(work, name) for name in ("original.gguf", "export.gguf")]
    if not all([convert(*convert_with, folder, out) for folder, out in zip((original, export), files)]):
        return "refused", 0
    (keys, tensors), (other_keys, other_tensors) = (contents(gguf, f) for f in files)
    bad = differences(keys, other_keys) + differences(tensors, other_tensors)
    return ", ".join(bad), len(tensors)


def main():
    llama_cpp, tokenizer_json = sys.argv[1:3]
    python = sys.argv[3] if len(sys.argv) > 3 else sys.executable
    yoke = sys.argv[4] if len(sys.argv) > 4 else os.path.join(HERE, "../../build/yoke")
    sys.path.insert(0, os.path.join(llama_cpp, "gguf-py"))
    import gguf
    tokenizer = Tokenizer.from_file(tokenizer_json)
    torch.manual_seed(1)
    equal = n = 0
    for name, kind, config in models(tokenizer.get_vocab_size(), tokenizer.token_to_id(END)):
        with tempfile.TemporaryDirectory() as work:
            bad, n_tensors = check(gguf, (python, llama_cpp), yoke, work, kind(config), tokenizer_json)
        print(f"{name}: {'different: ' + bad if bad else f'{n_tensors} tensors equal'}", flush=True)
        equal += not bad
        n += 1
    print(f"gguf: {equal} of {n} equal")
    return equal != n


if __name__ == "__main__":
    sys.exit(main())
