#!/usr/bin/env python3
"""Compare `yoke tokenize` with Hugging Face `tokenizers`: every id, and the speed.

usage: compare_tokenizers.py YOKE [--megabytes N] [--hard N] [--threads N] [--fast] [--text FILE]... TOKENIZER.json...

The documents are a mixture of what lies on a Debian machine (program source, manual pages and
translated messages in many languages, documentation), the texts given, and text that is hard on a
tokenizer.  Both sides get the same documents and as many threads; the ids compared are those of
encode_batch(documents, add_special_tokens=False).  yoke's time is that of the whole command, with
reading JSONL and writing the token file; Hugging Face's that of encode_batch on texts in memory.
With --fast encode_batch_fast, which makes no offsets, is timed too.
Leaves with 1 if an id differs.  Development only.
"""
import argparse
import glob
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time

SOURCES = ["/usr/include/**/*.h", "/usr/lib/python3*/**/*.py", "/usr/share/man/*/man*/*.gz",
           "/usr/share/man/man*/*.gz", "/usr/share/locale/*/LC_MESSAGES/*.mo", "/usr/share/perl/**/*.p[lm]",
           "/usr/share/vim/*/doc/*.txt", "/usr/share/doc/**/*.gz", "/usr/share/i18n/locales/*",
           "/usr/share/cmake*/**/*.cmake", "/usr/share/**/*.js", "/usr/share/**/*.el"]
FRAGMENTS = ["'s", "'S", "'\u017f", "'ll", "'LL", "'lL", "'re", "'Re", "'VE", "'m", "'d", "'D", "'T", "I'm",
             "'", "''", "\u2019s", "\u212a", "\u017f", "\u00e9", "e\u0301", "a\u0323\u0301", "a\u0301\u0323", "\u1e69",
             "\u0073\u0323\u0307", "\u0307\u0323", "\u212b", "\u2126", "\ufb01", "\u0958", "\u0915\u093c",
             "\u09c7\u09be", "\u1100\u1161", "\u1100\u1161\u11a8", "\uac00\u11a8", "\ud55c\uad6d\uc5b4", "\u11a8",
             "\u3131", "\u6f22\u5b57", "\u65e5\u672c\u8a9e", "\u304b\u3099", "\ufa10", "\U0002f800",
             "\u0627\u0644", "\u0644\u0627\u064b\u0651", "\u05e2\u05d1", "\u05d1\u05bc\u05b0", "\u0e44\u0e17\u0e22", "\u0e01\u0e33",
             "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0f71\u0f72", "\U0001f600", "\U0001f44d\U0001f3fd", "\u2764\ufe0f",
             "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u200d", "\ufe0f", "\u20e3", "1", "12", "123",
             "1234", "1234567", "3.14", "\u00bd", "\u00b2", "\u2167", "\u0663\u0664", "\u0967\u0968\u0969\u096a", "\uff11",
             "\U0001d7d8\U0001d7d9", "\u3007", "\u4e00", "  ", "   ", "       ", " " * 25, " ", "\t", "\t\t", "\n", "\n\n",
             "\n\n\n ", "\r\n", "\r\n\r\n", "\r", " \n ", "  \r\n\t", "\u2028", "\u2029", "\x85", "\xa0", "\xa0\xa0", "\u3000", "\u180e",
             "\u200b", "\ufeff", "\0", "\x1f", "\x7f", "\x0b", "\x0c", "<|endoftext|>", "<|endoftext|", "|endoftext|>",
             " <|endoftext|> ", "<|im_start|>user\n", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|im_<|im_end|>",
             "<|reserved_special_token_5|>", "<repo_name>", "<tool_call>", "|||IP_ADDRESS|||", "|||EMAIL_ADDRESS||",
             "_", "__", "--", "...", "!?", "?!\n", ".\r\n", "=\n\n", "/*", "*/", "://", "a", "Z", "word", " the", "The",
             "\u1680", "\u2003", "\u00df", "\u1e9e", "\u0130", "\u0131", "\u01c5", "\U0010ffff", "\ue000", "\ud7ff",
             "\ufffd", "\uffff", "\ufdd0", "\u0378", "\U000e0041", "\U0001f9ff"]


def read_text(path):
    if path.endswith(".mo"):
        import gettext
        with open(path, "rb") as f:
            return "\n".join(v for v in gettext.GNUTranslations(f)._catalog.values() if isinstance(v, str))
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        return f.read().decode("utf-8")


def found_documents(n_bytes, rng):
    """Up to n_bytes of documents, in turn from each of SOURCES."""
    lists = [sorted(glob.glob(p, recursive=True)) for p in SOURCES]
    for files in lists:
        rng.shuffle(files)
    while n_bytes > 0 and any(lists):
        for files in lists:
            taken = 0
            while files and taken < 40000 and n_bytes > 0:
                try:
                    text = read_text(files.pop())[:60000]
                except (OSError, UnicodeDecodeError, EOFError):
                    continue
                taken += len(text.encode())
                n_bytes -= len(text.encode())
                yield text


def hard_documents(n_bytes, rng):
    n_all = n_bytes
    planes = [0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000]
    while n_bytes > 0:
        kind, parts = rng.random(), []
        for _ in range(rng.randint(1, 600)):
            if kind < 0.6 or rng.random() < 0.3:
                parts.append(rng.choice(FRAGMENTS))
            else:
                c = rng.randrange(rng.choice(planes))
                if not 0xD800 <= c < 0xE000:
                    parts.append(chr(c) * rng.choice([1, 1, 1, 2, 3]))
        yield "".join(parts)
        n_bytes -= len("".join(parts).encode())
    # every character once, between letters, digits, spaces and marks
    every = [chr(c) for c in range(0x33480 if n_all else 0) if not 0xD800 <= c < 0xE000]
    for i in range(0, len(every), 4000):
        yield "".join(f"a{c} {c}{c} 1{c}" for c in every[i:i + 4000])
        yield "".join(f"'{c}\u0301 {c}\n" for c in every[i:i + 4000])


def make_documents(texts, n_bytes, n_hard):
    rng = random.Random(1)
    documents = []
    for path in texts:
        text = read_text(path)
        documents += [text[i:i + 50000] for i in range(0, len(text), 50000)]
    documents += found_documents(n_bytes - sum(len(t.encode()) for t in documents), rng)
    documents += hard_documents(n_hard, rng)
    documents = [t for t in documents if t]
    rng.shuffle(documents)
    return documents


def clock():
    """Seconds of the wall and of the processor, of this process and its children."""
    return time.perf_counter(), sum(os.times()[:4])


def since(start):
    return tuple(b - a for a, b in zip(start, clock()))


def rate(megabytes, seconds):
    return f"{megabytes / seconds[0]:.1f} MB/s ({seconds[1]:.1f} s of processor)"


def yoke_ids(yoke, tokenizer, path, threads, folder):
    import h5py
    out = f"{folder}/tokens.h5"
    command = [yoke, "tokenize", "--tokenizer", tokenizer, "--out", out, "--no-eos", "--threads", str(threads), path]
    start = clock()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = since(start)
    with h5py.File(out) as f:
        tokens, ends = f["tokens"][:], f["documents"][:]
    os.remove(out)
    return tokens, ends, seconds


def hf_ids(path, documents, names):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    seconds = {}
    for name in names:
        start = clock()
        encodings = getattr(tokenizer, name)(documents, add_special_tokens=False)
        seconds[name] = since(start)
    return [e.ids for e in encodings], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("yoke")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--megabytes", type=float, default=10, help="of text found and given")
    parser.add_argument("--hard", type=float, default=1, help="megabytes of hard text, 0: none")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(a.threads) # before `tokenizers` is imported
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    documents = make_documents(a.text, int(a.megabytes * 1e6), int(a.hard * 1e6))
    megabytes = sum(len(t.encode()) for t in documents) / 1e6
    n_wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/text.jsonl"
        with open(path, "w", encoding="utf-8") as f:
            for text in documents:
                f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        for tokenizer in a.tokenizers:
            name = os.path.basename(tokenizer).removesuffix(".json")
            try:
                tokens, ends, seconds = yoke_ids(a.yoke, tokenizer, path, a.threads, folder)
            except subprocess.CalledProcessError:
                print(f"tok {name}: refused")
                n_wrong += 1
                continue
            names = ["encode_batch_fast"] * a.fast + ["encode_batch"]
            want, hf_seconds = hf_ids(tokenizer, documents, names)
            starts = [0, *(int(e) for e in ends)][-len(documents) - 1:]
            wrong = [i for i, ids in enumerate(want) if tokens[starts[i]:starts[i + 1]].tolist() != ids]
            for i in wrong[:3]:
                got = tokens[starts[i]:starts[i + 1]].tolist()
                at = next((k for k, (x, y) in enumerate(zip(got, want[i])) if x != y), min(len(got), len(want[i])))
                print(f"tok {name}: document {i} of {len(documents[i])} characters, id {at}:",
                      got[at:at + 6], want[i][at:at + 6])
                if len(documents[i]) < 3000 or len(wrong) < 3:
                    print(documents[i][:400].encode("unicode_escape").decode())
            n_wrong += len(wrong)
            hf = ", ".join(f"{k} {rate(megabytes, v)}" for k, v in hf_seconds.items())
            ratios = [min(v[i] for v in hf_seconds.values()) / seconds[i] for i in (0, 1)]
            print(f"tok {name}: {megabytes:.1f} MB, {len(documents)} documents, "
                  f"{'ids equal' if not wrong else f'{len(wrong)} documents differ'}, yoke {rate(megabytes, seconds)}, "
                  f"hf {hf}, ratio {ratios[0]:.1f} ({ratios[1]:.1f} of processor)", flush=True)
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
