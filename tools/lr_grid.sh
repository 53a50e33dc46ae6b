#!/usr/bin/env bash
# Final training loss of every optimiser over one half-decade lr grid: Fashion-MNIST 7x7, mlp:49-64-64-10, batch 64,
# 10 epochs, He start, 2 seeds. The lr of the side-by-side run are the best by mean training loss.
# Test error is written down but not used to choose.
#   tools/lr_grid.sh > results/lr-grid.csv
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release >&2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
one() {
    local name=$1 lr=$2 seed=$3 dir=$out/$1-$2-$3
    ./target/release/gsgd train --optimizer "$name" --lr "$lr" --seed "$seed" --epochs 10 --quiet --out "$dir" \
        > /dev/null 2> "$dir.err" || true
    tail -n 1 "$dir/metrics.jsonl" | python3 -c '
import json, sys
text = sys.stdin.read().strip()
epoch = json.loads(text) if text else {}
done = epoch.get("epoch") == 10
print(*sys.argv[1:], *([epoch["train_loss"], epoch["test_error"]] if done else ["", ""]), sep=",")' "$name" "$lr" "$seed"
}
export -f one
export out
echo "optimizer,lr,seed,train_loss,test_error"
for name in sgd momentum adam path-sgd balanced-sgd g-sgd g-momentum g-adam; do
    for lr in 0.0003 0.001 0.003 0.01 0.03 0.1 0.3 1 3; do
        for seed in 0 1; do echo "$name $lr $seed"; done
    done
done | xargs -P 2 -L 1 bash -c 'one "$@"' one | sort -t, -k1,1 -k2,2g -k3,3n
