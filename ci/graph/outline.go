package graph

import (
	"fmt"
	"strings"

	"distro.internal/ci/record"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
)

// An Outline is what there is to know of a recipe's plan before it is carried
// out: all but its steps and texts, which are nine tenths of it. Thousands of
// them fit into little memory, and are kept between runs.
type Outline struct {
	BuildArch             apk.Arch
	Cross                 bool
	Packages, Sysroot     []apk.Dependency // of the environment
	Repositories, Keyring []string
	Outputs               []Output
	Tests                 []Tested
	Digests               recipe.Digests
	LocalDir              string // folder of the recipe's own files, relative to the recipe's
	LocalFiles            []LocalFile
}

// An Output is a package that comes of the plan, as far as the recipe says.
type Output struct {
	Name            string
	Needs, Provides []apk.Dependency
}

// A Tested output is one that has a test, with the packages of its environment.
type Tested struct {
	Output   string
	Packages []apk.Dependency
}

// A LocalFile is one of the recipe's own files.
type LocalFile struct {
	Name   string
	Digest string // of its bytes, and whether it can be executed
}

// outline says of a plan what matters here.
func outline(p *recipe.Plan, file string) (*Outline, error) {
	e := p.Environment
	o := &Outline{
		BuildArch: p.BuildArch, Cross: e.Cross, Packages: e.Packages, Sysroot: e.Sysroot,
		Repositories: e.Repositories, Keyring: e.Keyring, Digests: p.Digests(), LocalDir: p.LocalDir,
	}
	for _, out := range p.Outputs {
		needs, err := apk.ParseDependencies(strings.Join(out.Depends, " "))
		if err != nil {
			return nil, fmt.Errorf("%s: package %s: %w", file, out.Name, err)
		}
		provides := make([]apk.Dependency, len(out.Provides))
		for i, text := range out.Provides {
			if provides[i], err = apk.ParseDependency(text); err != nil {
				return nil, fmt.Errorf("%s: package %s provides %q: %w", file, out.Name, text, err)
			}
		}
		o.Outputs = append(o.Outputs, Output{out.Name, needs, provides})
	}
	for _, t := range p.Tests {
		o.Tests = append(o.Tests, Tested{t.Output, t.Environment.Packages})
	}
	return o, nil
}

func (o *Outline) encode(w *record.Writer) {
	w.Text(string(o.BuildArch))
	w.Bool(o.Cross)
	encodeDependencies(w, o.Packages)
	encodeDependencies(w, o.Sysroot)
	w.Texts(o.Repositories)
	w.Texts(o.Keyring)
	w.Count(len(o.Outputs))
	for _, out := range o.Outputs {
		w.Text(out.Name)
		encodeDependencies(w, out.Needs)
		encodeDependencies(w, out.Provides)
	}
	w.Count(len(o.Tests))
	for _, t := range o.Tests {
		w.Text(t.Output)
		encodeDependencies(w, t.Packages)
	}
	w.Text(o.Digests.Build)
	w.Text(o.Digests.Package)
	w.Text(o.Digests.Test)
	w.Text(o.LocalDir)
	w.Count(len(o.LocalFiles))
	for _, f := range o.LocalFiles {
		w.Text(f.Name)
		w.Text(f.Digest)
	}
}

func decodeOutline(r *record.Reader) *Outline {
	o := &Outline{
		BuildArch: apk.Arch(r.Text()), Cross: r.Bool(), Packages: decodeDependencies(r), Sysroot: decodeDependencies(r),
		Repositories: r.Texts(), Keyring: r.Texts(),
	}
	o.Outputs = make([]Output, r.Count())
	for i := range o.Outputs {
		o.Outputs[i] = Output{r.Text(), decodeDependencies(r), decodeDependencies(r)}
	}
	if n := r.Count(); n > 0 {
		o.Tests = make([]Tested, n)
	}
	for i := range o.Tests {
		o.Tests[i] = Tested{r.Text(), decodeDependencies(r)}
	}
	o.Digests = recipe.Digests{Build: r.Text(), Package: r.Text(), Test: r.Text()}
	o.LocalDir = r.Text()
	if n := r.Count(); n > 0 {
		o.LocalFiles = make([]LocalFile, n)
	}
	for i := range o.LocalFiles {
		o.LocalFiles[i] = LocalFile{r.Text(), r.Text()}
	}
	return o
}

func encodeDependencies(w *record.Writer, list []apk.Dependency) {
	w.Count(len(list))
	for _, d := range list {
		w.Text(d.Name)
		w.Text(string(d.Op))
		w.Text(string(d.Version))
		w.Text(d.Tag)
		w.Bool(d.Conflict)
	}
}

func decodeDependencies(r *record.Reader) []apk.Dependency {
	n := r.Count()
	if n == 0 {
		return nil
	}
	list := make([]apk.Dependency, n)
	for i := range list {
		list[i] = apk.Dependency{Name: r.Text(), Op: apk.Op(r.Text()), Version: apk.Version(r.Text()), Tag: r.Text(), Conflict: r.Bool()}
	}
	return list
}
