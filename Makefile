# The gateway's commands; `make` alone lists them.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# How long make fuzz tries each target.
FUZZTIME ?= 1m

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILDINFO := github.com/neolith/daemon-gateway/internal/buildinfo

# Everything is compiled in one way but for the race detector, which needs cgo: what
# one command has compiled, the others find in the cache.
export CGO_ENABLED := 0
# A fifth of the compiler's work is to free memory that it will soon have given back.
export GOFLAGS := $(strip $(GOFLAGS) '-toolexec=env GOGC=400')

# Where releases' images are pulled from.
REGISTRY ?= ghcr.io/neolith

.PHONY: help build run test race test-long repeat fuzz chaos chaos-short recovery dr-drill hostile soak lint vulnerabilities bench bench-compare bench-short flamegraph docs images release manifests check-deploy verify-cluster clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What gatewayctl was called by, as links for this release.
FORMERLY := gateway-backup gateway-restore gateway-probe

build: ## build the programs into bin/: edge, router, publisher-bridge, devcluster, gatewayctl, …
	go build -ldflags '-X $(BUILDINFO).version=$(VERSION)' -o bin/ ./cmd/...
	@for name in $(FORMERLY); do ln -sfn gatewayctl "bin/$$name"; done

run: build ## run all three tiers here, with demo daemons; ARGS="--edges 3" adds flags
	@exec bin/devcluster --demo $(ARGS)

test: ## run all tests against real servers; ARGS="./internal/ring -run X" runs some
	@scripts/test-prerequisites
	go run ./scripts/suite $(ARGS)

race: ## the same with the race detector, but for the tests of the built programs; CI runs both
	@scripts/test-prerequisites compiler
	go run ./scripts/suite -race $(ARGS)

test-long: ## let the tests that explore at random explore for long; ARGS="./internal/cursor" names some
	go run ./scripts/suite -long $(ARGS)

repeat: ## run tests again and again, disturbed; ARGS="-times 10 -busy 2 -stutter -each" and what test takes
	@scripts/test-prerequisites
	go run ./scripts/suite -times 3 $(ARGS)

fuzz: ## fuzz every parser of what others send, each for FUZZTIME (1m); ARGS="ring token" names some
	go run ./scripts/fuzz -time $(FUZZTIME) $(ARGS)

chaos: ## kill, pause, restart and cut off processes at random, and check that nothing is lost; ARGS="-seed 7" repeats
	go run ./cmd/lab chaos $(ARGS)

# The seed draws, among others, a killed Redis, a restarted router, an edge cut off in one direction and in
# both, the cluster cut in two, and then a calm spell.
chaos-short: ## the same in under three minutes, always from one seed; ARGS adds flags
	go run ./cmd/lab chaos -seed 272 -duration 70s -calm 12s -settle 45s -fickle=false -workers=false -slow=false -careless=false $(ARGS)

recovery: ## measure how fast the service is back after each kind of fault; ARGS adds flags
	go run -ldflags '-X $(BUILDINFO).version=$(VERSION)' ./cmd/lab recovery $(ARGS)

dr-drill: ## back up, destroy, restore, and check what came of each event; ARGS adds flags
	go run ./cmd/lab drill $(ARGS)

hostile: ## measure what hostile clients cost an edge and its other daemons; ARGS="-attacks list" lists them
	go run ./cmd/lab hostile $(ARGS)

soak: ## run a cluster for an hour and report what grows; ARGS="-duration 10m" is shorter
	go run ./cmd/lab soak $(ARGS)

lint: export GOGC := 400
lint: ## check format, vet, staticcheck, go.mod and the generated documentation
	@unformatted=$$(git ls-files -z '*.go' | xargs -0 -r gofmt -l); \
		if [ -n "$$unformatted" ]; then echo "not formatted with gofmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	go mod verify
	@go run ./docs/generate | diff -u docs/configuration.md - \
		|| { echo "docs/configuration.md is not up to date: run make docs"; exit 1; }
	@go run ./docs/generate metrics | diff -u docs/metrics.md - \
		|| { echo "docs/metrics.md is not up to date: run make docs"; exit 1; }

vulnerabilities: ## look for known vulnerabilities with govulncheck, where its database can be reached
	@scripts/check-vulnerabilities

bench: ## measure throughput, latency, connects and memory, beside what limits them; ARGS adds flags
	go run ./cmd/lab bench $(ARGS)

bench-compare: ## the same for another revision in turn with this one: BASE=main; ARGS adds flags
	@[ -n '$(BASE)' ] || { echo 'name a revision to compare with: make bench-compare BASE=main'; exit 1; }
	go run ./cmd/lab bench -base '$(BASE)' -runs 5 -reference none $(ARGS)

bench-short: ## measure for a moment what an event costs, and judge it against the limits, as CI does
	go run ./cmd/lab bench -short $(ARGS)

flamegraph: ## draw a profile: make -s flamegraph PROFILE=edge.cpu TITLE="an edge" > edge.svg
	@go tool pprof -traces '$(PROFILE)' 2>/dev/null | go run ./scripts/flamegraph -title '$(TITLE)'

docs: ## write docs/configuration.md from the settings, docs/metrics.md, and the reference of docs/gatewayctl.md
	@text=$$(go run ./docs/generate); printf '%s\n' "$$text" > docs/configuration.md
	@text=$$(go run ./docs/generate metrics); printf '%s\n' "$$text" > docs/metrics.md
	go test -count=1 ./internal/gatewayctl -run TestThePageHasTheReference -update

manifests: docs ## write what is derived for deployments: schema and table of the chart's values, deploy/k8s
	cd deploy/check && go run ./generate

# Go remembers results by the files of the module alone, and these tests read those of the whole repository. Two of
# their packages build the programs, which are compiled once before. The module is linted here, where Helm, Kubernetes
# and Prometheus are compiled: in CI that goes on beside tests, which mostly wait.
check-deploy: ## check chart, manifests, alerts, dashboards, Compose file and releases without a cluster; lint what does
	go list -export -deps ./cmd/... >/dev/null
	staticcheck=$$(go tool -n staticcheck); cd deploy/check; go mod verify; go vet ./...; "$$staticcheck" ./...
	cd deploy/check && go test -count=1 -vet=off $(ARGS) ./...

verify-cluster: ## install the chart on the cluster of kubectl, and disturb it under load; ARGS="--help" lists options
	@deploy/verify $(ARGS)

images: ## build the image; with Docker into its store, without into dist/daemon-gateway.tar
	@scripts/build-image '$(VERSION)'

release: ## build the release VERSION=1.2.0 from this commit into dist/; SIGNING_KEY=<file> signs it
	@[ '$(origin VERSION)' != file ] || { echo 'name a version: make release VERSION=1.2.0'; exit 1; }
	@cd deploy/check && go run ./release build --source ../.. --output '$(CURDIR)/dist/daemon-gateway-$(VERSION)' --version '$(VERSION)' \
		--registry '$(REGISTRY)' $(if $(SIGNING_KEY),--signing-key '$(abspath $(SIGNING_KEY))') $(ARGS)

clean: ## remove what build, images and run have made
	rm -rf bin data dist
