#!/usr/bin/env bash
# Training curves of plain:20 without batch norm on 10,000 images of CIFAR-10, as two comparisons.
#
#   GSGD_DATA=folder-with-cifar10 tools/plain20.sh OUT [GSGD]
#
# First every method gets the same half-decade grid of learning rates, three epochs each with seed 1; the lr with
# the least loss on 2,000 held back images is then run for six epochs on seeds 1 to 3. A seed fixes images, starting
# weights and batches for all methods alike. Started again, it goes on where it was.
set -euo pipefail
out=$1
gsgd=${2:-target/release/gsgd}
mkdir -p "$out"

# seeds, epochs, then a line per method: name, lrs, flags as TOML
plan() {
    echo "seeds = [$1]"
    echo "[settings]"
    printf '%s\n' 'data = "cifar10"' 'arch = "plain:20"' 'batch_norm = "off"' 'batch = 16' \
        'train_examples = 10000' 'validation = 2000' "epochs = $2"
    while IFS='|' read -r name lrs flags; do
        printf '\n[[methods]]\nname = "%s"\nlrs = [%s]\n%b\n' "$name" "$lrs" "$flags"
    done
}

paper='skeleton = "paper"\ninit = "skeleton-one"'
methods=(
    'sgd|optimizer = "sgd"'
    "sgd from skeleton one|optimizer = \"sgd\"\n$paper"
    "g-sgd from skeleton one|optimizer = \"gsgd\"\n$paper"
    'g-sgd, largest skeleton|optimizer = "g-sgd"'
)
grid='3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1'
for method in "${methods[@]}"; do echo "${method%%|*}|$grid|${method#*|}"; done | plan 1 3 > "$out/tune.toml"
"$gsgd" compare "$out/tune.toml" --out "$out/tune" --plain
"$gsgd" report "$out/tune" --format json,csv
for at in "${!methods[@]}"; do
    lr=$(python3 -c "import json; print(json.load(open('$out/tune/report.json'))['methods'][$at]['chosen_lr'])")
    echo "${methods[at]%%|*}|$lr|${methods[at]#*|}"
done | plan '1, 2, 3' 6 > "$out/final.toml"
"$gsgd" compare "$out/final.toml" --out "$out/final" --plain
"$gsgd" report "$out/final" --format md,csv
