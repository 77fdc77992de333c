#!/usr/bin/env python3
"""Compare `yoke tokenizer encode` with Hugging Face `tokenizers`, id by id.

usage: compare_tokenizers.py YOKE TEXT TOKENIZER.json...

TEXT is any English text; to it come texts made of hard fragments, random characters, and every
assigned character between letters, digits and spaces.  Prints what differs and leaves with 1.
Development only.
"""
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer

FRAGMENTS = ["'s", "'S", "'\u017f", "'ll", "'LL", "'re", "'d", "I'm", "\u00e9", "e\u0301",
             "\u6f22\u5b57", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\u0627\u0644", "\u05e2\u05d1",
             "\u0e44\u0e17\u0e22", "\u0939\u093f\u0928\u094d\u0926\u0940", "\U0001f600",
             "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u200d", "\ufe0f", "1", "12", "123", "1234",
             "\u00bd", "\u00b2", "\u2167", "\u0663", "  ", "   ", " ", "\t", "\n", "\n\n", "\r\n", "\r",
             "\u2028", "\u2029", "\x85", "\xa0", "\u3000", "\u180e", "\u200b", "\ufeff", "\0", "\x1f",
             "\x7f", "<|endoftext|>", "<|endoftext|", "|||IP_ADDRESS|||", "_", "--", "...", "!?", "a",
             "Z", "word", " the", "\u1680", "\u2003", "\u212a", "\u00df", "\u0130", "\ufb01",
             "\U0010ffff", "\ue000", "\u0378"]


def make_texts(path):
    rng = random.Random(1)
    with open(path, encoding="utf-8") as f:
        texts = [f.read()]
    for _ in range(400):
        texts.append("".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 30))))
    for _ in range(100):
        points = (rng.randrange(rng.choice([0x80, 0x3000, 0x110000])) for _ in range(40))
        texts.append("".join(chr(c) for c in points if not 0xD800 <= c < 0xE000))
    assigned = [chr(c) for c in range(0x110000)
                if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs")]
    texts.append("".join(f"a{c} {c}{c} 1{c}" for c in assigned))
    texts.append("".join(f"{c}'s" for c in assigned))
    return texts


def yoke_ids(yoke, tokenizer, text):
    r = subprocess.run([yoke, "tokenizer", "encode", "--tokenizer", tokenizer], check=True,
                       input=text.encode(), stdout=subprocess.PIPE)
    return [int(word) for word in r.stdout.split()]


def main(yoke, text, tokenizers):
    texts = make_texts(text)
    n_differ = 0
    for path in tokenizers:
        reference = Tokenizer.from_file(path)
        reference.no_truncation()
        reference.no_padding()
        differ = [t for t in texts
                  if reference.encode(t, add_special_tokens=False).ids != yoke_ids(yoke, path, t)]
        for t in differ[:5]:
            print(f"{path}: {t[:80]!r}")
        print(f"{path}: {len(texts)} texts, {len(differ)} differ")
        n_differ += len(differ)
    return 1 if n_differ else 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
