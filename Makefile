# Whispering Woods. Needs Go and make, nothing else; `make race` also needs a C
# compiler. `make help` lists the targets.

GO      ?= go
TOOLS   := $(abspath .tools)
STAMPS  := $(TOOLS)/installed

# Tools are built from source at exactly these versions, into .tools/.
BUF                := github.com/bufbuild/buf/cmd/buf@v1.75.0
PROTOC_GEN_GO      := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
GOLANGCI_LINT      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Inputs of one fuzz target (or a time, see .ci/fuzz).
FUZZTIME ?= 100000x
# How many fuzz targets: empty for all.
FUZZCOUNT ?=
FAULTS_COUNT ?= 20
ROUNDS   ?= 50
# Random loads of make copies, and clusters of make disks.
RUNS     ?= 20
# Places that make rot damages, and how often it is run.
FLIPS    ?= 200
ROTS     ?= 5
# Datanodes and chunks of make scale.
SCALE_NODES  ?= 1000
SCALE_CHUNKS ?= 10000000
# Packages to test under the race detector.
RACE     ?= ./...
# Go benchmarks to run, as a regular expression.
BENCH    ?= .
# Where make bench and make profile keep their files: on the disk to measure.
BENCH_DIR ?= tmp/bench
# What make recovery stores, three times.
GIB      ?= 8
# What make profile loads the cluster with.
WORKLOAD ?= write --bytes 4GiB

# The programs and their tests need no C; only the race detector does.
export CGO_ENABLED ?= 0
BUILD := $(GO) build -buildvcs=false

.DEFAULT_GOAL := help
.PHONY: help build demo test race bench bench-short bench-baseline recovery compare gobench profile lint fmt check generate generate-check fuzz faults slow kill copies disks rot scale tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build: ## build ww and wwbench into bin/
	$(BUILD) -o bin/ ./cmd/...

demo: build ## a small cluster stores, fetches, appends and deletes real files (a minute)
	@bin/ww demo

test: ## all unit tests, and end-to-end tests with real processes
	$(GO) test -timeout 15m ./test/e2e ./... # the longest, which mostly waits, begins first

race: ## unit tests under the race detector, and the end-to-end tests on a racy-checked ww
	CGO_ENABLED=1 E2E_RACE=1 $(GO) test -race -short -timeout 20m $(RACE)

bench: build ## measure every target, in minutes; fails if a ratio is 20 % worse than in bench/baseline.json; SHORT=1 only checks that it works
	@mkdir -p $(BENCH_DIR)
	@bin/wwbench table --dir $(BENCH_DIR) $(if $(SHORT),--short --rounds 1 --files 2000,--baseline bench/baseline.json)

bench-short: ## make bench SHORT=1
	@$(MAKE) --no-print-directory bench SHORT=1

bench-baseline: build ## measure the table and make it the new baseline (of this machine)
	@mkdir -p $(BENCH_DIR)
	@bin/wwbench table --dir $(BENCH_DIR) --rounds 5 --save bench/baseline.json

recovery: build ## kill one of four datanodes with GIB (8) GiB stored three times: how fast is all whole again, and what do clients notice?
	@mkdir -p $(BENCH_DIR)
	@bin/wwbench table --dir $(BENCH_DIR) --only recovery --recovery $(GIB)GiB

gobench: ## Go benchmarks of all packages; BENCH=regexp selects
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

compare: build ## compare this tree with the commit BASE, ROUNDS (6) of each workload in turn; WORKLOADS='store small' selects
	@GO='$(GO)' BENCH_DIR='$(BENCH_DIR)' BASE='$(BASE)' sh bench/compare.sh

profile: build ## load a cluster, profile client and server, show the top; WORKLOAD='read --files 8' and the like
	@GO='$(GO)' BENCH_DIR='$(BENCH_DIR)' WORKLOAD='$(WORKLOAD)' sh bench/profile.sh

check: lint generate-check ## check format, vet, lint and generated code
	@test -z "$$(gofmt -l $$(find . -name '*.go' -not -path './.*'))" || { echo 'not gofmt-clean; run make fmt:'; gofmt -l $$(find . -name '*.go' -not -path './.*'); exit 1; }

lint: $(STAMPS)/golangci-lint ## go vet, golangci-lint and the project's own rules (test/lint)
	$(GO) vet ./...
	$(TOOLS)/golangci-lint run ./...
	$(GO) test ./test/lint

fmt: ## format all Go files
	gofmt -w $$(find . -name '*.go' -not -path './.*')

generate: $(STAMPS)/buf $(STAMPS)/protoc-gen-go $(STAMPS)/protoc-gen-go-grpc ## rebuild control/controlpb from the .proto files
	cd control && $(TOOLS)/buf lint && $(TOOLS)/buf generate
	cd control && sha256sum buf.yaml buf.gen.yaml controlpb/*.proto controlpb/*.pb.go > generated.sum

generate-check: ## fail unless the committed code is what `make generate` writes (make test compares checksums only)
	@sh .ci/generate-check

fuzz: ## run every fuzz target FUZZTIME times (default 100000x), or for a time such as 30s
	@FUZZTIME=$(FUZZTIME) FUZZCOUNT=$(FUZZCOUNT) GO=$(GO) sh .ci/fuzz

faults: ## test the write path under faults, every combination FAULTS_COUNT (default 20) times
	$(GO) test -count=$(FAULTS_COUNT) -timeout 120m ./test/faults

slow: ## a 1 GiB put with one of four datanodes slowed to 1 MB/s in its middle: at most three times as long; one that limps is found
	E2E_SLOW=1 $(GO) test -count=1 -v -timeout 10m -run 'TestASlowDatanodeGetsNoNewChunks' ./test/e2e
	SLOW_MIB=1024 $(GO) test -count=1 -v -timeout 20m -run 'TestASlowNodeIsNamedAndReplaced' ./client

kill: ## the long crash suite: ROUNDS (default 50) rounds of SIGKILL at random moments
	E2E_ROUNDS=$(ROUNDS) $(GO) test -count=1 -v -timeout 120m -run 'TestKill' ./test/e2e

copies: ## RUNS (20) random loads with kills, pauses and restarts; the disks are read at every acknowledgement: enough copies?
	COPIES_RUNS=$(RUNS) $(GO) test -count=1 -v -timeout 240m -run 'TestCopies' ./test/copies

disks: ## disks and nodes die, fill up and become read-only under a load, RUNS (20) times; needs root and loop devices
	COPIES_DISKS=1 E2E_DISKS=1 $(GO) test -count=$(RUNS) -v -timeout 240m -run 'TestDisksDieUnderLoad' ./test/copies
	E2E_DISKS=1 $(GO) test -count=1 -v -timeout 30m -run 'TestDiskDies|TestOnlyDiskDies|TestDiskFillsDuringWrite' ./test/e2e

rot: ## bits flipped at FLIPS (200) random places of the replicas of a running cluster, ROTS (5) times: no wrong byte, all repaired by one scrub
	E2E_FLIPS=$(FLIPS) $(GO) test -count=$(ROTS) -v -timeout 60m -run 'TestBitRot' ./test/e2e

scale: ## the namenode's state machine with SCALE_NODES (1000) datanodes and SCALE_CHUNKS (10000000) chunks: longest step, lateness of heartbeats
	SCALE_NODES=$(SCALE_NODES) SCALE_CHUNKS=$(SCALE_CHUNKS) $(GO) test -count=1 -v -timeout 120m -run 'TestScale$$' ./actor

tools: $(STAMPS)/buf $(STAMPS)/protoc-gen-go $(STAMPS)/protoc-gen-go-grpc $(STAMPS)/golangci-lint ## build all tools into .tools/

clean: ## remove what was built, but not the tools
	rm -rf bin tmp coverage.* *.test *.pprof *.prof

# A stamp holds the version that is installed; another version installs again.
define tool
$(STAMPS)/$(1): $(if $(filter $(2),$(shell cat $(STAMPS)/$(1) 2>/dev/null)),,force)
	@mkdir -p $(STAMPS)
	GOFLAGS= GOBIN=$(TOOLS) $(GO) install -trimpath $(2)
	@echo '$(2)' > $$@
endef
$(eval $(call tool,buf,$(BUF)))
$(eval $(call tool,protoc-gen-go,$(PROTOC_GEN_GO)))
$(eval $(call tool,protoc-gen-go-grpc,$(PROTOC_GEN_GO_GRPC)))
$(eval $(call tool,golangci-lint,$(GOLANGCI_LINT)))
.PHONY: force
force:
