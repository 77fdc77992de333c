#!/usr/bin/env bash
# Damaged checkpoints are refused by what reads them, and --resume auto goes back to the one before:
# exit code 5 on every rank, one line that names the file, nothing touched.   @timeout 240
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs
make_run

(cd world && "$YOKE" tokenizer train --vocab 290 --out other.json text.txt) >said/out
step=run/step-00000002
model=$step/model.h5 shard=$step/shard-00000.h5
resume=(train good.yaml --set train.steps=3 --resume "$step")
eval=(eval "$step")
[ -z "$(region world/$model 1)" ] || fail "$model has large datasets now: damage those too"
data=$(region world/$shard 1) metadata=600 bytes=$(wc -c <world/$shard)
model_bytes=$(wc -c <world/$model)

# ---- shards --------------------------------------------------------------------------------
damaged launched 5 "$shard: is missing" $shard 'rm "$f"' "${resume[@]}"
damaged launched 5 "$shard: is missing" $shard 'rm "$f"' "${eval[@]}"
damaged alone 5 "$shard: is missing" $shard 'rm "$f"' generate $step
damaged launched 5 "$shard: is not a regular file" $shard 'rm "$f"; mkdir "$f"' "${resume[@]}"
damaged launched 5 "$shard: has 0 bytes, model.h5 says $bytes" $shard ': >"$f"' "${resume[@]}"
damaged alone 5 "$shard: has 100 bytes" $shard 'cut_at "$f" 100' inspect $step
damaged alone 5 "$shard: has 700 bytes" $shard 'cut_at "$f" 700' generate $step
damaged alone 5 "$shard: has 5000 bytes" $shard 'cut_at "$f" 5000' inspect $step
damaged launched 5 "$shard: has" $shard 'cut_at "$f" $((bytes - 1))' "${eval[@]}"
damaged launched 5 "$shard: is not a file written by yoke" $shard 'flip "$f" 0' "${resume[@]}"
damaged launched 5 "$shard: is damaged: its bytes do not match its seal" $shard \
    'flip "$f" $metadata' "${resume[@]}"
damaged launched 5 "$shard: is damaged: master of parameter" $shard \
    'flip "$f" $((data + 1000))' "${resume[@]}"
damaged launched 5 "$shard: is damaged: master of parameter" $shard \
    'flip "$f" $((data + 1000))' "${eval[@]}"
damaged launched 5 'is damaged: exp_avg_sq of parameter' $shard \
    'flip "$f" $((bytes - 100))' "${resume[@]}"
damaged alone 5 'is damaged: exp_avg_sq of parameter' $shard \
    'flip "$f" $((bytes - 100))' inspect --verify $step
damaged launched 5 "is not the shard that model.h5 was written with" $shard \
    'cp world/run/step-00000001/shard-00000.h5 "$f"' "${resume[@]}"
damaged launched 5 "$shard: " $shard 'cp world/$step/shard-00001.h5 "$f"' "${resume[@]}"
damaged launched 5 'shard-00001.h5: is damaged: master of' $step/shard-00001.h5 \
    'flip "$f" $((data + 1000))' "${eval[@]}"

# ---- model.h5 ------------------------------------------------------------------------------
damaged launched 5 "$step" $model 'rm "$f"' "${eval[@]}"
damaged launched 3 'holds no checkpoint' $model 'rm "$f"' "${resume[@]}"
damaged launched 5 "$model: is not a regular file" $model 'rm "$f"; mkdir "$f"' "${resume[@]}"
damaged launched 5 "$model: is not a file written by yoke" $model ': >"$f"' "${resume[@]}"
damaged launched 5 "$model: is not a file written by yoke" $model 'cut_at "$f" 300' "${eval[@]}"
for at in 512 700 5000 $((model_bytes / 2)) $((model_bytes - 1)); do
    damaged alone 5 "$model: is damaged: has $at bytes" $model 'cut_at "$f" $at' generate $step
done
for at in 40 600 5000 $((model_bytes / 2)) $((model_bytes - 1)); do
    damaged alone 5 "$model: is damaged: its" $model 'flip "$f" $at' inspect $step
done
damaged launched 5 "$model: is damaged: its bytes" $model 'flip "$f" 9000' "${resume[@]}"
damaged launched 5 "$model: is a yoke file of kind \"shard\", wanted is \"model\"" $model \
    'cp world/$shard "$f"' "${eval[@]}"

# ---- what does not fit ---------------------------------------------------------------------
refused launched 5 'parameter model.layers.0' train good.yaml --set train.steps=3 --set model.ffn=40
refused launched 5 'lacks parameter model.layers.1' train good.yaml --set train.steps=3 \
    --set model.layers=2
refused launched 3 'checkpoint.resume: never, but run/step-00000002 is there' \
    train good.yaml --resume never
refused launched 3 'checkpoint.resume: "text.txt" is not a folder' train good.yaml --resume text.txt
refused launched 5 'none: does not exist' eval none
refused launched 6 'text.txt: is a file; give a run or a checkpoint folder' eval text.txt
mkdir world/hollow
refused launched 5 'hollow: holds no checkpoint' eval hollow
refused alone 5 'hollow' inspect hollow
refused launched 4 'text.txt: is not a file written by yoke' eval --data text.txt $step
refused launched 4 'is a yoke file of kind "shard", wanted is "tokens"' eval --data $shard $step
damaged launched 4 'valid.h5: is damaged: /tokens' valid.h5 \
    'flip "$f" $(($(region "$f" 2) + 100))' "${eval[@]}"
refused alone 2 '--tokens: prompt of 2' generate --prompt ox --tokens 16 $step
damaged alone 4 'tokenizer.json' run/tokenizer.json 'cut_at "$f" 99' generate $step
damaged launched 4 'tokenizer.json' run/tokenizer.json ': >"$f"' "${eval[@]}"
damaged alone 4 "tokenizer.json: is not the tokenizer of the run's token files" run/tokenizer.json \
    'sed -i "s/: 299/: 298/; t; s/: 298/: 299/" "$f"' generate $step
damaged launched 4 "tokenizer.json: is not the tokenizer of the run's token files" \
    run/tokenizer.json 'cp world/other.json "$f"' "${eval[@]}"

# ---- resume auto: the newest good one, and only refusal if there is none -------------------
losses() {
    grep -o '"kind":[^,]*,"step":[0-9]*\|"loss":[^,}]*' world/run/metrics.jsonl
}
good_losses=$(losses)

falls_back() { # words of the warning, a file, shell code that damages it as $f
    local words=$1 f=world/$2
    cp -a world/run said/run
    cp -a "$f" said/kept
    eval "$3"
    launched train good.yaml
    [ "$(cat said/codes)" = "0 0" ] || fail "no fall-back: codes $(cat said/codes): $3"
    grep -q "^yoke.*warning: .*$words" said/err || fail "no warning with \"$words\": $3"
    grep -q '^yoke.*resumed from run/step-00000001$' said/err || fail "not resumed from step 1: $3"
    [ "$(losses)" = "$good_losses" ] || fail "other losses than without damage: $(losses): $3"
    alone inspect --verify "$step"
    [ "$(cat said/codes)" = 0 ] || fail "the checkpoint saved again is not good: $3"
    rm -rf world/run said/kept
    mv said/run world/run
}
falls_back "$shard: is missing" $shard 'rm "$f"'
falls_back "$shard: is damaged: master" $shard 'flip "$f" $((data + 1000))'
falls_back 'shard-00001.h5: is damaged: exp_avg_sq' $step/shard-00001.h5 \
    'flip "$f" $(($(wc -c <"$f") - 100))'
falls_back "$model: is damaged" $model 'flip "$f" 9000'
falls_back "$step: was never finished" $model 'rm "$f"'

# no good one is left: never a fresh start over somebody's run
flip world/run/step-00000001/model.h5 9000
damaged launched 5 'run: holds 2 checkpoints and all are refused' $model 'flip "$f" 9000' train good.yaml
damaged launched 5 'run: ' $shard 'flip "$f" $((data + 1000))' train good.yaml
flip world/run/step-00000001/model.h5 9000
flip world/run/step-00000001/shard-00001.h5 $((data + 1000))
damaged launched 5 'run: no checkpoint in it can be read' $shard 'flip "$f" $((data + 1000))' \
    train good.yaml
echo "$cases refusals"
