#!/usr/bin/env python3
"""Make src/data/tokenizer_class_ranges.h: what Hugging Face `tokenizers` takes each character for.

usage: make_class_ranges.py > src/data/tokenizer_class_ranges.h    (then scripts/check_format.sh --fix)

The package is asked about every character, so that the classes are those of the Unicode versions
that its parts were built with, whichever they are.  Development only.
"""
import json
import unicodedata

import tokenizers
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

LETTER, NUMBER, NUMERIC, SPACE, WORD, ACTIVE = (1 << i for i in range(6))
EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def blocks():
    for i in range(0, len(EVERY), 4096):
        yield "".join(map(chr, EVERY[i:i + 4096]))


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for block in blocks() for piece, _ in split.pre_tokenize_str(block) for c in piece}


def numeric():
    """What the pre-tokenizer Digits splits off."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {ord(piece) for block in blocks() for piece, _ in digits.pre_tokenize_str("aa".join(block) + "aa")
            if len(piece) == 1}


def word():
    """What may not stand beside an added token that is a single word."""
    file = {"version": "1.0", "added_tokens": [
        {"id": 2, "content": "\x01", "single_word": True, "lstrip": False, "rstrip": False,
         "normalized": False, "special": False}],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}
    encodings = Tokenizer.from_str(json.dumps(file)).encode_batch(["\x01" + chr(c) for c in EVERY])
    return {c for c, e in zip(EVERY, encodings) if 2 not in e.ids}


def active():
    """What can change, move or join what is before it in NFC."""
    nfc = normalizers.NFC().normalize_str
    letter, lowest, highest = "\u0e01", "\u0334", "\u0345" # combining classes 0, 1 and 240

    def changes(text):
        return nfc(text) != text

    found = {c for c in EVERY if changes(chr(c)) or changes(letter + highest + chr(c)) or
             changes(letter + chr(c) + lowest)}
    for c in EVERY:
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (chr(int(p, 16)) for p in parts)
            if changes(first + second) and ord(first) not in found:
                found.add(ord(second))
    found |= {c for c in range(0x1100, 0x1200) if changes("\u1100" + chr(c)) or changes("\uac00" + chr(c))}
    return found


def main():
    sets = {LETTER: matched(r"\p{L}"), NUMBER: matched(r"\p{N}"), NUMERIC: numeric(), SPACE: matched(r"\s"),
            WORD: word(), ACTIVE: active()}
    print(f"/* Made by scripts/dev/make_class_ranges.py out of `tokenizers` {tokenizers.__version__}: the first character of "
          "each range and,\n * in the lowest byte, the classes (enum char_class) of its characters. */\n#pragma once\n\n"
          "#include <stdint.h>\n\nstatic const uint32_t class_ranges[] = {")
    last = None
    for c in range(0x110000):
        classes = sum(bit for bit, members in sets.items() if c in members)
        if classes != last:
            print(f"0x{c << 8 | classes:x},", end=" ")
        last = classes
    print("};")


if __name__ == "__main__":
    main()
