package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A finished package, as its bytes say.
type finished struct {
	fields  map[string][]string // of .PKGINFO, in order
	control map[string]string   // the other files of the control section
	files   map[string]file
}

// A file of a package, but for its name.
type file struct {
	kind           byte
	mode           int64
	owner, names   string
	target, digest string
	program        string // of an ELF file, a digest of all but where its tables of strings have their strings
	xattrs         map[string]string
}

// readPackages reads the packages in a folder, by file name.
func readPackages(dir string) (map[string]*finished, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.apk"))
	if err != nil {
		return nil, err
	}
	all := map[string]*finished{}
	for _, name := range names {
		p, err := readPackage(name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		all[filepath.Base(name)] = p
	}
	return all, nil
}

// readPackage reads a signed package: three gzip members, each with a part of a tar.
func readPackage(name string) (*finished, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	p := &finished{fields: map[string][]string{}, control: map[string]string{}, files: map[string]file{}}
	for _, each := range []func(*tar.Header, io.Reader) error{
		func(*tar.Header, io.Reader) error { return nil }, p.readControl, p.readFile,
	} {
		if err := readMember(in, each); err != nil {
			return nil, err
		}
	}
	if _, err := in.Peek(1); err != io.EOF {
		return nil, errors.New("there is something after the third member")
	}
	return p, nil
}

func readMember(in *bufio.Reader, each func(*tar.Header, io.Reader) error) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	z.Multistream(false)
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if err := each(h, t); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, z)
	return err
}

func (p *finished) readControl(h *tar.Header, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if h.Name != ".PKGINFO" {
		p.control[h.Name] = string(text)
		return nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if key, value, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "# Gen") {
			p.fields[key] = append(p.fields[key], value)
		}
	}
	return nil
}

func (p *finished) readFile(h *tar.Header, r io.Reader) error {
	e := file{kind: h.Typeflag, mode: h.Mode & 0o7777, owner: fmt.Sprintf("%d:%d", h.Uid, h.Gid), names: h.Uname + ":" + h.Gname, target: h.Linkname, xattrs: map[string]string{}}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			e.xattrs[name] = hex.EncodeToString([]byte(value))
		}
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if e.kind == tar.TypeReg {
		sum := sha256.Sum256(data)
		e.digest, e.program = hex.EncodeToString(sum[:]), programDigest(data)
	}
	p.files[strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")] = e
	return nil
}

// programDigest is of an ELF file's segments, sections and symbols; empty for any other file.
func programDigest(data []byte) string {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	h := sha256.New()
	fmt.Fprintln(h, f.FileHeader)
	for _, p := range f.Progs {
		fmt.Fprintln(h, p.ProgHeader)
	}
	for _, s := range f.Sections {
		fmt.Fprintln(h, s.SectionHeader)
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_STRTAB && s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		content, err := s.Data()
		if err != nil {
			return ""
		}
		h.Write(content)
	}
	symbols, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return ""
	}
	fmt.Fprintln(h, symbols)
	return hex.EncodeToString(h.Sum(nil))
}

// A difference between two packages of one name.
type difference struct {
	pkg, what, name string
	theirs, ours    string
}

func (d difference) String() string {
	if d.what == "build" {
		return fmt.Sprintf("%s, by %s: %s", d.pkg, d.name, d.theirs)
	}
	return fmt.Sprintf("%s: %s %s: theirs %.120q, ours %.120q", d.pkg, d.what, d.name, d.theirs, d.ours)
}

func differences(name string, theirs, ours *finished) []difference {
	if theirs == nil || ours == nil {
		return []difference{{pkg: name, what: "package", theirs: presence(theirs != nil), ours: presence(ours != nil)}}
	}
	var list []difference
	add := func(what, thing, a, b string) {
		if a != b {
			list = append(list, difference{name, what, thing, a, b})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(union(theirs.fields, ours.fields))) {
		add("field", key, strings.Join(theirs.fields[key], "\n"), strings.Join(ours.fields[key], "\n"))
	}
	for _, script := range slices.Sorted(maps.Keys(union(theirs.control, ours.control))) {
		add("control", script, theirs.control[script], ours.control[script])
	}
	for _, path := range slices.Sorted(maps.Keys(union(theirs.files, ours.files))) {
		a, inTheirs := theirs.files[path]
		b, inOurs := ours.files[path]
		if !inTheirs || !inOurs {
			add("file", path, presence(inTheirs), presence(inOurs))
			continue
		}
		add("kind", path, string(a.kind), string(b.kind))
		add("mode", path, fmt.Sprintf("%c %o", a.kind, a.mode), fmt.Sprintf("%c %o", a.kind, b.mode))
		add("owner", path, a.owner, b.owner)
		add("owner's name", path, a.names, b.names)
		add("target", path, a.target, b.target)
		add("xattrs", path, fmt.Sprint(a.xattrs), fmt.Sprint(b.xattrs))
		switch {
		case a.kind != b.kind:
		case a.program != "" && a.program == b.program:
			add("order of strings", path, a.digest, b.digest)
		default:
			add("content", path, a.digest, b.digest)
		}
	}
	return list
}

func presence(there bool) string {
	if there {
		return "there"
	}
	return "not there"
}

func union[V any](a, b map[string]V) map[string]bool {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}

func fileDigest(name string) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
