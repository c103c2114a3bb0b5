package recipe

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"distro.internal/pipelines"
	"distro.internal/shared/apk"
)

// story is a recipe of testdata/plans.txtar with the files beside it and what it is planned to be.
type story struct {
	name   string
	recipe []byte
	files  fstest.MapFS
	want   *txtar.File
}

func stories(t testing.TB, archive *txtar.Archive) []story {
	var list []story
	var s story
	for i := range archive.Files {
		f := &archive.Files[i]
		switch name, last := strings.CutSuffix(f.Name, ".want"); {
		case last:
			s.want = f
			if name != s.name {
				t.Fatalf("%s follows %s.yaml", f.Name, s.name)
			}
			list = append(list, s)
		case strings.Contains(f.Name, "/"):
			s.files[f.Name] = &fstest.MapFile{Data: f.Data}
		default:
			s = story{name: strings.TrimSuffix(f.Name, ".yaml"), recipe: f.Data, files: fstest.MapFS{}}
		}
	}
	return list
}

// options reads the first line of the recipe.
func (s story) options() PlanOptions {
	o := PlanOptions{Arch: "x86_64", Library: NewLibrary(s.files, pipelines.Files), Dir: s.files, AllowUnpinned: false}
	line, _, _ := strings.Cut(string(s.recipe), "\n")
	for word := range strings.FieldsSeq(line) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "arch":
			o.Arch = apk.Arch(value)
		case "build":
			o.BuildArch = apk.Arch(value)
		case "commit":
			o.Commit = value
		case "options":
			o.Options = strings.Split(value, ",")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		switch file := (File{Name: name, Data: s.files[name].Data}); {
		case strings.HasPrefix(name, "env/"):
			o.EnvFiles = append(o.EnvFiles, file)
		case strings.HasPrefix(name, "vars/"):
			o.VarsFiles = append(o.VarsFiles, file)
		}
	}
	return o
}

func (s story) plan(t testing.TB) *Plan {
	r, err := Parse(s.name+".yaml", s.recipe, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Plan(s.options())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const plansGolden = "testdata/plans.txtar"

func TestPlan(t *testing.T) {
	archive, err := txtar.ParseFile(plansGolden)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stories(t, archive) {
		t.Run(s.name, func(t *testing.T) {
			p := s.plan(t)
			got := describe(p)
			if *update {
				s.want.Data = []byte(got)
			}
			if d := cmp.Diff(string(s.want.Data), got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			checkNodes(t, p)
			if again := s.plan(t); !reflect.DeepEqual(again, p) {
				t.Error("a second plan of the same recipe differs")
			}
		})
	}
	if *update {
		if err := os.WriteFile(plansGolden, txtar.Format(archive), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// checkNodes: the trees of a plan hold the steps and sources of its lists, in order.
func checkNodes(t *testing.T, p *Plan) {
	var steps []Step
	var sources []Source
	var walk func(nodes []Node)
	walk = func(nodes []Node) {
		for _, n := range nodes {
			steps, sources = append(steps, n.Steps...), append(sources, n.Sources...)
			walk(n.Nodes)
		}
	}
	for _, o := range p.Outputs {
		walk(o.Nodes)
	}
	if !reflect.DeepEqual(steps, p.Steps) || !reflect.DeepEqual(sources, p.Sources) {
		t.Errorf("the steps' tree has %v and %v", steps, sources)
	}
	for _, test := range p.Tests {
		steps, sources = nil, nil
		walk(test.Nodes)
		if !reflect.DeepEqual(steps, test.Steps) || !reflect.DeepEqual(sources, test.Sources) {
			t.Errorf("the tree of the test of %s has %v and %v", test.Output, steps, sources)
		}
	}
}

// describe writes down a plan for people, without what every plan has.
func describe(p *Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s for %s on %s\n", p.Name, p.FullVersion(), p.Arch, p.BuildArch)
	describeEnvironment(&b, p.Environment)
	for _, s := range p.Sources {
		fmt.Fprintf(&b, "source %s\n", fields(s))
	}
	for _, s := range p.Steps {
		describeStep(&b, s)
	}
	for _, o := range p.Outputs {
		o.Nodes = nil
		fmt.Fprintf(&b, "output %s\n", fields(o))
	}
	for _, t := range p.Tests {
		fmt.Fprintf(&b, "test %s\n", t.Output)
		describeEnvironment(&b, t.Environment)
		for _, s := range t.Sources {
			fmt.Fprintf(&b, "source %s\n", fields(s))
		}
		for _, s := range t.Steps {
			describeStep(&b, s)
		}
	}
	rest := *p
	rest.Name, rest.Version, rest.Epoch, rest.Arch, rest.BuildArch = "", "", 0, "", ""
	rest.File, rest.Environment, rest.Sources, rest.Steps, rest.Outputs, rest.Tests = "", Environment{}, nil, nil, nil, nil
	if text := fields(rest); text != "" {
		fmt.Fprintf(&b, "also %s\n", text)
	}
	return b.String()
}

func describeStep(b *strings.Builder, s Step) {
	script := s.Script
	if s.Uses != "" && !strings.HasPrefix(s.Uses, "my/") && !strings.HasPrefix(script, "mkdir -p '") {
		script = "" // the built-in ones have tests of their own
	}
	s.Script = ""
	fmt.Fprintf(b, "step %s\n", fields(s))
	for line := range strings.Lines(script) {
		fmt.Fprintf(b, "    %s\n", strings.TrimSuffix(line, "\n"))
	}
}

func describeEnvironment(b *strings.Builder, e Environment) {
	usual := map[string]bool{
		"HOME=" + Workspace: true, "GOPATH=" + Workspace + "/.cache/go": true, "GOMODCACHE=" + CacheDir + "/gomodcache": true,
		"UV_CACHE_DIR=" + CacheDir + "/uv": true, "PIP_CACHE_DIR=" + CacheDir + "/pip": true,
		"COMPOSER_CACHE_DIR=" + CacheDir + "/composer": true, "npm_config_cache=" + CacheDir + "/npm": true,
	}
	for _, k := range slices.Sorted(maps.Keys(e.Env)) {
		if v := k + "=" + e.Env[k]; !usual[v] {
			fmt.Fprintf(b, "env %s\n", v)
		}
	}
	e.Env, e.Written = nil, nil
	if len(e.Accounts.Users) == 1 && e.Accounts.RunAs == "" {
		e.Accounts = Accounts{}
	}
	if text := fields(e); text != "" {
		fmt.Fprintf(b, "environment %s\n", text)
	}
}

// fields writes the fields of a struct that are not zero.
func fields(v any) string {
	var parts []string
	value := reflect.ValueOf(v)
	for i := range value.NumField() {
		f := value.Field(i)
		if f.IsZero() || f.Kind() == reflect.Slice && f.Len() == 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s=%s", value.Type().Field(i).Name, plain(f)))
	}
	return strings.Join(parts, " ")
}

func plain(v reflect.Value) string {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	switch v.Kind() {
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, plain(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Struct:
		return "{" + fields(v.Interface()) + "}"
	case reflect.Pointer:
		if _, ok := v.Interface().(error); !ok {
			return plain(v.Elem())
		}
	case reflect.String:
		if s := v.String(); strings.ContainsAny(s, " \n\x00\x01") || s == "" {
			return fmt.Sprintf("%q", s)
		}
	}
	return fmt.Sprint(v.Interface())
}

func TestArchitecture(t *testing.T) {
	r, err := Parse("x.yaml", []byte("package: {name: x, version: 1, target-architecture: [aarch64]}\n"), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Plan(PlanOptions{Arch: "x86_64"}); !errors.Is(err, ErrArchitecture) {
		t.Errorf("planned for x86_64: %v", err)
	}
	if _, err := r.Plan(PlanOptions{Arch: "aarch64"}); err != nil {
		t.Errorf("for aarch64: %v", err)
	}
}

func TestUnpinned(t *testing.T) {
	text := "package: {name: x, version: 1}\npipeline: [{uses: fetch, with: {uri: https://example.org/x}}]\n"
	r, err := Parse("x.yaml", []byte(text), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := PlanOptions{Arch: "x86_64", Library: NewLibrary(pipelines.Files)}
	if _, err := r.Plan(o); err == nil {
		t.Error("a source without a digest was accepted")
	}
	o.AllowUnpinned = true
	if _, err := r.Plan(o); err != nil {
		t.Error(err)
	}
}

func TestLenient(t *testing.T) {
	text := []byte("package: {name: x, version: 1, news: y}\n")
	if _, err := Parse("x.yaml", text, ParseOptions{}); err == nil {
		t.Error("an unknown key was accepted")
	}
	if _, err := Parse("x.yaml", text, ParseOptions{Lenient: true}); err != nil {
		t.Error(err)
	}
}
