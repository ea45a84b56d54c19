#!/bin/bash
# Runs the tests of buckets against versitygw, a real S3 server: tools/s3check.sh PROGRAM
set -eu
dir=$(mktemp -d)
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT
mkdir "$dir/objects"
port=${S3_PORT:-17070}
ROOT_ACCESS_KEY=test ROOT_SECRET_KEY=test-secret "$1" --quiet --port "127.0.0.1:$port" posix "$dir/objects" >"$dir/log" 2>&1 &
server=$!
for _ in $(seq 100); do
	(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
	kill -0 $server 2>/dev/null || { cat "$dir/log"; exit 1; }
	sleep 0.1
done
AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test-secret DREAMOOD_S3_TEST=http://127.0.0.1:$port \
	go test -count 1 -run 'Object|TarShards|BlobsInABucket' ./internal/bucket ./internal/artifact ./internal/app ./cmd/dreamood
