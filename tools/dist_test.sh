#!/usr/bin/env bash
# Evaluate on several GPUs of one machine, or of several machines with one call on each.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
#
# Several machines: NNODES=2 NODE_RANK=0 MASTER_ADDR=<address of the first> PORT=29500 before it.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [options of test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
