#!/bin/bash
# Packs what the GPU bench needs on a machine without a network into .gpu/, in folders of at most 20 MB, since a
# loan may carry 64 MiB with the project itself:
#   part-*/   the wheel of ONNX Runtime with CUDA and TensorRT, split
#   bin/      the bench, and the wheel of diffusers
# bench/generator-gpu/README.md says how to run it there.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:-1.29.0} python=${2:-3.12}
rm -rf .gpu && mkdir -p .gpu/bin .gpu/wheel
fetch() { python3 -m pip download -q --no-deps --only-binary=:all: --python-version "$python" --implementation cp "$@"; }
fetch --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 -d .gpu/wheel "onnxruntime-gpu==$version"
fetch --platform any -d .gpu/bin diffusers==0.42.1
split -b 20M .gpu/wheel/*.whl .gpu/piece-
for piece in .gpu/piece-*; do
	part=.gpu/part-${piece##*-} && mkdir "$part" && mv "$piece" "$part/"
done
rm -r .gpu/wheel
CGO_ENABLED=1 go build -trimpath -ldflags '-s -w' -o .gpu/bin/generator-gpu ./bench/generator-gpu
du -sh .gpu/*
