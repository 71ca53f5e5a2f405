# Everything one does with this tree. `make` lists it.

GO        ?= go
HOSTARCH  := $(shell $(GO) env GOHOSTARCH)
GOARCH    ?= $(HOSTARCH)
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT    ?= $(shell git rev-parse HEAD 2>/dev/null)
PREFIX    ?= /usr/local
DESTDIR   ?=

# Binaries for another architecture go beside those for this one.
BIN       := bin$(if $(filter-out $(HOSTARCH),$(GOARCH)),/linux-$(GOARCH))
GOBUILD   := CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'
# CNI plug-ins are tool lines of go.mod, at its version.
CNIPLUGINS = $(shell $(GO) list tool | grep ^github.com/containernetworking/plugins/)

# The development tools are pinned in .ci/tools/go.mod and built once.
TOOLS     := .cache/tools
LINT      := $(TOOLS)/golangci-lint
DEADCODE  := $(TOOLS)/deadcode
VULNCHECK := $(TOOLS)/govulncheck
BUF       := $(TOOLS)/buf
PROTOGEN  := $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc

FUZZTIME  ?= 5s
# Containers that `make soak` starts and stops.
SOAK      ?= 10000
# Packages with tests; the end-to-end suite is apart because it runs the binaries.
UNIT       = $(shell $(GO) list ./... 2>/dev/null | grep -vE '/test/(e2e|security|bench|soak|kubelet)$$')

.DEFAULT_GOAL := help
.SUFFIXES:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ build

.PHONY: build
build: ## static binaries in bin/, CNI plugins in bin/cni/ (GOARCH=arm64: in bin/linux-arm64/)
	$(GOBUILD) -o $(BIN)/ ./cmd/...
	$(GOBUILD) -o $(BIN)/cni/ $(CNIPLUGINS)

.PHONY: install
install: build ## install binaries, plugins, man pages and systemd units below DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/berth/cni $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 755 $(BIN)/berth $(BIN)/berth-client $(BIN)/berth-images $(BIN)/berth-unpack $(BIN)/berth-monitor $(BIN)/berthd $(BIN)/berth-mesos $(BIN)/berth-mesos-executor $(DESTDIR)$(PREFIX)/bin/
	sed 's#@BINDIR@#$(PREFIX)/bin#' cmd/berthd/systemd/berthd.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/berthd.service
	install -m 644 cmd/berthd/systemd/berthd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -m 755 $(BIN)/cni/* $(DESTDIR)$(PREFIX)/lib/berth/cni/
	GOARCH=$(HOSTARCH) $(GO) run ./cmd/berth-docs man $(DESTDIR)$(PREFIX)/share/man/man1

.PHONY: deb
deb: ## a Debian package, in dist/ (GOARCH=arm64: for that)
	rm -rf dist/deb
	$(MAKE) --no-print-directory install DESTDIR=dist/deb PREFIX=/usr
	.ci/debian/build $(VERSION) $(GOARCH)

.PHONY: docs
docs: ## write docs/cli.md and the man pages (in bin/man/) from the commands
	GOARCH=$(HOSTARCH) $(GO) run ./cmd/berth-docs markdown docs/cli.md
	@mkdir -p bin/man
	GOARCH=$(HOSTARCH) $(GO) run ./cmd/berth-docs man bin/man

.PHONY: demo
demo: build ## run a container from a small image of our own that shows its isolation (root)
	@.ci/demo $(BIN)

##@ checks

.PHONY: test
test: ## everything: check, unit tests under the race detector, end-to-end tests (installs what they need)
	.ci/packages build test
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory test-unit
	$(MAKE) --no-print-directory test-e2e

.PHONY: check
check: $(LINT) $(DEADCODE) check-proto ## format, lint, go.mod, dead code, API; what needs no test run
	$(LINT) fmt --diff
	$(LINT) run --allow-serial-runners ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...
	$(GO) mod tidy -diff
	@dead=$$($(DEADCODE) -test ./...) && if [ -n "$$dead" ]; then echo "unreachable functions:"; echo "$$dead"; exit 1; fi

.PHONY: fmt
fmt: $(LINT) ## format all Go files
	$(LINT) fmt

.PHONY: test-unit
test-unit: ## unit tests under the race detector (as root also those that need root)
	CGO_ENABLED=1 $(GO) test -race -timeout 15m $(UNIT)

.PHONY: test-root
test-root: ## unit tests as shipped (no cgo, no race detector), as root
	@test "$$(id -u)" = 0 || { echo "make test-root needs root" >&2; exit 1; }
	CGO_ENABLED=0 $(GO) test -count 1 -timeout 15m $(UNIT)

.PHONY: test-e2e
test-e2e: build ## end-to-end tests and attacks with the binaries in bin/, then the scenarios over berthd (root)
	BERTH_BIN=$(CURDIR)/$(BIN) CGO_ENABLED=0 $(GO) test -count 1 -timeout 20m ./test/e2e/... ./test/security/...
	BERTH_E2E_DAEMON=1 BERTH_BIN=$(CURDIR)/$(BIN) CGO_ENABLED=0 $(GO) test -count 1 -timeout 20m -skip '^Test(Daemon|Debian|KilledImageCommands|FullDiskAnywhere)' ./test/e2e/...

.PHONY: soak
soak: build ## 10 000 containers through one berthd, 50 at once, and 500 that run (root; at most half an hour)
	BERTH_BIN=$(CURDIR)/$(BIN) CGO_ENABLED=0 $(GO) test -count 1 -v -timeout 40m ./test/soak -args -containers $(SOAK) -running 500 -limit 20m

.PHONY: test-kubelet
test-kubelet: build .cache/kubelet ## a real kubelet on berthd, with static pods (root; builds the kubelet once, five minutes)
	.ci/packages kubelet
	BERTH_BIN=$(CURDIR)/$(BIN) CGO_ENABLED=0 $(GO) test -count 1 -v -timeout 40m -parallel 12 ./test/kubelet

# Two packages at once: some of them need much memory.
.cache/kubelet: test/kubelet/build/go.mod test/kubelet/build/go.sum
	@mkdir -p .cache
	@version=$$($(GO) -C test/kubelet/build list -m -f '{{.Version}}' k8s.io/kubernetes) && echo "building the kubelet $$version (once)" && \
		CGO_ENABLED=0 $(GO) -C test/kubelet/build build -p 2 -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" \
		-o $(CURDIR)/$@ k8s.io/kubernetes/cmd/kubelet

.PHONY: test-vm
test-vm: build ## the root tests in a virtual machine with cgroup v2 (installs qemu)
	.ci/packages vm
	.ci/test-vm $(BIN)

.PHONY: test-vm-systemd
test-vm-systemd: ## the control groups of isolators/cgroup/systemd under a real systemd, in such a machine
	.ci/packages vm
	.ci/test-vm-systemd

.PHONY: test-vm-power
test-vm-power: build ## cuts the power of such a machine in the middle of pulls (two minutes)
	.ci/packages vm
	.ci/test-vm-power $(BIN)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (5s)
	@$(GO) list ./... | while read -r pkg; do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

.PHONY: vuln
vuln: $(VULNCHECK) ## known vulnerabilities that the code reaches (asks vuln.go.dev)
	$(VULNCHECK) ./...

##@ API

# buf finds the plug-ins by PATH.
BUFRUN     = cd proto && PATH=$(CURDIR)/$(TOOLS):$$PATH buf

.PHONY: proto
proto: $(BUF) $(PROTOGEN) ## format the .proto files and generate the Go code of them
	$(BUFRUN) format -w
	$(BUFRUN) generate

.PHONY: check-proto
check-proto: $(BUF) $(PROTOGEN) ## format and lint the .proto files, compare with the generated code and the released API
	$(BUFRUN) format --diff --exit-code
	$(BUFRUN) lint
	$(BUFRUN) breaking --against released.binpb
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && ($(BUFRUN) generate -o "$$fresh") && \
		diff -rq -x '*.proto' -x '*.yaml' -x '*.md' -x '*.binpb' proto "$$fresh" || { echo "generated code is stale: make proto" >&2; exit 1; }

.PHONY: proto-release
proto-release: $(BUF) ## take the .proto files as the API that later ones must not break
	$(BUFRUN) build --exclude-source-info -o released.binpb

##@ figures

.PHONY: bench
bench: build ## launch, exec, throughput, memory and pulls beside the peers on this machine (root)
	.ci/packages bench
	$(GO) run ./test/bench -bin $(BIN)

.PHONY: cover
cover: ## test coverage over all packages, in cover.out
	$(GO) test -coverpkg=./... -coverprofile=cover.out $(UNIT)
	$(GO) tool cover -func=cover.out | tail -1

.PHONY: metrics
metrics: ## sizes and habits of the code, to compare with the house style
	@.ci/metrics

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .cache cover.out

$(TOOLS)/%: .ci/tools/go.mod .ci/tools/go.sum
	@mkdir -p $(TOOLS)
	@echo "building $* (once)"
	@tool=$$($(GO) -C .ci/tools list -f '{{.ImportPath}}' tool | grep '/$*$$') && \
		$(GO) -C .ci/tools build -o $(CURDIR)/$@ $$tool
