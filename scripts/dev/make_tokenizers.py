#!/usr/bin/env python3
"""Make the tokenizer.json of Llama 3, Qwen 2 and cosmo2 where the published files are not at hand.

usage: make_tokenizers.py OUT --llama3 tokenizer.model --qwen2 qwen.tiktoken --text FILE...

The vocabularies of the first two are real: `tokenizer.model` lies in the PyPI package
llama-models (llama_models/llama3/), `qwen.tiktoken` in dashscope (dashscope/resources/), and
pattern, normaliser and added tokens are those of the published tokenizer.json.  cosmo2's is a
stand-in: the published structure (single digits, then the GPT-2 pattern, 49,152 tokens), trained
on the texts given.  Development only.
"""
import argparse
import base64
import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
          "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
          "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
LLAMA3 += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]
QWEN2 = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
         "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
         "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
QWEN2_ORDINARY = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
                  "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
COSMO2 = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>",
          "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>",
          "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>",
          "<jupyter_script>", "<empty_output>"]


def alphabet():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def read_ranks(path):
    ranks = {}
    with open(path, "rb") as f:
        for line in f:
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
    return ranks


def all_splits(ranks):
    """Every pair of tokens that makes a token, as the published Llama 3 file has them."""
    merges = []
    for token in sorted(ranks, key=ranks.get):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))
                 if token[:i] in ranks and token[i:] in ranks]
        merges += sorted(pairs, key=lambda p: (ranks[p[0]], ranks[p[1]]))
    return merges


def last_splits(ranks):
    """The one pair that a token is made of by merges of lower rank, as Qwen's files have it."""
    merges = []
    for token in sorted(ranks, key=ranks.get):
        parts = [token[i:i + 1] for i in range(len(token))]
        while len(parts) > 2:
            n, i = min((ranks.get(parts[i] + parts[i + 1], 1 << 30), i) for i in range(len(parts) - 1))
            if n >= ranks[token]:
                break
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append(tuple(parts))
    return merges


def added(first, contents, special):
    return [{"id": first + i, "content": c, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": special} for i, c in enumerate(contents)]


def byte_level(**flags):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **flags}


def write(path, ranks, merges, digits, normalizer, post_processor, added_tokens, **model):
    names = alphabet()
    name = {token: "".join(names[b] for b in token) for token in ranks}
    split = {"type": "Split", "pattern": {"Regex": GPT4.format(digits=digits)}, "behavior": "Isolated",
             "invert": False}
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens,
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]},
            "post_processor": post_processor, "decoder": byte_level(),
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                      "byte_fallback": False, **model,
                      "vocab": {name[t]: r for t, r in ranks.items()},
                      "merges": [f"{name[a]} {name[b]}" for a, b in merges]}}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(file, f, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--llama3", required=True)
    parser.add_argument("--qwen2", required=True)
    parser.add_argument("--text", nargs="+", required=True)
    a = parser.parse_args()

    ranks = read_ranks(a.llama3)
    begin = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}
    template = {"type": "TemplateProcessing",
                "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, begin,
                         {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [len(ranks)],
                                                         "tokens": ["<|begin_of_text|>"]}}}
    write(f"{a.out}/llama3.json", ranks, all_splits(ranks), r"\p{N}{1,3}", None,
          {"type": "Sequence", "processors": [byte_level(), template]},
          added(len(ranks), LLAMA3, True), ignore_merges=True)

    ranks = read_ranks(a.qwen2)
    write(f"{a.out}/qwen2.json", ranks, last_splits(ranks), r"\p{N}", {"type": "NFC"},
          byte_level(trim_offsets=False, use_regex=False),
          added(len(ranks), QWEN2, True) + added(len(ranks) + len(QWEN2), QWEN2_ORDINARY, False))

    cosmo2 = Tokenizer(models.BPE())
    cosmo2.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False)])
    cosmo2.decoder = decoders.ByteLevel()
    cosmo2.train(a.text, trainers.BpeTrainer(vocab_size=49152, special_tokens=COSMO2, show_progress=False,
                                             initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    cosmo2.save(f"{a.out}/cosmo2.json")


if __name__ == "__main__":
    main()
