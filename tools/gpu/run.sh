#!/bin/bash
# Runs the GPU bench from what pack.sh packed, on a machine with a GPU and PyTorch: run.sh PARTS BIN OUT [flags of the bench]
#   PARTS  folder of the piece-* files; BIN  .gpu/bin; OUT  folder for the record and the log
set -euo pipefail
parts=$1 bin=$2 out=$3
shift 3
command -v nvidia-smi >/dev/null || { echo "skip: no GPU here"; exit 0; }
work=$(mktemp -d)
cat "$parts"/piece-* >"$work/ort.zip"
python3 -m zipfile -e "$work/ort.zip" "$work/ort" && rm "$work/ort.zip"
python3 -m pip install -q --no-index --no-deps --target "$work/site" "$bin"/*.whl
export PYTHONPATH=$work/site
library=$(ls "$work"/ort/onnxruntime/capi/libonnxruntime.so.* | head -1)
export DREAMOOD_ONNXRUNTIME=$library
# cuBLAS, cuDNN and the rest come with PyTorch.
LD_LIBRARY_PATH=$(python3 -c 'import glob, os, torch; print(":".join(sorted({os.path.dirname(p) for p in glob.glob(os.path.join(os.path.dirname(os.path.dirname(torch.__file__)), "nvidia", "**", "lib*.so*"), recursive=True)})))'):$(dirname "$library"):${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH
python3 bench/generator-gpu/model.py --size sd15 --dtype float16 --tokenizer models/reference/tokenizer --out "$work/sd15"
mkdir -p "$out"
"$bin/generator-gpu" -model "$work/sd15" -python python3 -out "$out" "$@" 2>&1 | tee "$out/log"
