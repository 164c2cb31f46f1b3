#!/usr/bin/env bash
# Tests and speed tables of a GPU, from a bare machine with torch, without a network:
#
#   bash benchmarks/gpu.sh [FOLDER OF WHEELS] [FOLDER OF RESULTS]
#
# Installs the wheels (`make gpu-wheels`) into an environment beside what PYTHON (default: python3)
# has, and runs `python -m benchmarks.gpu`, which ends within SECONDS_AT_MOST (default: 520).
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=${1:-wheels}
out=${2:-work_dirs/gpu}
python=${PYTHON:-python3}
venv=${VENV:-$out/venv}
limit=${SECONDS_AT_MOST:-520}

mkdir -p "$out"
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv --system-site-packages --without-pip "$venv"
    # An environment made from another does not see what that one has installed: torch, say.
    "$venv/bin/python" - "$("$python" -c 'import site, sys; print(*site.getsitepackages(), sep=":")')" "$PWD" <<'PATHS'
import sys, sysconfig
lines = [*sys.argv[1].split(":"), sys.argv[2]]
with open(sysconfig.get_path("purelib") + "/around.pth", "w") as file:
    file.write("\n".join(lines) + "\n")
PATHS
    shopt -s nullglob
    found=("$wheels"/*.whl)
    if [ ${#found[@]} -gt 0 ]; then
        "$python" -m pip --python "$venv/bin/python" install --quiet --no-index --no-deps \
            --no-compile --disable-pip-version-check "${found[@]}"
    fi
fi
exec "$venv/bin/python" -m benchmarks.gpu --out-dir "$out" --seconds $((limit - SECONDS)) "${@:3}"
