#!/usr/bin/env bash
# Everything that only an NVIDIA card can tell, in under nine minutes: correctness first, then speed, then peers. Runs in the
# folder that scripts/cuda/bundle.mjs makes, needs neither Node nor a network, and goes on where a part fails.
#
#   card.sh [RESULTS]    a folder for what each part prints; default: results
#
# LOWRANK_CARD_SMALL=1 takes small shapes, for a run on a driver that only stands in for one.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/results}
mkdir -p "$out"
export LOWRANK_CUDA_PACK=$here/lowrank.cuda
small=${LOWRANK_CARD_SMALL:-0}
failed=0

# part NAME SECONDS COMMAND...: runs it within its time, and keeps what it prints.
part() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1 || status=$?
  [ "$status" -eq 0 ] || failed=$((failed + 1))
  echo "$name: $([ "$status" -eq 0 ] && echo ok || echo "FAILED ($status)") ($((SECONDS - start)) s)" | tee -a "$out/summary.txt"
}

# Tests of kernels, file by file, so that one that hangs takes only its own with it.
kernels() {
  local status=0 file
  while read -r file; do
    echo "== $file"
    LOWRANK_TEST_CARD=1 timeout 60 "$here/lowrank_cuda_tests" --file "$file" || status=1
  done < <("$here/lowrank_cuda_tests" --list | cut -f1 | sort -u | grep -E "backends/cuda/($1)\.test\.cpp$")
  return "$status"
}
AREAS='norm|elementwise|columns|factors|kronecker|rotation|row_norms|loss|attention|products|dequantize|optimizers'

bench() { "$here/lowrank_card_bench" "$@"; }
shape=8b
lengths=(2048 4096)
long=8192
if [ "$small" = 1 ]; then shape=tiny lengths=(64 96) long=128; fi

: >"$out/summary.txt"
part probe 20 "$here/lowrank_card_bench" probe
export -f kernels && export here
part kernels 120 bash -c "kernels '$AREAS'"
part sessions 45 bash -c "kernels session"
for tokens in "${lengths[@]}"; do part "step-$tokens" 50 "$here/lowrank_card_bench" step --shape $shape --tokens "$tokens"; done
part "step-$long-recompute" 50 "$here/lowrank_card_bench" step --shape $shape --tokens $long --recompute
part "by-kernel-${lengths[0]}" 50 "$here/lowrank_card_bench" kernels --shape $shape --tokens "${lengths[0]}" --steps 2
if python3 -c 'import torch' 2>/dev/null; then
  part peers 90 python3 "$here/peers.py" $([ "$small" = 1 ] && echo --small)
else
  echo 'peers: skipped, there is no torch' | tee -a "$out/summary.txt"
fi
if command -v compute-sanitizer >/dev/null; then
  part sanitizer 60 env LOWRANK_TEST_CARD=1 compute-sanitizer --error-exitcode 1 "$here/lowrank_cuda_tests" --file ../../test/native/backends/cuda/norm.test.cpp
else
  echo 'sanitizer: skipped, there is no compute-sanitizer' | tee -a "$out/summary.txt"
fi
exit "$failed"
