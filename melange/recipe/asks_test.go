package recipe

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"distro.internal/pipelines"
)

func TestAsks(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{"npm ci", "npm /w"},
		{"cd ui\nnpm ci --no-audit\nnpm run build", "npm /w/ui"},
		{"(cd ui && npm install)\ncargo build --release", "npm /w/ui, cargo /w"},
		{"pushd web/app; npm ci; popd; cargo auditable build --frozen", "npm /w/web/app, cargo /w"},
		{"npm --prefix 'front end' ci", "npm /w/front end"},
		{"if true; then cd a; npm ci; fi; npm i", "npm /w/a, npm /w"},
		{"NODE_ENV=x npm ci | tee log", "npm /w"},
		{"cargo +nightly build --manifest-path=sub/Cargo.toml", "cargo /w/sub"},
		{"cargo install --path cli --root /out", "cargo /w/cli"},
		{"pip3 install --no-cache-dir -r requirements/base.txt -r dev.txt", "pip /w/requirements base.txt, pip /w dev.txt"},
		{"python3.12 -m pip install --require-hashes -r lock.txt .", "pip /w lock.txt"},
		{"uv pip sync --python x req.txt", "pip /w req.txt"},
		{"/usr/bin/npm ci", "npm /w"},
		{"maturin build --release", "cargo /w"},
		{"yarn\nyarn build", "yarn /w"},
		{"pnpm -C ui --filter x install --frozen-lockfile\npnpm i", "pnpm /w/ui, pnpm /w"},
		{"cd ui && yarn install --frozen-lockfile", "yarn /w/ui"},
		{"yarn --cwd=web --frozen-lockfile && yarnpkg --cwd docs add x", "yarn /w/web, yarn /w/docs"},

		{"go build -o x ./cmd/x", "gomod /w"},
		{"make -C sub all\nmake", "gomod /w/sub, gomod /w"},
		{"cd v2\ngo get example.org/m@v1.2.3 example.org/n@v2 && go mod tidy", "gomod /w/v2 +example.org/m@v1.2.3 +example.org/n@v2, gomod /w/v2 tidy"},
		{"go -C sub mod vendor", "gomod /w/sub"},
		{"go mod edit -replace=a=b@v1 -replace c=d@v2 -replace e=../e", "gomod /w a=b@v1 c=d@v2"},
		{"gobump --packages 'a.org/m@v1 b.org/m@v2' --modroot=x", "gomod /w/x +a.org/m@v1 +b.org/m@v2 tidy"},
		{"GOFLAGS=-mod=mod go test ./...", "gomod /w"},

		{"if [ 'false' = true ]; then go mod tidy; elif [ -z '' ]; then npm ci; else cargo build; fi", "npm /w"},
		{"if [ -n \"$X\" ]; then go mod tidy; else npm ci; fi", "gomod /w tidy, npm /w"},

		{"go install example.org/m@v1", ""},
		{"go version; go env GOROOT; go mod init x", ""},
		{"npm run build", ""},
		{"pnpm build; pnpm install -g x", ""},
		{"yarn build; yarn --version; yarn global add x", ""},
		{"npm install -g cowsay", ""},
		{"cargo install ripgrep", ""},
		{"cargo --version", ""},
		{"pip install requests", ""},
		{"echo npm ci", ""},
		{"cd $UI && npm ci", ""},
		{"cd \"$UI\"; cd /w/b; npm ci", "npm /w/b"},
		{"pip install -r \"$FILE\"", ""},
		{"npm ci (", ""},
		{"cat > x <<E\nnpm ci\nE\n", ""},
	} {
		var got []string
		for _, a := range asks(c.script, "/w", true) {
			text := strings.TrimSpace(fmt.Sprintf("%s %s %s", a.kind, a.dir, a.lock))
			for _, dep := range a.deps {
				text += " +" + dep
			}
			for _, r := range a.replaces {
				text += " " + r
			}
			if a.tidy {
				text += " tidy"
			}
			got = append(got, text)
		}
		if is := strings.Join(got, ", "); is != c.want {
			t.Errorf("%q asks for %q, want %q", c.script, is, c.want)
		}
	}
}

// TestLockSources: what commands ask for stands among the sources once, unless it was said or the network is there.
func TestLockSources(t *testing.T) {
	omnibump := fstest.MapFS{"bump.yaml": {Data: []byte(`inputs:
  deps: {default: ""}
  modroot: {default: "` + "\\n.\\nv2" + `"}
  language: {default: auto}
  tidy: {default: true}
pipeline:
  - runs: |
      COMMAND="omnibump --packages \"${{inputs.deps}}\""
      eval "$COMMAND"
`)}}
	for _, c := range []struct{ name, recipe, want string }{
		{"found", "pipeline:\n  - runs: cd ui && npm ci\n  - working-directory: ui\n    runs: npm install\n", "npm ui found"},
		{"said", "pipeline:\n  - source: npm\n    with: {directory: ui}\n  - runs: cd ui && npm ci\n", "npm ui"},
		{"a file", "pipeline:\n  - source: pip\n    with: {lock: dev.txt}\n  - runs: pip install -r dev.txt\n", "pip . dev.txt"},
		{"pipeline", "pipeline:\n  - uses: cargo/build\n    with: {modroot: sub}\n", "cargo sub"},
		{"modules", "environment: {contents: {packages: [go-1.25]}}\npipeline:\n  - runs: make\n", "gomod . found"},
		{"make of another kind", "pipeline:\n  - runs: make\n", ""},
		{"bump", "pipeline:\n  - uses: go/bump\n    with: {deps: 'a.org/m@v1 b.org/m@v2', replaces: 'c=d@v1', modroot: sub}\n", "gomod sub +a.org/m@v1 +b.org/m@v2 c=d@v1 tidy"},
		{"omnibump", "pipeline:\n  - uses: bump\n    with: {deps: 'a.org/m@v1'}\n", "gomod . +a.org/m@v1 tidy found, gomod v2 +a.org/m@v1 tidy found"},
		{"outside", "pipeline:\n  - runs: cd /tmp && npm ci\n", ""},
		{"step online", "pipeline:\n  - options: [network]\n    pipeline:\n      - uses: cargo/build\n      - runs: npm ci\n", ""},
		{"all online", "environment: {network: true}\npipeline:\n  - uses: cargo/build\n", ""},
	} {
		p, err := planText("package: {name: x, version: 1}\n"+c.recipe, NewLibrary(omnibump, pipelines.Files))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, s := range p.Sources {
			text := strings.TrimSpace(s.Kind + " " + s.Directory + " " + s.Lock)
			for _, dep := range s.Deps {
				text += " +" + dep
			}
			for _, r := range s.Replaces {
				text += " " + r
			}
			if s.Tidy {
				text += " tidy"
			}
			if s.Found {
				text += " found"
			}
			got = append(got, text)
		}
		if is := strings.Join(got, ", "); is != c.want {
			t.Errorf("%s: the sources are %q, want %q", c.name, is, c.want)
		}
	}
}

// TestLockArchitecture: a cross build's steps run on the build machine, and its tests where the packages do.
func TestLockArchitecture(t *testing.T) {
	r, err := Parse("x.yaml", []byte("package: {name: x, version: 1}\nenvironment: {sysroot: {}}\npipeline:\n  - runs: npm ci\ntest:\n  pipeline:\n    - runs: npm ci\n"), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Plan(PlanOptions{Arch: "aarch64", BuildArch: "x86_64", Library: NewLibrary(pipelines.Files)})
	if err != nil {
		t.Fatal(err)
	}
	if build, test := p.Sources[0].Arch, p.Tests[0].Sources[0].Arch; build != "x86_64" || test != "aarch64" {
		t.Errorf("packages are fetched for %s, and for the test for %s", build, test)
	}
}

// TestNetwork: who may talk to the network, by what the step, the recipe and the planner say.
func TestNetwork(t *testing.T) {
	const step = "package: {name: x, version: 1}\npipeline:\n  - runs: a\n  - options: [network]\n    runs: b\n"
	const all = "package: {name: x, version: 1}\nenvironment: {network: true}\npipeline:\n  - runs: a\n  - runs: b\n"
	for _, c := range []struct {
		recipe string
		policy Network
		want   string
	}{
		{step, NetworkAsked, "[false true]"},
		{step, NetworkAlways, "[true true]"},
		{step, NetworkNever, "x.yaml:4:5: the network is asked for here, and the recipe may not have it"},
		{all, NetworkAsked, "[true true]"},
		{all, NetworkNever, "x.yaml:2:24: the network is asked for here, and the recipe may not have it"},
		{strings.Replace(all, "true", "maybe", 1), NetworkAsked, `x.yaml:2:24: network: want true or false, found "maybe"`},
	} {
		r, err := Parse("x.yaml", []byte(c.recipe), ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p, err := r.Plan(PlanOptions{Arch: "x86_64", Library: NewLibrary(pipelines.Files), Network: c.policy}); err != nil {
			got = err.Error()
		} else {
			var online []bool
			for _, s := range p.Steps {
				online = append(online, s.Network)
			}
			got = fmt.Sprint(online)
		}
		if got != c.want {
			t.Errorf("under %q: %s, want %s", c.policy, got, c.want)
		}
	}
}
