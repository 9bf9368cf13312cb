#!/bin/sh
# The results in README.md. usage: reports/prefix_caches/run.sh TRACES OUT
# TRACES is a folder with the public traces, OUT one for results/NAME.json; each takes seconds to minutes.
set -eu
traces=$1
out=$2
with="--model llama-3.1-8b --machine h100"
some="--policy lru --policy clock --policy s3-fifo --policy expected-returns --policy belady
 --policy lp-rounding"

bound() {
    name=$1
    trace=$2
    shift 2
    python -m vsim_app bound "$traces/$trace" "$@" --json "$out/$name.json"
}

bound mooncake mooncake_conversation.jsonl.gz $with --capacity-blocks 1000,3000,5000,10000,20000
bound lmcache lmcache_agent.parquet $with --capacity-blocks 300,1000,3000,10000,20000
bound sharegpt sharegpt300_multiturn.parquet $with --capacity-blocks 100,300,1000,3000,10000
bound agentic claude_code_agentic.parquet $with $some \
    --capacity-blocks 3000,10000,30000,100000,300000
bound mooncake_tiers mooncake_conversation.jsonl.gz $with $some --capacity \
    hbm=16GiB+host=64GiB,hbm=32GiB+host=256GiB,hbm=32GiB+host=256GiB:fp8,hbm=16GiB+nvme=1TiB
bound lmcache_tiers lmcache_agent.parquet $with $some --capacity \
    hbm=1GiB+host=2GiB,hbm=1GiB+host=8GiB,hbm=1GiB+nvme=8GiB
bound mooncake_groups mooncake_conversation.jsonl.gz --model gpt-oss-20b --machine h100 \
    --capacity 16GiB,64GiB,256GiB
