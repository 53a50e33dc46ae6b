#!/usr/bin/env bash
# The table of plain:20 without batch norm on 10,000 images of CIFAR-10.
#
#   GSGD_DATA=folder-with-cifar10 [WAYS="sgd-he ..."] [EPOCHS=6] tools/plain20.sh OUT [GSGD]
#
# Every way of training gets the same grid of learning rates, two epochs each with seed 1; the one with the least
# training loss is run on seeds 1 to 3. Seeds fix images, starting weights and batches for all ways alike. Runs that
# are complete are kept, so the script can be started again. Nothing is chosen by the test set.
set -euo pipefail
out=$1
gsgd=${2:-target/release/gsgd}
epochs=${EPOCHS:-6}
fixed=(--data cifar10 --train-examples 10000 --arch plain:20 --batch-norm off --batch 16 --quiet)
read -ra ways <<< "${WAYS:-sgd-he sgd-one gsgd-one gsgd-largest}"
declare -A flags=(
    [sgd-he]="--optimizer sgd --init he"
    [sgd-one]="--optimizer sgd --init skeleton-one"
    [gsgd-one]="--optimizer gsgd --skeleton paper --init skeleton-one"
    [gsgd-largest]="--optimizer gsgd --skeleton largest --init he"
)

# way, lr, seed, epochs, folder
run() {
    if [[ ! -e $5/done ]]; then
        # shellcheck disable=SC2086
        "$gsgd" train "${fixed[@]}" ${flags[$1]} --lr "$2" --seed "$3" --epochs "$4" --out "$5" --force \
            2> "$5.log" || true
        mkdir -p "$5" && touch "$5/done"
    fi
}

# The last value of a key in a run's metrics; nothing where the run diverged.
last() {
    if grep -q diverged "$2.log"; then return; fi
    tail -n 1 "$2/metrics.jsonl" | sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"
}

mkdir -p "$out"
rm -f "$out/chosen"
echo "way,lr,seed,epochs,train_loss,train_error,test_error,seconds" > "$out/plain20.csv"
record() {
    local values
    values=$(for key in train_loss train_error test_error seconds; do last $key "$5"; done | paste -sd,)
    echo "$1,$2,$3,$4,${values:-diverged,,,}" >> "$out/plain20.csv"
}
for way in "${ways[@]}"; do
    best=
    for lr in 1e-5 1e-4 1e-3 1e-2 1e-1; do
        run "$way" $lr 1 2 "$out/$way-$lr"
        record "$way" $lr 1 2 "$out/$way-$lr"
        loss=$(last train_loss "$out/$way-$lr")
        if [[ -n $loss ]] && { [[ -z $best ]] || awk "BEGIN { exit !($loss < $least) }"; }; then
            best=$lr least=$loss
        fi
    done
    echo "$way $best" >> "$out/chosen"
done
for seed in 1 2 3; do
    while read -r way lr; do
        run "$way" "$lr" "$seed" "$epochs" "$out/$way-$lr-seed$seed"
        record "$way" "$lr" "$seed" "$epochs" "$out/$way-$lr-seed$seed"
    done < "$out/chosen"
done
