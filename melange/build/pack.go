package build

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"distro.internal/melange/lint"
	"distro.internal/melange/recipe"
	"distro.internal/melange/scan"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/filetree"
	"distro.internal/shared/sbom"
)

// A Package is an unsigned package: its metadata and the two sections that
// every signed form of it consists of.
type Package struct {
	*apk.Package  // Size stays 0: it counts the signature too
	Data, Control cas.Digest
	ControlSum    [32]byte // SHA-256 of the control section: what is signed
	Content       string   // digest of what an environment sees, see apk.ContentDigest
	Payload       string   // digest of what a repository sees, see apk.PayloadDigest
}

// pack makes unsigned packages of the trees of a job, unless a linter has
// something against one that its recipe does not put up with.
func (b *Builder) pack(ctx context.Context, job Job, t *trees) ([]Package, []lint.Finding, error) {
	digests := make([]cas.Digest, len(t.outputs))
	for i, o := range t.outputs {
		digests[i] = o.Digest
	}
	if t.locked != (cas.Digest{}) {
		digests = append(digests, t.locked)
	}
	if err := b.Store.Bring(ctx, digests...); err != nil {
		return nil, nil, fmt.Errorf("opening the files of %s: %w", job.Plan.Name, err)
	}
	w := wares{plan: job.Plan, when: time.Unix(t.epoch, 0).UTC(), siblings: make([]scan.Package, len(t.outputs))}
	for i, o := range t.outputs {
		tree, err := b.tree(o)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the files of %s: %w", o.Name, err)
		}
		w.siblings[i] = scan.Package{Name: o.Name, Tree: tree}
	}
	warnings, err := b.lint(job, w.siblings)
	if err != nil {
		return nil, nil, err
	}
	if w.extra, err = b.extra(job, t.epoch); err != nil {
		return nil, nil, err
	}
	if w.locked, err = b.lockedPackages(t); err != nil {
		return nil, nil, fmt.Errorf("opening what lock files of %s named: %w", job.Plan.Name, err)
	}
	packages := make([]Package, len(t.outputs))
	for i, o := range job.Plan.Outputs {
		if packages[i], err = b.packOne(ctx, w, i); err != nil {
			return nil, nil, fmt.Errorf("packaging %s: %w", o.Name, err)
		}
	}
	return packages, warnings, nil
}

// wares is what the packages of a job have in common on their way.
type wares struct {
	plan     *recipe.Plan
	when     time.Time         // that all files carry
	siblings []scan.Package    // the trees, in the order of the plan's outputs
	extra    map[string][]byte // see Builder.extra
	locked   []source.Package  // what lock files named
}

// lint looks at all packages of a job. What must not be is a *lint.Error; what
// should not be is returned, and logged.
func (b *Builder) lint(job Job, packages []scan.Package) (warnings []lint.Finding, err error) {
	var failures []lint.Finding
	for i, o := range job.Plan.Outputs {
		found, err := lint.Run(lint.Package{
			Name: o.Name, Pos: o.Pos, Tree: packages[i].Tree, Disabled: o.DisabledChecks, Tests: testPipelines(job.Plan, o.Name),
		}, b.Lint)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if f.Severity == lint.Required {
				failures = append(failures, f)
				continue
			}
			warnings = append(warnings, f)
			if job.Log != nil {
				fmt.Fprintln(job.Log, f)
			}
		}
	}
	if len(failures) > 0 {
		return nil, &lint.Error{Findings: failures}
	}
	return warnings, nil
}

// testPipelines are those that the test of a package uses, outermost names
// first. There is always an answer: nobody tests what has no test.
func testPipelines(plan *recipe.Plan, output string) []string {
	names := []string{}
	for _, t := range plan.Tests {
		if t.Output != output {
			continue
		}
		for _, s := range t.Steps {
			names = append(names, strings.Split(s.Uses, " > ")...)
		}
	}
	return names
}

// extra are the files of the control section that apk does not look at, the
// same for all packages of a job.
func (b *Builder) extra(job Job, epoch int64) (map[string][]byte, error) {
	if !b.Record {
		return nil, nil
	}
	r, err := b.record(job, epoch)
	if err != nil {
		return nil, err
	}
	text, err := r.Encode()
	return map[string][]byte{RecordFile: text}, err
}

func (b *Builder) packOne(ctx context.Context, w wares, i int) (Package, error) {
	plan, o, tree := w.plan, w.plan.Outputs[i], w.siblings[i].Tree
	found, err := scan.Scan(scan.Input{
		Package: w.siblings[i], Siblings: w.siblings, Version: string(plan.FullVersion()),
		Depends: o.Depends, Provides: o.Provides,
		Options: scan.Options{NoProvides: o.Options.NoProvides, NoDepends: o.Options.NoDepends, NoCommands: o.Options.NoCommands},
	})
	if err != nil {
		return Package{}, err
	}
	if err := addCapabilities(tree, o.Setcap); err != nil {
		return Package{}, err
	}
	if err := addSBOM(tree, w, o, b.Distribution); err != nil {
		return Package{}, err
	}
	info, err := metadata(plan, o, found, w.when.Unix())
	if err != nil {
		return Package{}, err
	}
	return b.sections(ctx, info, tree, scripts(o), w.extra, w.when)
}

// metadata is what .PKGINFO will say.
func metadata(plan *recipe.Plan, o recipe.Output, found scan.Result, epoch int64) (*apk.Package, error) {
	info := &apk.Package{
		Name: o.Name, Version: plan.FullVersion(), Arch: plan.Arch, Origin: plan.Name,
		Description: o.Description, URL: o.URL, License: license(o), Commit: o.Commit,
		BuildDate: epoch, Triggers: o.Triggers,
	}
	var err error
	if info.ProviderPriority, err = priority(o.ProviderPriority); err != nil {
		return nil, err
	}
	if info.ReplacesPriority, err = priority(o.ReplacesPriority); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		to   *[]apk.Dependency
		from []string
	}{{&info.Depends, found.Depends}, {&info.Provides, found.Provides}, {&info.Replaces, o.Replaces}} {
		if *list.to, err = apk.ParseDependencies(strings.Join(list.from, " ")); err != nil {
			return nil, err
		}
	}
	return info, nil
}

func priority(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.Atoi(text)
}

// license is one expression for all that the recipe lists.
func license(o recipe.Output) string {
	all := make([]string, len(o.Licenses))
	for i, l := range o.Licenses {
		all[i] = l.License
		if len(o.Licenses) > 1 && strings.Contains(l.License, " OR ") {
			all[i] = "(" + l.License + ")"
		}
	}
	return strings.Join(all, " AND ")
}

func scripts(o recipe.Output) apk.Scripts {
	s := apk.Scripts{}
	for name, text := range o.Scriptlets {
		s[name] = []byte(text)
	}
	return s
}

// addCapabilities gives files the capabilities that the recipe grants them.
func addCapabilities(tree *filetree.Tree, grants []recipe.FileCapability) error {
	for _, g := range grants {
		e, ok := tree.Lookup(g.Path)
		if !ok || !e.IsRegular() {
			return fmt.Errorf("setcap: /%s is no file of the package", g.Path)
		}
		changed := *e
		changed.Xattrs = maps.Clone(e.Xattrs)
		if changed.Xattrs == nil {
			changed.Xattrs = map[string]string{}
		}
		changed.Xattrs["security.capability"] = g.Value
		if err := tree.Put(changed); err != nil {
			return err
		}
	}
	return nil
}

// sections writes both sections into the store.
func (b *Builder) sections(ctx context.Context, info *apk.Package, tree *filetree.Tree, scripts apk.Scripts, extra map[string][]byte, when time.Time) (Package, error) {
	p := Package{Package: info}
	var data apk.DataInfo
	var err error
	p.Data, err = b.put(ctx, func(w io.Writer) error {
		data, err = apk.WriteData(w, tree)
		return err
	})
	if err != nil {
		return p, err
	}
	info.DataHash, info.InstalledSize = data.Hash, data.InstalledSize
	p.Control, err = b.put(ctx, func(w io.Writer) error {
		info.Checksum, p.ControlSum, err = apk.WriteControl(w, info, scripts, extra, when)
		return err
	})
	if err != nil {
		return p, err
	}
	p.Content = apk.ContentDigest(data.Tree, scripts, info.Triggers)
	p.Payload = apk.PayloadDigest(info, data.Hash, scripts)
	return p, nil
}

// put stores what write writes.
func (b *Builder) put(ctx context.Context, write func(io.Writer) error) (cas.Digest, error) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		written <- err
		w.CloseWithError(err)
	}()
	d, err := b.Store.Put(ctx, r)
	r.CloseWithError(err)
	return d, errors.Join(<-written, err)
}

// bill is the package's bill of materials. All packages of a recipe name all that it was built from: of which of it a
// package has something in it, nobody can tell.
func bill(w wares, o recipe.Output, d Distribution) (*sbom.Document, error) {
	plan := w.plan
	p := sbom.Package{
		Name: o.Name, Version: string(plan.FullVersion()), Arch: string(plan.Arch), Origin: plan.Name,
		Description: o.Description, Homepage: o.URL, License: license(o), CPE: plan.CPE,
		Namespace: d.Name, Creator: "melange", Created: w.when,
	}
	if d.Recipes != "" && o.Commit != "" {
		p.Recipe = &sbom.Source{URI: d.Recipes, Commit: o.Commit, File: plan.Name + ".yaml", License: d.License}
	}
	libraries := w.locked
	for _, s := range plan.Sources {
		switch {
		case s.Kind == recipe.SourceModule:
			module := source.ModulePackage(s.Module, s.Version, s.Sum)
			if !slices.ContainsFunc(libraries, module.Is) {
				libraries = append(slices.Clip(libraries), module)
			}
		case !s.Locked(): // else the packages that it named are among the libraries
			p.Sources = append(p.Sources, sbom.Source{URI: s.URI, Commit: s.Commit, SHA256: s.SHA256, SHA512: s.SHA512})
		}
	}
	for _, l := range libraries {
		p.Libraries = append(p.Libraries, sbom.Library{
			Type: libraryTypes[l.Kind], Name: l.Name, Version: l.Version,
			URI: l.URI, Commit: l.Commit, Registry: l.Registry, Digests: l.Digests,
		})
	}
	return p.Document()
}

// libraryTypes are the types of package URLs, by what fetched.
var libraryTypes = map[string]string{
	recipe.SourceNPM: "npm", recipe.SourceYarn: "npm", recipe.SourcePNPM: "npm",
	recipe.SourceCargo: "cargo", recipe.SourcePip: "pypi", recipe.SourceGoMod: "golang",
}

// addSBOM puts the package's bill of materials where scanners look for it.
func addSBOM(tree *filetree.Tree, w wares, o recipe.Output, d Distribution) error {
	doc, err := bill(w, o, d)
	if err != nil {
		return fmt.Errorf("writing its bill of materials: %w", err)
	}
	var text bytes.Buffer
	if err := doc.Encode(&text); err != nil {
		return fmt.Errorf("writing its bill of materials: %w", err)
	}
	file := sbom.Path(o.Name, string(w.plan.FullVersion()))
	if err := addFolders(tree, path.Dir(file), w.when); err != nil {
		return err
	}
	return tree.Put(filetree.Entry{
		Path: file, Mode: 0o644, ModTime: w.when,
		Size: int64(text.Len()), Open: filetree.Bytes(text.Bytes()),
	})
}

// addFolders makes a folder and those above it, where the package has none.
func addFolders(tree *filetree.Tree, dir string, when time.Time) error {
	if _, ok := tree.Lookup(dir); ok || dir == "." {
		return nil
	}
	if err := addFolders(tree, path.Dir(dir), when); err != nil {
		return err
	}
	return tree.Put(filetree.Entry{Path: dir, Mode: fs.ModeDir | 0o755, ModTime: when})
}

// The names of a package's words in a result.
const (
	infoWord    = "/info"    // .PKGINFO
	sumWord     = "/control" // SHA-256 of the control section
	checkWord   = "/checksum"
	contentWord = "/content"
	payloadWord = "/payload"
)

// warningsWord names how many warnings there were about all packages of a result.
const warningsWord = "warnings"

func (b *Builder) storePackages(ctx context.Context, key *cas.Key, packages []Package, warnings int) error {
	r := &cas.Result{Metadata: map[string]string{warningsWord: strconv.Itoa(warnings)}}
	for _, p := range packages {
		var info strings.Builder
		if err := p.WriteInfo(&info); err != nil {
			return fmt.Errorf("storing package %s: %w", p.Name, err)
		}
		r.Outputs = append(r.Outputs, cas.Output{Name: p.Name + "/data", Digest: p.Data}, cas.Output{Name: p.Name + "/control", Digest: p.Control})
		r.Metadata[p.Name+infoWord] = info.String()
		r.Metadata[p.Name+sumWord] = hex.EncodeToString(p.ControlSum[:])
		r.Metadata[p.Name+checkWord] = p.Checksum.String()
		r.Metadata[p.Name+contentWord] = p.Content
		r.Metadata[p.Name+payloadWord] = p.Payload
	}
	return b.Store.Keep(ctx, key, r)
}

func (b *Builder) lookupPackages(ctx context.Context, r *Result, job Job, trees *trees) error {
	key, err := b.packageKey(job, trees)
	if err != nil {
		return err
	}
	r.Keys = append(r.Keys[:1], key)
	stored, err := b.Store.Find(ctx, key)
	if err != nil {
		return err
	}
	r.Fetched = stored.Fetched
	names := make([]string, len(job.Plan.Outputs))
	for i, o := range job.Plan.Outputs {
		names[i] = o.Name
	}
	r.Packages, r.Warnings, err = recallAll(stored, names)
	return err
}

// bring makes sure that the sections of packages are here; fs.ErrNotExist when they are nowhere.
func (b *Builder) bring(ctx context.Context, packages []Package) error {
	var sections []cas.Digest
	for _, p := range packages {
		sections = append(sections, p.Control, p.Data)
	}
	return b.Store.Bring(ctx, sections...)
}

// Recall returns packages that were made, by the digest of the key under which Build or Lookup has found them. What is
// not in the store any more is fs.ErrNotExist.
func (b *Builder) Recall(key cas.Digest, names []string) ([]Package, error) {
	stored, err := b.Store.Result(key)
	if err != nil {
		return nil, err
	}
	packages, _, err := recallAll(stored, names)
	return packages, err
}

func recallAll(stored *cas.Result, names []string) (packages []Package, warnings int, err error) {
	packages = make([]Package, len(names))
	for i, name := range names {
		if packages[i], err = recall(stored, name); err != nil {
			return nil, 0, fmt.Errorf("reading the result of %s: %w", name, err)
		}
	}
	warnings, err = strconv.Atoi(stored.Metadata[warningsWord])
	return packages, warnings, err
}

// recall makes a package of what storePackages recorded.
func recall(r *cas.Result, name string) (p Package, err error) {
	word := func(w string) string { return r.Metadata[name+w] }
	if p.Package, err = apk.ParseInfo(strings.NewReader(word(infoWord))); err != nil {
		return p, err
	}
	if p.Checksum, err = apk.ParseChecksum(word(checkWord)); err != nil {
		return p, err
	}
	sum, err := hex.DecodeString(word(sumWord))
	if err != nil || len(sum) != len(p.ControlSum) {
		return p, fmt.Errorf("bad digest %q of the control section", word(sumWord))
	}
	copy(p.ControlSum[:], sum)
	p.Data, _ = r.Output(name + "/data")
	p.Control, _ = r.Output(name + "/control")
	p.Content, p.Payload = word(contentWord), word(payloadWord)
	return p, nil
}
