#!/usr/bin/env bash
# Everything that this project measured on GPUs with kernels of its own, once more, on the GPUs of
# this machine:
#
#     pip install -e '.[gpu]'
#     hwbackend/repeat.sh OUT NAME [PART ...]
#
# OUT is a folder for logs, NAME what the recordings in traces/recorded/gpu (or in $RECORDED) are to
# be called, PART one of right, sanitized, recorded, runs, mapping, or flash; all but the last two
# where none is named. It takes about twelve minutes, and `mapping`, calls of the driver alone, two.
# What was done before, by OUT, is not done again: a call that was cut off goes on with the step that
# it was in. What needs a second GPU is left out where there is one, and a disk and pages on it where
# DISK names no folder of a local one. `flash` is the comparison with
# FlashAttention 3 and wants FLASH3=_vllm_fa3_C.abi3.so.
set -euo pipefail
out=${1:?a folder for logs}
name=${2:?the name of the recordings}
shift 2
parts=${*:-right sanitized recorded runs}
cd "$(dirname "$0")/.."
recorded=${RECORDED:-traces/recorded/gpu}
mkdir -p "$out" "$recorded"
gpus=$(python3 -c 'from vsim.hwbackend.cuda.device import devices; print(len(devices()))')
machine=$recorded/$name.yaml
ours=vsim.hwbackend

say() { printf '\n== %s\n' "$*"; }
run() { # LOG COMMAND ...
    local log=$1
    shift
    if [ -e "$out/$log.done" ]; then
        say "done before: $log"
        return
    fi
    say "$*"
    "$@" 2>&1 | tee "$out/$log.txt"
    touch "$out/$log.done"
}
tried() { # as run, and what it says by its exit code is no reason to end
    local log=$1
    shift
    run "$log" sh -c '"$@" || echo "exit code $?"' "$log" "$@"
}

right() {
    run attention python3 -m $ours.attention.trial --check
    run copies python3 -m $ours.copies.trial --check
    run copies-host python3 -m $ours.copies.trial --check --place host:0
    run dense python3 -m $ours.dense.trial
    run memory python3 -m $ours.memory.trial --sequences 1000 --seed 0
    [ "$gpus" -gt 1 ] || return 0
    run attention-peer python3 -m $ours.attention.trial --shapes 32x8192 \
        --slow device:1=0.02,0.04,0.05,0.06,0.065,0.07,0.075,0.08,0.1
    run copies-peer python3 -m $ours.copies.trial --check --place device:1
    run dense-parallel python3 -m $ours.dense.parallel_trial
}

sanitized() {
    if ! command -v compute-sanitizer > /dev/null; then
        say "left out: there is no compute-sanitizer"
        return
    fi
    for tool in memcheck racecheck; do
        under=(compute-sanitizer --tool "$tool" --error-exitcode 1 python3 -m)
        run "attention-$tool" "${under[@]}" $ours.attention.trial --check --few 4 --shapes none
        run "copies-$tool" "${under[@]}" $ours.copies.trial --check --sizes-kib 64,2048 \
            --total-mib 16
    done
}

recorded() { # a calibration, then what it did not see
    run calibration vsim calibrate --gpu ${DISK:+--disk "$DISK"} --out "$machine"
    run cases python3 -m $ours.cases --out "$recorded/$name.arrow" --machine "$name.yaml"
    tried check vsim check "$recorded/$name.arrow" # a new machine may leave the tolerances
}

mapping() { # calls of the driver: their part of a calibration, then what it did not see
    run calibration-mapping python3 -m $ours.calibration --only vmm --only clearing --out "$out/mapping"
    run machine-mapping vsim calibrate --from "samples:$out/mapping/samples.arrow" \
        --out "$recorded/$name-mapping.yaml"
    run cases-mapping python3 -m $ours.cases --only mapping --machine "$name-mapping.yaml" \
        --out "$recorded/$name-mapping.arrow"
    tried check-mapping vsim check "$recorded/$name-mapping.arrow"
}

runs() { # from simulation to the GPU
    local replay=(vsim replay) here=(--machine "$machine" --gpu)
    run replay-plan "${replay[@]}" scenarios/replay/host.yaml "${here[@]}" --window 3s \
        --repeats 3 --out "$out/plan"
    run replay-live "${replay[@]}" scenarios/replay/host.yaml "${here[@]}" --window 3s \
        --mode live --verify --out "$out/live"
    run replay-mapped "${replay[@]}" scenarios/replay/mapped.yaml "${here[@]}" --window 3s \
        --verify --out "$out/mapped"
    run replay-attention "${replay[@]}" scenarios/recorded_attention.yaml "${here[@]}" \
        --set workload.steps=40 --verify --repeats 3 --out "$out/attention"
    if [ -n "${DISK:-}" ]; then
        run replay-nvme "${replay[@]}" scenarios/replay/nvme.yaml "${here[@]}" --window 2s \
            --disk "$DISK" --verify --out "$out/nvme"
    fi
    [ "$gpus" -gt 1 ] || return 0
    run replay-peer "${replay[@]}" scenarios/replay/peer.yaml "${here[@]}" --window 2s --verify \
        --repeats 3 --out "$out/peer"
    run replay-tensor "${replay[@]}" scenarios/replay/tensor.yaml "${here[@]}" --window 3s \
        --repeats 3 --out "$out/tensor"
    run replay-tensor-live "${replay[@]}" scenarios/replay/tensor.yaml "${here[@]}" --window 3s \
        --mode live --verify --set engine.movement=mapped --set engine.page_tokens=32 \
        --out "$out/tensor-live"
}

flash() {
    run flash python3 -m $ours.kernels.against_flash "${FLASH3:?where _vllm_fa3_C.abi3.so is}" \
        "$out/flash.jsonl"
}

for part in $parts; do
    case $part in
        right | sanitized | recorded | runs | mapping | flash) "$part" ;;
        *) echo "repeat.sh: no part is called '$part'; see its first lines" >&2; exit 2 ;;
    esac
done
say "all of it: $parts"
