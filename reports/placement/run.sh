#!/bin/sh
# Runs every comparison that the report stands on: `sh reports/placement/run.sh [NAME …]`.
# Each result lands in reports/placement/results/NAME.json; the commands are the report's own.
set -eu
cd "$(dirname "$0")/../.."
VSIM=${VSIM:-.venv/bin/vsim}
RESULTS=reports/placement/results
WANTED="$*"
mkdir -p "$RESULTS"

bound() { # NAME ARGUMENTS…
  name=$1
  shift
  case " $WANTED " in "  " | *" $name "*) ;; *) return 0 ;; esac
  echo "vsim bound $* --json $RESULTS/$name.json"
  $VSIM bound "$@" --json "$RESULTS/$name.json" >/dev/null
}

S=scenarios/placement
for recording in traces/recorded/*.arrow; do
  bound "recorded-$(basename "$recording" .arrow)" $S/recorded.yaml --attention "$recording"
done
bound long-10 $S/long_context.yaml
bound long-12.5 $S/long_context.yaml --hbm-bandwidth 6.25TB/s
bound long-weights $S/long_context.yaml --weights 188MB
bound long-share $S/long_context.yaml --sparsity 0.8 --hbm-share '[0.1, 0.2, 0.3, 0.4, 0.5]'
bound long-free $S/long_context.yaml --start free
for variation in 0.3 1 3; do
  bound "variation-$variation" $S/long_context.yaml --set generate.variation=$variation
done
for requests in 1 4 16 64; do
  bound "batch-$requests" $S/batch.yaml --set generate.requests=$requests
  bound "batch-$requests-no-weights" $S/batch.yaml --set generate.requests=$requests \
    --set memory.weights=null
done
for factor in 1 4 16 64 256 512; do
  bound "page-$factor" $S/page_size.yaml --set page_factor=$factor
done
for recording in standard lookups; do
  bound "prediction-error-$recording" $S/prediction_error.yaml \
    --attention traces/recorded/$recording.arrow
done
STACK='policies=[static, lru, ewma-reads, learned, window-share, belady, price-guided,
  path-annealing]'
bound exclusive-duplex $S/prediction_error.yaml --set memory.exclusive=true \
  --set "$(echo $STACK)"
bound exclusive-simplex $S/prediction_error.yaml --set memory.exclusive=true \
  --set memory.duplex=false --set "$(echo $STACK)"
bound three-tiers $S/three_tiers.yaml
bound three-tiers-exclusive $S/three_tiers.yaml --set memory.exclusive=true
bound layers $S/prediction_error.yaml --set time_per=layer \
  --set 'policies=[static, lru, ewma-reads-balanced, belady, interval-annealing]'
