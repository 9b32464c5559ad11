# Every target sets up what it needs and that needs no root. The work is in scripts/, one script a target.

PREFIX ?= /usr/local
DESTDIR ?=

.DEFAULT_GOAL := help
.PHONY: help setup build python wheel demo test test-exhaustive ptx bench bench-c bench-python bench-copy bench-ledger gpu-bundle gpu-check abi-dump install dist dist-check uninstall clean book

help: ## this list
	@echo "Freehold: many libraries, one memory space."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'
	@echo
	@echo "  make test STEPS='rust python'   only these steps of the tests"
	@echo "  make bench-copy TABLE=transposes THREADS=1   only the tables whose title has a match, one thread"
	@echo "  make bench-copy PAGE=docs/benchmarks-xeon.md   into the tables of that page"
	@echo "  make install PREFIX=/opt/fh     headers, libraries, pkg-config and CMake files"

setup: ## the virtual environment, its packages and the cargo tools, where they are missing
	@scripts/setup.sh all

build: ## the C library: libfreehold.so and libfreehold.a, optimised
	@scripts/build.sh library

python: ## the Python package, built and put into .venv
	@scripts/build.sh python

wheel: ## the Python package as a wheel, in build/wheel
	@scripts/build.sh wheel

demo: ## the story in a minute: NumPy, PyTorch and C share memory, and the ledger says who owns what
	@scripts/demo.sh

test: ## everything that CI checks
	@scripts/test.sh $(STEPS)

test-exhaustive: ## every cast of 10^8 random floats, against NumPy and ml_dtypes and between instruction sets
	@scripts/test.sh exhaustive

bench: ## the hand-over figures of docs/benchmarks.md, measured here
	@scripts/bench.sh handovers

bench-c: ## the C interface beside tvm-ffi's, the library's size and load time; docs/benchmarks.md, measured here
	@scripts/bench.sh c

bench-python: ## every pair of frameworks, beside the target's own way in; docs/benchmarks.md, measured here
	@scripts/bench.sh python

bench-copy: ## the copy and cast figures of docs/benchmarks.md, measured here
	@scripts/bench.sh copies $(if $(TABLE)$(THREADS),'$(or $(TABLE),.)') $(THREADS)

bench-ledger: ## what the ledger costs, beside the primitives that could hold its records; docs/benchmarks.md, measured here
	@scripts/bench.sh ledger

ptx: ## the device's kernels, compiled anew into crates/freehold-device/kernels/ptx; no GPU needed
	@scripts/ptx.sh

gpu-bundle: ## one folder that tests and measures on a machine with a GPU and no Rust: build/gpu-bundle
	@scripts/gpu_bundle.sh

gpu-check: ## builds that folder and runs it on this machine's GPU; the figures go into docs/gpu
	@scripts/gpu_check.sh

abi-dump: ## the interface that tests/abi compares the headers with, written anew; needs abidw (Debian: abigail-tools)
	@scripts/abi.sh dump

book: build ## the book and the references of C, C++ and Rust, in build/site
	@scripts/setup.sh test
	@scripts/docs.sh

install: build ## the C library under PREFIX (and DESTDIR)
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh install

dist: build ## headers and libraries as one archive for machines without Rust: build/dist
	@scripts/dist.sh pack

dist-check: ## builds that archive in two places and compares the bytes
	@scripts/dist.sh verify

uninstall: ## removes what `make install` put under PREFIX (and DESTDIR)
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh uninstall

clean: ## removes what was built; .venv and its packages stay
	@scripts/build.sh clean
