# Everything is built and run from here. `make` lists the targets.
SHELL := /bin/bash
CACHE := .cache
GO ?= go
TOOLS := $(CURDIR)/$(CACHE)/tools/bin
BUF := tools/buf/node_modules/.bin/buf
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 18

.PHONY: setup
setup: ## Fetch ONNX Runtime (pinned, checked) into .cache; works offline afterwards
	@command -v $(GO) >/dev/null || { echo "make: Go is missing; install Go 1.26 or newer"; exit 1; }
	@command -v python3 >/dev/null || { echo "make: Python 3 is missing; it fetches ONNX Runtime"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "make: a C compiler is missing (Debian: apt-get install gcc libc6-dev)"; exit 1; }
	@python3 tools/setup/onnxruntime.py $(CACHE)/onnxruntime

.PHONY: build
build: setup ## Build bin/dreamood
	@mkdir -p bin
	@CGO_ENABLED=1 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/dreamood ./cmd/dreamood

.PHONY: demo
demo: build ## Real pictures in, imagined outliers and a regularised detector out: out/demo/report.html
	@bin/dreamood demo --out out/demo

.PHONY: test
test: setup ## Run all tests
	@$(GO) test -timeout 15m ./...

.PHONY: parity
parity: setup ## All scores of the test pictures by a detector in Python's onnxruntime, compared with the mesh (1e-4)
	@DREAMOOD_PARITY_DIR=$(CURDIR)/out/parity $(GO) test -count 1 -timeout 15m -run TestStoryInOneProcess ./test
	@$(MAKE) --no-print-directory parity-check

.PHONY: parity-check
parity-check: ## The second half of parity, on what a test run with DREAMOOD_PARITY_DIR wrote
	@test -e $(CACHE)/parity/.complete || { python3 -m venv $(CACHE)/parity && $(CACHE)/parity/bin/pip install -q -r tools/parity/requirements.txt && touch $(CACHE)/parity/.complete; }
	@$(CACHE)/parity/bin/python tools/parity/detector.py out/parity sample

.PHONY: webdataset
webdataset: ## Have the Python package webdataset (pinned) read an export of tar shards
	@test $(CACHE)/webdataset/.complete -nt tools/webdataset/requirements.txt || { python3 -m venv $(CACHE)/webdataset && $(CACHE)/webdataset/bin/pip install -q -r tools/webdataset/requirements.txt && touch $(CACHE)/webdataset/.complete; }
	@DREAMOOD_WEBDATASET=$(CURDIR)/$(CACHE)/webdataset/bin/python $(GO) test -count 1 -v -run TestWebDatasetReadsShards ./cmd/dreamood

.PHONY: s3-check
s3-check: $(CACHE)/s3/versitygw ## Run the tests of buckets against a real S3 server (versitygw, pinned)
	@tools/s3check.sh $(CACHE)/s3/versitygw

$(CACHE)/s3/versitygw:
	@mkdir -p $(CACHE)/s3 && GOBIN=$(CURDIR)/$(CACHE)/s3 $(GO) install github.com/versity/versitygw/cmd/versitygw@v1.8.0

.PHONY: thousand
thousand: setup ## Render sets with generators that are killed again and again, and compare with undisturbed ones: PER_CLASS=100, RECORD= the figures
	@mkdir -p out
	@DREAMOOD_THOUSAND=$(abspath $(or $(RECORD),out/thousand.json)) DREAMOOD_THOUSAND_PER_CLASS=$(or $(PER_CLASS),100) $(GO) test -count 1 -timeout 180m -v -run 'TestThousand$$' ./test

.PHONY: parity-generator
parity-generator: build ## Render with dreamood and with diffusers side by side, and compare: out/parity-generator/generator.md
	@test -e $(CACHE)/parity-generator/.complete || { python3 -m venv $(CACHE)/parity-generator && $(CACHE)/parity-generator/bin/pip install -q -r tools/refmodel/requirements.txt && touch $(CACHE)/parity-generator/.complete; }
	@$(CACHE)/parity-generator/bin/python tools/parity/generator.py program=bin/dreamood $(PARITY)

.PHONY: fuzz
fuzz: setup ## Fuzz what reads models: ONNX files, tokenizers, configurations, surgery (FUZZTIME=3m each)
	@for target in onnx/onnxpb:FuzzInspect diffusion:FuzzTokenizerFiles diffusion:FuzzTokenizer diffusion:FuzzConfigs diffusion:FuzzSurgery; do \
		$(GO) test ./internal/$${target%:*} -run '^$$' -fuzz "^$${target#*:}$$" -fuzztime $(or $(FUZZTIME),3m) || exit 1; done

.PHONY: chaos
chaos: setup ## Kill processes and the NATS server at every point of the protocol, cut a cluster, fill disks: RECORD= the figures
	@mkdir -p out
	@DREAMOOD_CHAOS=$(abspath $(or $(RECORD),out/chaos.json)) $(GO) test -count 1 -timeout 70m -parallel 8 -skip TestSoak ./test/chaos
	@DREAMOOD_CHAOS=1 $(GO) test -count 1 -timeout 20m -run TestGeneratorKilledInMidShard ./test

.PHONY: soak
soak: ## Half an hour with workers that come and go: RECORD= its curves, and a picture of them beside
	@mkdir -p out
	@DREAMOOD_SOAK=$(or $(SOAK),30m) DREAMOOD_SOAK_RECORD=$(abspath $(or $(RECORD),out/soak.json)) $(GO) test -count 1 -timeout 90m -v -run TestSoak ./test/chaos

.PHONY: race
race: setup ## Run the tests of the packages without heavy native work under the race detector
	@$(GO) test -race -timeout 15m ./internal/bus/... ./internal/runs/... ./internal/artifact/... ./internal/catalog/... ./internal/rpc/... ./internal/dataset/... ./internal/fault/... ./internal/ood/...

.PHONY: generate
generate: tools ## Generate Go from proto/
	@$(BUF) generate
	@gofmt -w proto

.PHONY: tools
tools: $(BUF) $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## Install buf and the protobuf plugins (pinned) into .cache

$(BUF): tools/buf/package-lock.json
	@command -v npm >/dev/null || { echo "make: npm is missing; it installs buf, which lints and generates proto/ (needed only for that)"; exit 1; }
	@cd tools/buf && npm ci --silent --no-audit --no-fund
	@touch $(BUF)

$(TOOLS)/protoc-gen-go: go.mod
	@GOBIN=$(TOOLS) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12

$(TOOLS)/protoc-gen-go-grpc: go.mod
	@GOBIN=$(TOOLS) $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0

.PHONY: lint
lint: tools ## gofmt, go vet, staticcheck, buf lint and breaking; fails when generated code is stale
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "gofmt these: $$files"; exit 1; }
	@$(GO) vet ./...
	@$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...
	@$(BUF) lint
	@base=$$(git rev-parse -q --verify origin/main || true); \
	if [ -n "$$base" ] && git cat-file -e "$$base:buf.yaml" 2>/dev/null; then $(BUF) breaking --against ".git#ref=$$base"; \
	else echo "buf breaking: no origin/main with a wire to compare with"; fi
	@$(GO) -C tools/asm test -count=1 . >/dev/null || { echo "generated assembly is stale: go generate ./internal/simd ./internal/matrix ./internal/philox"; exit 1; }
	@rm -rf $(CACHE)/stale && $(BUF) generate -o $(CACHE)/stale
	@diff -r -q -x '*.proto' proto $(CACHE)/stale/proto || { echo "generated code is stale: run make generate"; exit 1; }

.PHONY: alerts
alerts: ## Check and test the Prometheus rules (needs promtool; Debian: apt-get install prometheus)
	@command -v promtool >/dev/null || { echo "make: promtool is missing; it comes with Prometheus"; exit 1; }
	@cd deploy/prometheus && promtool check rules alerts.yml && promtool test rules alerts_test.yml

.PHONY: ci-examples
ci-examples: ## Check the example workflows of deploy/ci with actionlint and GitLab's schema (needs network once)
	@$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.7 deploy/ci/github-actions.yml
	@test -x $(CACHE)/ci/bin/check-jsonschema || { python3 -m venv $(CACHE)/ci && $(CACHE)/ci/bin/pip install -q check-jsonschema==0.39.0; }
	@$(CACHE)/ci/bin/check-jsonschema --builtin-schema vendor.gitlab-ci deploy/ci/gitlab-ci.yml

.PHONY: bench
bench: bench-kernels bench-sampler bench-runs ## Run every benchmark against its peers, then print all records
	@$(GO) run ./bench/table

.PHONY: bench-kernels
bench-kernels: setup ## Benchmarks of the engine, the sampler and the leaves (Go's own harness)
	@$(GO) test -run '^$$' -bench . -benchtime 2s ./internal/matrix ./internal/philox ./internal/simd ./internal/knn ./internal/project ./services/sampler ./internal/train

.PHONY: bench-sampler-large
bench-sampler-large: ## One class of a million points against FAISS (12 GB of disk and memory, about half an hour)
	@$(MAKE) --no-print-directory bench-sampler BENCH="-large 1000000"

.PHONY: bench-sampler
bench-sampler: $(CACHE)/bench-sampler/.complete ## The sampler against FAISS, both sides in one run: bench/results/sampler.json
	@mkdir -p bin && $(GO) build -o bin/bench-sampler ./bench/sampler
	@bin/bench-sampler -python $(CACHE)/bench-sampler/bin/python $(BENCH)

$(CACHE)/bench-sampler/.complete: bench/sampler/requirements.txt
	@python3 -m venv $(CACHE)/bench-sampler && $(CACHE)/bench-sampler/bin/pip install -q -r bench/sampler/requirements.txt && touch $@

.PHONY: bench-generator
bench-generator: setup $(CACHE)/bench-generator/.complete ## The generator beside diffusers and Optimum over gRPC: bench/results/generator.json (quarter of an hour)
	@$(CACHE)/bench-generator/bin/python bench/generator/model.py --tokenizer models/reference/tokenizer --out $(CACHE)/bench-generator/sd18m
	@mkdir -p bin && $(GO) build -o bin/bench-generator ./bench/generator
	@bin/bench-generator -python $(CACHE)/bench-generator/bin/python $(BENCH)

$(CACHE)/bench-generator/.complete: bench/generator/requirements.txt
	@python3 -m venv $(CACHE)/bench-generator && $(CACHE)/bench-generator/bin/pip install -q -r bench/generator/requirements.txt && touch $@

.PHONY: bench-trainer
bench-trainer: setup $(CACHE)/bench-trainer/.complete ## The training engine against PyTorch: bench/results/trainer.json (some minutes)
	@mkdir -p bin && $(GO) build -o bin/bench-trainer ./bench/trainer
	@bin/bench-trainer -python $(CACHE)/bench-trainer/bin/python $(BENCH)

$(CACHE)/bench-trainer/.complete: bench/trainer/requirements.txt
	@python3 -m venv $(CACHE)/bench-trainer && $(CACHE)/bench-trainer/bin/pip install -q -r bench/trainer/requirements.txt && touch $@

.PHONY: bench-runs
bench-runs: setup ## The run system against the JetStream below it, and 200 simulated workers: bench/results/runs.json
	@mkdir -p bin && $(GO) build -o bin/bench-runs ./bench/runs
	@bin/bench-runs $(BENCH)

SIZE ?= sd15
DTYPE ?= float16
.PHONY: bench-generator-gpu
bench-generator-gpu: setup ## The generator on a GPU against PyTorch with torch.compile (bench/generator-gpu/README.md); skips without one
	@mkdir -p bin && $(GO) build -o bin/bench-generator-gpu ./bench/generator-gpu
	@if [ -z "$(GPU)" ] && ! command -v nvidia-smi >/dev/null; then echo "skip: no GPU here; bench/generator-gpu/README.md says how to see it work on a CPU"; exit 0; fi; \
	test -e $(CACHE)/bench-generator-gpu/.complete || { python3 -m venv $(CACHE)/bench-generator-gpu/venv && $(CACHE)/bench-generator-gpu/venv/bin/pip install -q -r bench/generator-gpu/requirements.txt && touch $(CACHE)/bench-generator-gpu/.complete; }; \
	PY=$(CACHE)/bench-generator-gpu/venv/bin/python; M=$(CACHE)/bench-generator-gpu/$(SIZE)-$(DTYPE); \
	$$PY bench/generator-gpu/model.py --size $(SIZE) --dtype $(DTYPE) --tokenizer models/reference/tokenizer --out $$M && \
	bin/bench-generator-gpu -model $$M -dtype $(DTYPE) -python $$PY $(GPU)

.PHONY: reference-model
reference-model: ## Train the reference model (hours; DATA= the pictures, OUT= checkpoints); resumes where it was
	@test -n "$(DATA)" -a -n "$(OUT)" || { echo "make reference-model DATA=folder OUT=folder"; exit 1; }
	@test -x $(CACHE)/python/bin/python || { python3 -m venv $(CACHE)/python && $(CACHE)/python/bin/pip install -q -r tools/refmodel/requirements.txt; }
	@cd tools/refmodel && ../../$(CACHE)/python/bin/python train.py --data "$(abspath $(DATA))" --out "$(abspath $(OUT))"

.PHONY: clean
clean: ## Remove what was built and written (keeps .cache)
	rm -rf bin out
