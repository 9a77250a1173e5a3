# The checks themselves stand in .ci/run; this is their index.
.DEFAULT_GOAL := help
.PHONY: help test race short vet lint fuzz bench demo sim chaos mutants cross ci nightly cover fmt tidy

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## run all tests (needs nothing but Go)
	go test -timeout 30m ./...

race: ## run all tests of all modules with the race detector
	.ci/run race

short: ## run the quick tests only
	go test -short ./...

vet: ## go vet, in all modules
	.ci/run vet

lint: ## formatting, staticcheck and the rules on the source tree
	.ci/run format staticcheck archtest

fuzz: ## fuzz each target for a while (FUZZTIME=1m, or 2000x inputs)
	.ci/run fuzz

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

demo: ## watch an election on this machine
	go run ./cmd/election demo

SEEDS ?= 100000
SEED ?= 1
MINUTES ?= 60
sim: ## run elections in many seeded worlds (SEEDS=100000 SEED=1 MINUTES=60)
	SEEDS=$(SEEDS) SEED=$(SEED) MINUTES=$(MINUTES) go test -count=1 -timeout 0 -v -run '^TestWorlds$$' ./internal/sim

DURATION ?= 10m
ENGINES ?= mysql,postgres,sqlite
chaos: ## kill, stop, cut and restart real processes and servers (DURATION=10m ENGINES=mysql,postgres,sqlite SEED=0)
	go -C test run ./chaos -duration $(DURATION) -engines $(ENGINES) -seed $(if $(filter command line environment,$(origin SEED)),$(SEED),0) \
		-commit "$$(git describe --always --dirty=+)"

mutants: ## break the code on purpose: do the tests notice? (RUN=regexp)
	go -C test run ./mutants -run '$(RUN)'

cross: ## build for other platforms (CROSS="os/arch ...")
	.ci/run cross

ci: ## everything that CI runs
	.ci/run

nightly: ## what takes hours: all mutants, chaos, clusters, 20,000 worlds, PostgreSQL 17 and 18
	.ci/run nightly

cover: ## test coverage by function, in cover.out
	go test -coverpkg=./... -coverprofile=cover.out ./...
	go tool cover -func=cover.out | tail -n 1

fmt: ## format all Go files
	gofmt -w .

tidy: ## tidy every module
	find . -name go.mod -not -path '*/testdata/*' -execdir go mod tidy \;
