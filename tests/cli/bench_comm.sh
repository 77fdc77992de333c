#!/usr/bin/env bash
# `yoke bench comm` measures every operation at every length, between ranks that share memory.
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"

mpirun -n 2 "$YOKE" bench comm --steps 1 --threads 1 --json >table 2>errors || fail "$(cat errors)"
grep -q '^{"ranks": 2, "threads": 1, "transport": "shared memory", "mpi": "Open MPI' table || fail "$(cat table)"
for operation in reduce-scatter all-gather all-reduce 'all-gather of weights'; do
    [[ $(grep -o "\"operation\": \"$operation\", \"bytes\": [0-9]*, \"gb_per_second\": [0-9.]*[1-9]" table | wc -l) -eq 7 ]] ||
        fail "$operation: not 7 lengths: $(cat table)"
done
mpirun -n 2 "$YOKE" bench comm --steps 1 --threads 1 >table 2>errors || fail "$(cat errors)"
grep -q "MPI's own: ratio; of weights, which are not moved, microseconds$" table || fail "$(cat table)"
echo "bench comm: ok"
