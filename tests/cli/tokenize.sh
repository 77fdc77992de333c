#!/usr/bin/env bash
# From text to token files with the binary: train a tokenizer, use it, and be refused.
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

# text of about 1 MB, in paragraphs of which no two are equal
awk 'BEGIN {
    srand(7)
    split("the of and to a in that it was he for on are with as his they be at one have", word)
    for (i = 0; i < 3000; i++) {
        for (k = 0; k < 60; k++) printf "%s%s", word[int(rand() * 21) + 1], k % 12 == 11 ? "\n" : " "
        printf "Number %d is not 1,%d; is it?\n\n", i, i * 7
    }
}' >text.txt
bytes=$(wc -c <text.txt)

rm -f t.json one.json
"$YOKE" tokenizer train --vocab 400 --out t.json text.txt >out 2>err
grep -q '^t.json: 400 tokens, 143 merges' out || fail "train: $(cat out err)"
"$YOKE" tokenizer train --vocab 400 --out one.json --threads 1 text.txt >/dev/null
cmp t.json one.json || fail "the number of threads changed the tokenizer"
[ ! -s err ] || fail "train wrote to stderr: $(cat err)"
"$YOKE" tokenizer train --vocab 100000 --out few.json --special '<|a|>' --special '<|b|>' text.txt >out 2>err
grep -q 'warning.*not 100000' err || fail "no warning about a small text: $(cat err)"
[ "$("$YOKE" tokenizer encode --tokenizer few.json '<|b|><|a|>')" = "1 0" ] || fail "special tokens"

# back and forth, as argument and through pipes
ids=$("$YOKE" tokenizer encode --tokenizer t.json "that was the one")
[ "$(wc -w <<<"$ids")" -lt 9 ] || fail "hardly anything merged: $ids"
[ "$("$YOKE" tokenizer decode --tokenizer t.json $ids)" = "that was the one" ] || fail "decode: $ids"
head -c 100000 "$YOKE" >bytes
"$YOKE" tokenizer encode --tokenizer t.json <bytes | "$YOKE" tokenizer decode --tokenizer t.json >back
cmp bytes back || fail "bytes did not come back"
[ "$("$YOKE" tokenizer encode --tokenizer t.json '')" = "" ] || fail "the empty text has ids"

# the same documents in other files and on other threads
rm -f ./*.h5
gzip -kf text.txt
"$YOKE" tokenize --tokenizer t.json --out train.h5 --validation valid.h5 --validation-share 0.1 \
    --paragraphs-per-document 3 text.txt >out 2>err
[ ! -s err ] || fail "tokenize wrote to stderr: $(cat err)"
grep -q '^train.h5: [0-9]* documents, [0-9]* tokens, [0-9.]* bytes per token$' out || fail "$(cat out)"
"$YOKE" tokenize --tokenizer t.json --out train1.h5 --validation valid1.h5 --validation-share 0.1 \
    --paragraphs-per-document 3 --threads 1 text.txt >out1
cmp train.h5 train1.h5 && cmp valid.h5 valid1.h5 || fail "the number of threads changed the tokens"
[ "$(awk '/documents/ {n += $2} END {print n}' out)" = 1000 ] || fail "not 1000 documents: $(cat out)"
"$YOKE" tokenize --tokenizer t.json --out packed.h5 text.txt.gz >out
grep -q '^packed.h5: 1 documents' out || fail "$(cat out)"
"$YOKE" tokenize --tokenizer t.json --out no_eos.h5 --no-eos text.txt >out1
[ $(($(sed -n 's/^packed.* \([0-9]*\) tokens.*/\1/p' out) - $(sed -n 's/^no_eos.* \([0-9]*\) tokens.*/\1/p' out1))) = 1 ] ||
    fail "--no-eos: $(cat out out1)"
grep -q "^$(awk -v n="$bytes" 'BEGIN {printf "%.1f", n / 1e6}') MB of text" out || fail "$(cat out)"

for command in tokenize tokenizer "tokenizer train" "tokenizer encode"; do
    "$YOKE" $command --help >out 2>err || fail "$command --help: exit code $?"
    grep -q "^usage: yoke ${command%% *}" out && [ ! -s err ] || fail "$command --help: $(cat out err)"
done

refused() { # exit code, words, arguments
    local code=$1 words=$2 got=0
    shift 2
    echo old >old.h5
    "$YOKE" "$@" >out 2>err || got=$?
    [ "$got" = "$code" ] || fail "exit code $got, want $code: yoke $* ($(cat err))"
    [ "$(wc -l <err)" = 1 ] && [ ! -s out ] || fail "not one line: $(cat out err)"
    grep -qF -- "$words" err || fail "want \"$words\", got: $(cat err)"
    [ "$(cat old.h5)" = old ] || fail "a refused command touched its output: yoke $*"
}
to=(tokenize --tokenizer t.json --out old.h5)
printf '{"text": "fine"}\n{"text" "bad"}\n' >bad.jsonl
head -c 1000 text.txt.gz >cut.txt.gz
echo '{}' >empty.json
refused 2 'give --tokenizer FILE' tokenize --out old.h5 text.txt
refused 2 'give --out FILE' tokenize --tokenizer t.json text.txt
refused 2 'at least one text file' "${to[@]}"
refused 2 'unknown or incomplete option' "${to[@]}" --wrong text.txt
refused 2 '--threads' "${to[@]}" --threads 0 text.txt
refused 2 'between 0 and 1' "${to[@]}" --validation v.h5 --validation-share 1 text.txt
refused 2 'needs --validation' "${to[@]}" --validation-share 0.5 text.txt
refused 2 'the same file' "${to[@]}" --validation old.h5 text.txt
refused 4 'bad.jsonl:2: is not JSON' "${to[@]}" bad.jsonl
refused 4 'cut.txt.gz: the gzip data is cut off' "${to[@]}" cut.txt.gz
refused 4 'empty.json: version' tokenize --tokenizer empty.json --out old.h5 text.txt
refused 4 'leaves none' "${to[@]}" --validation v.h5 text.txt
refused 6 'missing.txt' "${to[@]}" text.txt missing.txt
refused 6 'not a regular file' "${to[@]}" .
refused 2 'train, encode or decode' tokenizer
refused 2 'train, encode or decode' tokenizer fly
refused 2 '257' tokenizer train --vocab 256 --out old.h5 text.txt
refused 2 'given twice' tokenizer train --vocab 300 --special '<x>' --special '<x>' --out old.h5 text.txt
refused 4 'bad.jsonl:2' tokenizer train --vocab 300 --out old.h5 bad.jsonl
refused 2 'give --tokenizer FILE' tokenizer encode text
refused 2 'id: 400' tokenizer decode --tokenizer t.json 400
echo ok
