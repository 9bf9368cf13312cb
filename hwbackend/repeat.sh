#!/usr/bin/env bash
# Everything that this project measured on GPUs with kernels of its own, once more, on the GPUs of
# this machine:
#
#     pip install -e '.[gpu]'
#     hwbackend/repeat.sh OUT NAME
#
# OUT is a new folder for logs, NAME what the recordings in traces/recorded/gpu are to be called. It
# takes about ten minutes. What needs a second GPU is left out where there is one.
set -euo pipefail
out=${1:?a new folder for logs}
name=${2:?the name of the recordings}
cd "$(dirname "$0")/.."
mkdir "$out"
gpus=$(python3 -c 'from vsim.hwbackend.cuda.device import devices; print(len(devices()))')
recorded=traces/recorded/gpu

say() { printf '\n== %s\n' "$*"; }
run() {
    local log=$1
    shift
    say "$*"
    "$@" 2>&1 | tee "$out/$log.txt"
}

say "right, and how fast"
run attention python3 -m vsim.hwbackend.attention.trial --check
run copies python3 -m vsim.hwbackend.copies.trial --check
run dense python3 -m vsim.hwbackend.dense.trial
run memory python3 -m vsim.hwbackend.memory.trial --sequences 1000 --seed 0
if [ "$gpus" -gt 1 ]; then
    run attention-peer python3 -m vsim.hwbackend.attention.trial --shapes 32x8192 \
        --slow device:1=0.02,0.04,0.05,0.06,0.065,0.07,0.075,0.08,0.1
    run dense-parallel python3 -m vsim.hwbackend.dense.parallel_trial
fi
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
        run "attention-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
            python3 -m vsim.hwbackend.attention.trial --check --few 4 --shapes none
    done
fi

say "calibrate, then measure what the calibration did not see"
run calibration vsim calibrate --gpu --out "$recorded/$name.yaml"
run cases python3 -m vsim.hwbackend.cases --out "$recorded/$name.arrow" --machine "$name.yaml"
run check vsim check "$recorded/$name.arrow" || true # a new machine may leave the tolerances

say "runs, from simulation to the GPU"
machine=$recorded/$name.yaml
run replay-plan vsim replay scenarios/replay/host.yaml --machine "$machine" --gpu --window 3s \
    --repeats 3 --out "$out/plan"
run replay-live vsim replay scenarios/replay/host.yaml --machine "$machine" --gpu --window 3s \
    --mode live --verify --out "$out/live"
run replay-mapped vsim replay scenarios/replay/mapped.yaml --machine "$machine" --gpu --window 2s \
    --verify --out "$out/mapped"
run replay-attention vsim replay scenarios/recorded_attention.yaml --machine "$machine" --gpu \
    --set workload.steps=40 --verify --repeats 3 --out "$out/attention"
if [ "$gpus" -gt 1 ]; then
    run replay-peer vsim replay scenarios/replay/peer.yaml --machine "$machine" --gpu --window 2s \
        --repeats 3 --out "$out/peer"
fi
