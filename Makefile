# Aetherium's own commands. make help lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"
AGENTS := services/core/agent/agentbin/dist
DEV := go tool -modfile=tools/dev/go.mod

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: ## Set up, build, start the platform, run a real workload in a VM, and clean up
	@scripts/quickstart.sh

.PHONY: up
up: ## Set up, build, and leave the platform running in the background
	@scripts/up.sh

.PHONY: down
down: ## End what make up started, with its VMs
	@scripts/down.sh

.PHONY: setup
setup: ## Install what the tests need (Debian packages)
	@scripts/setup.sh test

.PHONY: build
build: agents runsc ## Build everything into bin/
	@echo "building bin/aetherium and bin/aether-cli"
	@$(GO_BUILD) -o bin/ ./cmd/aetherium ./cmd/aether-cli

.PHONY: agents
agents:
	@echo "building the guest agent for amd64 and arm64"
	@for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(GO_BUILD) -o $(AGENTS)/aether-agent-linux-$$arch ./cmd/aether-agent || exit 1; done

# runsc takes a minute or two: it is built when its module or the Go version changed.
.PHONY: runsc
runsc:
	@want="$$(cat tools/runsc/go.mod tools/runsc/go.sum | sha256sum | cut -c1-16)-$$(go env GOVERSION)"; \
	if [ -x bin/runsc ] && [ "$$(cat bin/.runsc-version 2>/dev/null)" = "$$want" ]; then exit 0; fi; \
	echo "building bin/runsc, gVisor's runtime, from its module; this takes one to four minutes the first time"; \
	mkdir -p bin && (cd tools/runsc && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../bin/runsc gvisor.dev/gvisor/runsc) && echo "$$want" > bin/.runsc-version

.PHONY: test
test: ## Run every test (sets up what they need; as root for all of them)
	@scripts/test.sh

.PHONY: lint
lint: ## gofmt, go vet, staticcheck and golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt these:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	$(DEV) staticcheck ./...
	$(DEV) golangci-lint run ./...

.PHONY: generate
generate: ## Make the generated code anew (Protobuf)
	$(DEV) buf generate

.PHONY: bench
bench: build ## Measure, side by side with Docker and bare runsc; results in bench-results/
	@scripts/setup.sh bench
	@go run ./test/measure

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin bench-results $(AGENTS)/aether-agent-linux-*
