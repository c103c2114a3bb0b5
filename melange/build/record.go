package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"distro.internal/shared/apk"
)

// RecordFile is the file of a package's control section that says what the
// package was built in. Other builders call theirs so, too.
const RecordFile = ".melange.yaml"

// A Record is what a package can say of how it was made, so that it can be made
// again and compared. It names nothing of the machine.
//
// Not every package has one. A package that comes out the same from another
// environment is the same package, which nobody has to fetch again; with a
// record it would be another. So who keeps account of environments elsewhere
// leaves records out, see [Builder.Record].
type Record struct {
	Package RecordedRecipe `json:"package"`
	Record  Recorded       `json:"record"`
}

// A RecordedRecipe says which recipe it was.
type RecordedRecipe struct {
	Name    string      `json:"name"`
	Version apk.Version `json:"version"`
	Epoch   uint64      `json:"epoch"`
	Commit  string      `json:"commit,omitempty"`
}

// Recorded is what the build was a function of.
type Recorded struct {
	Arch      apk.Arch `json:"arch"`
	BuildArch apk.Arch `json:"build-arch"` // that the tools of a cross build run on
	Time      int64    `json:"time"`       // SOURCE_DATE_EPOCH

	// Digests of what the recipe meant, see recipe.Digests.
	BuildPlan    string `json:"build-plan"`
	PackagesPlan string `json:"packages-plan"`

	Distribution *Distribution `json:"distribution,omitempty"`

	Files   []RecordedFile    `json:"files,omitempty"` // the recipe's own, in the plan's order
	Root    []RecordedPackage `json:"root"`            // the environment, in install order
	Sysroot []RecordedPackage `json:"sysroot,omitempty"`
}

// A RecordedFile is one of the recipe's own files.
type RecordedFile struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // SHA-256, and which of the bits to execute it are set
}

// A RecordedPackage is one of an environment: this very file, but for its signature.
type RecordedPackage struct {
	Name     string      `json:"name"`
	Version  apk.Version `json:"version"`
	Checksum string      `json:"checksum"` // as an index has it
}

// record tells of a job what all its packages will say.
func (b *Builder) record(job Job, epoch int64) (*Record, error) {
	p, digests := job.Plan, job.Plan.Digests()
	r := &Record{
		Package: RecordedRecipe{Name: p.Name, Version: p.Version, Epoch: p.Epoch},
		Record: Recorded{
			Arch: p.Arch, BuildArch: p.BuildArch, Time: epoch,
			BuildPlan: digests.Build, PackagesPlan: digests.Package,
			Root: recorded(job.Environment.Root), Sysroot: recorded(job.Environment.Sysroot),
		},
	}
	if b.Distribution != (Distribution{}) {
		r.Record.Distribution = &b.Distribution
	}
	if len(p.Outputs) > 0 {
		r.Package.Commit = p.Outputs[0].Commit
	}
	for _, name := range p.LocalFiles {
		digest, err := fileDigest(job.Local, name)
		if err != nil {
			return nil, err
		}
		r.Record.Files = append(r.Record.Files, RecordedFile{name, digest})
	}
	return r, nil
}

func recorded(packages []Installed) []RecordedPackage {
	var list []RecordedPackage
	for _, p := range packages {
		list = append(list, RecordedPackage{p.Name, p.Version, p.Checksum.String()})
	}
	return list
}

// Encode writes the record as JSON, which is YAML too.
func (r *Record) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(r)
	return b.Bytes(), err
}

// ParseRecord reads what Encode has written.
func ParseRecord(text []byte) (*Record, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var r Record
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("reading %s: %w", RecordFile, err)
	}
	if r.Package.Name == "" || r.Record.Arch == "" {
		return nil, fmt.Errorf("reading %s: it does not say what was built", RecordFile)
	}
	return &r, nil
}

// Environment is the one that was built in, of the packages that find finds: of an
// architecture, and with this very checksum. The error names all that are missing.
func (r *Record) Environment(cross bool, find func(apk.Arch, RecordedPackage) (Installed, error)) (Environment, error) {
	arch := r.Record.Arch
	if cross {
		arch = r.Record.BuildArch
	}
	var e Environment
	var errs [2]error
	e.Root, errs[0] = findAll(arch, r.Record.Root, find)
	e.Sysroot, errs[1] = findAll(r.Record.Arch, r.Record.Sysroot, find)
	if err := errors.Join(errs[:]...); err != nil {
		return e, fmt.Errorf("the environment that %s was built in is not to be had any more:\n%w", r.Package.Name, err)
	}
	return e, nil
}

func findAll(arch apk.Arch, packages []RecordedPackage, find func(apk.Arch, RecordedPackage) (Installed, error)) ([]Installed, error) {
	var list []Installed
	var errs []error
	for _, p := range packages {
		i, err := find(arch, p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, i)
	}
	return list, errors.Join(errs...)
}
