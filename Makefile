# make world: build the distribution. make test: prove the tools.
# WORLD takes flags for world, for example WORLD="-j 4 --json".

GO      ?= go
WORLD   ?=
modules := shared pipelines melange apko ci
sources := go.work $(shell find $(modules) -name testdata -prune -o \( -name '*.go' -o -name 'go.*' -o -path 'pipelines/*.yaml' \) -print)

# Programs that run portable steps start themselves inside of sandboxes, where no loader for them is.
export CGO_ENABLED := 0

.PHONY: world build pipelines test vet fuzz clean

world: out/bin/world
	@out/bin/world build $(WORLD)

build: out/bin/world

pipelines: pipelines/wasm/portable.wasm

# The portable programs, as they are embedded. The same sources make the same bytes on every machine.
pipelines/wasm/portable.wasm: $(shell find pipelines -name testdata -prune -o \( -name '*.go' -o -name 'go.*' \) -print)
	GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -buildvcs=false -ldflags='-s -w' -o $@ ./pipelines/portable

# One command builds all three programs, so that they are never of two ages.
out/bin/world: $(sources) pipelines/wasm/portable.wasm
	@mkdir -p out/bin
	$(GO) build -trimpath -buildvcs=false -o out/bin/melange ./melange
	$(GO) build -trimpath -buildvcs=false -o out/bin/apko ./apko
	$(GO) build -trimpath -buildvcs=false -o out/bin/world ./ci

# The tests run programs of both architectures: the emulator is one of the first tools. Those of ci come last and are
# never taken from Go's cache: they build, verify and run the distribution, whose files Go does not see.
test: vet build
	out/bin/world stage0
	export SANDBOX_TEST_QEMU_AARCH64=$$(out/bin/world stage0 emulator aarch64) && \
	$(GO) test -timeout 60m $(addsuffix /...,$(addprefix ./,$(filter-out ci,$(modules)))) && \
	$(GO) test -count=1 -timeout 120m ./ci/...

vet: pipelines
	@test -z "$$(gofmt -l $(modules))" || { echo "gofmt would change:"; gofmt -l $(modules); exit 1; }
	$(GO) vet $(addsuffix /...,$(addprefix ./,$(modules)))

# Every fuzz target for FUZZTIME each. Go's fuzzer makes each input that it finds interesting smaller, for a minute
# unless told otherwise, in tries that grow with the square of the input's length: that would be all that it does.
FUZZTIME ?= 30s
fuzz: pipelines
	@for p in $$($(GO) list $(addsuffix /...,$(addprefix ./,$(modules)))); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$p || exit 1; \
		done; \
	done

clean:
	rm -rf out pipelines/wasm/*.wasm
