#!/usr/bin/env bash
# Everything that reports/allocation/README.md quotes, once more:
#
#     VSIM_TRACES=FOLDER reports/allocation/run.sh [PART ...]
#
# PART is one of models, growth, kv or throughput; all where none is named. Results go to
# reports/allocation/results, series to build/allocation. `kv` and `throughput` need the public
# traces; a minute each but `throughput`, which compiles the engine first.
set -euo pipefail
cd "$(dirname "$0")/../.."
results=reports/allocation/results
scratch=build/allocation
mkdir -p "$results" "$scratch"
parts=${*:-models growth kv throughput}

models() {
    local name
    for name in train mlp lengths growing_kv streams graphs callables; do
        vsim alloc --trace "traces/recorded/allocations/$name-default.arrow" \
            --machine h200-measured --json "$results/$name.json" --out "$scratch/$name"
    done
}
growth() {
    vsim alloc --growth --machine h200-measured --json "$results/growth.json" \
        --set 'growth.added=[2MiB, 64MiB, 1GiB]' --set 'growth.chunks=[2MiB, 64MiB, 1GiB]'
}
kv() { # NAME FILE LONGEST MODEL MEMORY
    local nothing="--set kv.drawn=null --set growth=null --set machine=null"
    # shellcheck disable=SC2086
    vsim alloc scenarios/allocation/kv_room.yaml $nothing --set "kv.requests=$(realpath "$2")" \
        --set "kv.longest=$3" --set "kv.model=$4" --set "kv.memory=$5" --set kv.sequences=4000 \
        --json "$results/kv-$1-$3.json"
    # the folder of traces is this machine's own
    sed -i "s|$(realpath "$VSIM_TRACES")/|\$VSIM_TRACES/|" "$results/kv-$1-$3.json"
}
all_kv() {
    : "${VSIM_TRACES:?names the folder of public traces}"
    local t=$VSIM_TRACES
    kv opt "$t/lengths_sharegpt8k.parquet" 2048 llama-2-13b 12GiB
    kv sharegpt "$t/lengths_sharegpt8k.parquet" 4096 llama-3.1-8b 54GiB
    kv sharegpt "$t/lengths_sharegpt8k.parquet" 8192 llama-3.1-8b 54GiB
    kv azure "$t/AzureLLMInferenceTrace_conv.csv.gz" 4096 llama-3.1-8b 54GiB
    kv azure "$t/AzureLLMInferenceTrace_conv.csv.gz" 8192 llama-3.1-8b 54GiB
    kv arxiv "$t/lengths_arxiv_summarization.parquet" 4096 llama-3.1-8b 54GiB
    kv arxiv "$t/lengths_arxiv_summarization.parquet" 8192 llama-3.1-8b 54GiB
    kv arxiv-long "$t/lengths_arxiv_long.parquet" 65536 llama-3.1-8b 54GiB
    kv arxiv-long "$t/lengths_arxiv_long.parquet" 131072 llama-3.1-8b 54GiB
}
served() { # NAME QUEUE WAY [--set ...]
    local out="$scratch/$1-$3"
    vsim run reports/allocation/throughput.yaml --trace "$2" --out "$out" "${@:4}" >"$out.txt"
    cp "$out/summary.json" "$scratch/$1-$3.json"
}
throughput() { # NAME FILE LONGEST TOKENS SEQUENCES: blocks, all of a sequence kept, maximum length
    local queue=$scratch/$1.arrow held=$(($4 / $3))
    python reports/allocation/lengths.py "$2" "$queue" "$3" "$5"
    served "$1" "$queue" paged "${@:6}"
    served "$1" "$queue" exact --set engine.admission=whole_sequence "${@:6}"
    served "$1" "$queue" max --set "engine.max_running_requests=$held" "${@:6}"
}
all_throughput() {
    : "${VSIM_TRACES:?names the folder of public traces}"
    local t=$VSIM_TRACES small=(--set machine=a100-80g --set model=llama-2-13b --set tiers.0.capacity=12GiB)
    local large=(--set machine=h100 --set model=llama-3.1-8b --set tiers.0.capacity=54GiB)
    throughput opt "$t/lengths_sharegpt8k.parquet" 2048 15728 200 "${small[@]}"
    throughput sharegpt "$t/lengths_sharegpt8k.parquet" 4096 442368 1500 "${large[@]}"
    throughput azure "$t/AzureLLMInferenceTrace_conv.csv.gz" 4096 442368 1500 "${large[@]}"
    python reports/allocation/throughput.py "$scratch" "$results/throughput.json"
}
for part in $parts; do
    case $part in
        models) models ;;
        growth) growth ;;
        kv) all_kv ;;
        throughput) all_throughput ;;
        *) echo "no part '$part'" >&2; exit 2 ;;
    esac
done
