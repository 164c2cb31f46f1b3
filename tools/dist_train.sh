#!/usr/bin/env bash
# Train on several GPUs of one machine, or of several machines with one call on each.
#
#   tools/dist_train.sh CONFIG GPUS [options of train.py]
#
# Several machines: NNODES=2 NODE_RANK=0 MASTER_ADDR=<address of the first> PORT=29500 before it.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [options of train.py]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
