#!/usr/bin/env bash
# Damaged token files, tokenizers and texts are refused by the commands that read them: one line
# that names the file, exit code 4 on every rank, nothing touched.   @timeout 180
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs

train=(train good.yaml)
documents=$(region world/train.h5 1) tokens=$(region world/train.h5 2)
bytes=$(wc -c <world/train.h5)

# ---- token files: cut off in every section ------------------------------------------------
damaged launched 4 'train.h5: is empty' train.h5 ': >"$f"' "${train[@]}"
damaged launched 4 'train.h5: is not a file written by yoke' train.h5 'cut_at "$f" 100' "${train[@]}"
damaged alone 4 'train.h5: is damaged: has 512 bytes' train.h5 'cut_at "$f" 512' "${train[@]}"
damaged alone 4 'train.h5: is damaged: has 600 bytes' train.h5 'cut_at "$f" 600' "${train[@]}"
damaged alone 4 'train.h5: is damaged: has' train.h5 'cut_at "$f" $((documents + 99))' "${train[@]}"
damaged launched 4 'train.h5: is damaged: has' train.h5 'cut_at "$f" $((tokens + 99))' "${train[@]}"
damaged alone 4 "sealed with $bytes" train.h5 'cut_at "$f" $((bytes - 1))' "${train[@]}"
damaged alone 4 "sealed with $bytes" train.h5 'echo >>"$f"' "${train[@]}"

# ---- one bit turned ------------------------------------------------------------------------
seal='train.h5: is damaged: its bytes do not match its seal'
damaged launched 4 'train.h5: is not a file written by yoke' train.h5 'flip "$f" 0' "${train[@]}"
damaged launched 4 'train.h5: is damaged: its seal cannot be read' train.h5 'flip "$f" 40' "${train[@]}"
damaged launched 4 "$seal" train.h5 'flip "$f" 512' "${train[@]}"
damaged alone 4 "$seal" train.h5 'flip "$f" 3000' "${train[@]}"
damaged alone 4 "$seal" train.h5 'flip "$f" $((documents - 1))' "${train[@]}"
damaged launched 4 'is damaged: /documents' train.h5 'flip "$f" $((documents + 8))' "${train[@]}"
damaged launched 4 'is damaged: /tokens' train.h5 'flip "$f" $((tokens + 1000))' "${train[@]}"
damaged alone 4 'is damaged: /tokens' train.h5 'flip "$f" $((bytes - 2))' inspect --verify train.h5
damaged launched 4 'valid.h5: is damaged: /tokens' valid.h5 \
    'flip "$f" $(($(region "$f" 2) + 100))' "${train[@]}"

# ---- something else in its place -----------------------------------------------------------
damaged launched 3 'data.train: train.h5: is a folder without token files' train.h5 'rm "$f"; mkdir "$f"' "${train[@]}"
damaged launched 3 'data.train: train.h5: does not exist' train.h5 'rm "$f"' "${train[@]}"
damaged launched 4 'train.h5: is not a file written by yoke' train.h5 'cp world/text.txt "$f"' "${train[@]}"
damaged alone 4 'train.h5: is not a regular file' train.h5 'rm "$f"; mkfifo "$f"' "${train[@]}"
damaged alone 4 'train.h5: is not a file written by yoke' train.h5 'cp world/t.json "$f"' inspect train.h5
printf 'one\n' >world/short.txt
(cd world && "$YOKE" tokenize --tokenizer t.json --out short.h5 short.txt >../said/out)
refused launched 4 'a sequence of length 16 needs 17' train good.yaml --set data.train=short.h5

# ---- token files and tokenizers that do not go together ------------------------------------
(cd world
 "$YOKE" tokenizer train --vocab 290 --out other.json text.txt
 "$YOKE" tokenize --tokenizer other.json --out other.h5 text.txt) >said/out
refused launched 4 'different tokenizers' train good.yaml --set data.validation=other.h5
refused launched 4 'need the same tokenizer' train good.yaml --set 'data.train=[train.h5, other.h5]'
refused launched 4 'train.h5: has 300 token ids, but model.vocab_size is 299' \
    train good.yaml --set model.vocab_size=299
refused launched 4 'train.h5: was not made with data.tokenizer other.json' \
    train good.yaml --set data.tokenizer=other.json

# ---- tokenizers ----------------------------------------------------------------------------
encode=(tokenizer encode --tokenizer t.json ox)
tokenize=(tokenize --tokenizer t.json --out new.h5 text.txt)
damaged launched 4 'was not made with data.tokenizer t.json' t.json ': >"$f"' "${train[@]}"
damaged launched 4 'was not made with data.tokenizer t.json' t.json 'flip "$f" 3000' "${train[@]}"
damaged alone 4 't.json' t.json ': >"$f"' "${encode[@]}"
damaged alone 4 't.json' t.json 'cut_at "$f" 50' "${encode[@]}"
damaged alone 4 't.json' t.json 'cut_at "$f" 3000' "${tokenize[@]}"
damaged alone 4 't.json' t.json 'cut_at "$f" $(($(wc -c <"$f") - 3))' "${tokenize[@]}"
damaged alone 4 't.json' t.json 'echo "no JSON" >"$f"' "${tokenize[@]}"
damaged alone 4 't.json' t.json 'echo "[1, 2]" >"$f"' inspect t.json
damaged alone 4 't.json: model.type' t.json 'sed -i "s/\"BPE\"/\"WordPiece\"/" "$f"' "${encode[@]}"
damaged alone 4 't.json' t.json 'sed -i "s/\"merges\": *\[/&\"qqq zzz\",/" "$f"' "${encode[@]}"
damaged alone 4 't.json' t.json 'sed -i "s/\"ByteLevel\"/\"Metaspace\"/" "$f"' "${encode[@]}"
damaged alone 6 't.json' t.json 'rm "$f"; mkdir "$f"' "${encode[@]}"
refused alone 6 'none.json' tokenizer encode --tokenizer none.json ox
refused alone 2 'id: 300' tokenizer decode --tokenizer t.json 300

# ---- texts ---------------------------------------------------------------------------------
printf '{"text": "fine"}\n{"txt": "bad"}\n' >world/bad.jsonl
gzip -c world/text.txt | head -c 500 >world/cut.txt.gz
refused alone 4 'bad.jsonl:2' tokenize --tokenizer t.json --out new.h5 bad.jsonl
refused alone 4 'cut.txt.gz: the gzip data is cut off' tokenize --tokenizer t.json --out new.h5 cut.txt.gz
refused alone 6 'none.txt' tokenize --tokenizer t.json --out new.h5 none.txt
refused alone 4 'bad.jsonl:2' tokenizer train --vocab 300 --out t.json bad.jsonl
echo "$cases refusals"
