package apk

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"distro.internal/shared/filetree"
)

// Where apk keeps what it knows about the system it runs in.
const (
	InstalledFile    = "lib/apk/db/installed"
	ScriptsFile      = "lib/apk/db/scripts.tar"
	TriggersFile     = "lib/apk/db/triggers"
	LockFile         = "lib/apk/db/lock"
	WorldFile        = "etc/apk/world"
	RepositoriesFile = "etc/apk/repositories"
	ArchFile         = "etc/apk/arch"
)

// Installed is the database of installed packages.
type Installed struct {
	Packages []*InstalledPackage
}

// An InstalledPackage is a package with the names it put into the tree.
type InstalledPackage struct {
	*Package
	Scripts Scripts
	Tag     string // the repository tag it was asked for with
	Broken  string // what went wrong, in apk's letters: f files, s script, x attributes
	Files   []InstalledName
}

// An InstalledName is a directory, file or link as the database knows it.
type InstalledName struct {
	Path     string      // "" is the top
	Mode     fs.FileMode // a directory or not, and permissions; other types are not told apart
	UID, GID int
	Sum      Checksum // SHA-1 of the content or of the link's target; zero = not known, as for directories
	XattrSum Checksum // of the extended attributes; zero = none
}

// NameOf is what the database knows of an entry. sum is that of the entry's
// content, as Reader.Sum has it, and for a hard link that of the file it names.
func NameOf(e *filetree.Entry, sum Checksum) InstalledName {
	n := InstalledName{
		Path: e.Path, UID: e.UID, GID: e.GID, Sum: sum, XattrSum: xattrSum(e.Xattrs),
		Mode: e.Mode &^ fs.ModeType,
	}
	if e.Mode.IsDir() {
		n.Mode |= fs.ModeDir
	}
	return n
}

func xattrSum(xattrs map[string]string) Checksum {
	if len(xattrs) == 0 {
		return Checksum{}
	}
	h := sha1.New()
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		for _, s := range []string{name, xattrs[name]} {
			h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
			io.WriteString(h, s)
		}
	}
	return Checksum(h.Sum(nil))
}

// sorted returns the packages in the order in which apk writes them.
func (x *Installed) sorted() []*InstalledPackage {
	return slices.SortedStableFunc(slices.Values(x.Packages), func(a, b *InstalledPackage) int {
		return comparePackages(a.Package, b.Package)
	})
}

// Write writes the file "installed".
func (x *Installed) Write(w io.Writer) error {
	var b []byte
	for _, p := range x.sorted() {
		if err := p.checkWritable(); err != nil {
			return fmt.Errorf("writing database of installed packages: %w", err)
		}
		b = p.append(b[:0])
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("writing database of installed packages: %w", err)
		}
	}
	return nil
}

func (p *InstalledPackage) checkWritable() error {
	if err := p.checkIndexable(); err != nil {
		return err
	}
	if hasBlank(p.Tag) || strings.Trim(p.Broken, brokenLetters) != "" {
		return fmt.Errorf("package %s: tag %q or state %q: %w", p.Name, p.Tag, p.Broken, ErrFormat)
	}
	if p.Checksum.IsZero() {
		return fmt.Errorf("package %s: its checksum is not known", p.Name)
	}
	for _, f := range p.Files {
		if hasControl(f.Path) {
			return fmt.Errorf("package %s: file %q: apk refuses names with control characters", p.Name, f.Path)
		}
	}
	return nil
}

const brokenLetters = "fsxS"

// What the database leaves out: these permissions with owner root.
const (
	defaultDir  = 0o755
	defaultFile = 0o644
)

func (p *InstalledPackage) append(b []byte) []byte {
	b = appendIndexEntry(b, p.Package)
	line := func(field, value string) {
		if value != "" {
			b = append(append(append(b, field...), value...), '\n')
		}
	}
	line("r:", string(appendList(nil, p.Replaces)))
	if p.ReplacesPriority != 0 {
		line("q:", strconv.Itoa(p.ReplacesPriority))
	}
	line("s:", p.Tag)
	line("f:", p.Broken)
	for _, d := range p.directories() {
		b = append(append(append(b, "F:"...), d.name.Path...), '\n')
		b = d.name.appendOwner(b, "M:", defaultDir)
		for _, f := range d.files {
			b = append(append(append(b, "R:"...), path.Base(f.Path)...), '\n')
			b = f.appendOwner(b, "a:", defaultFile)
			if !f.Sum.IsZero() {
				b = append(f.Sum.append(append(b, "Z:"...)), '\n')
			}
		}
	}
	return append(b, '\n')
}

func (n *InstalledName) appendOwner(b []byte, field string, usual uint32) []byte {
	mode := filetree.Unix(n.Mode)
	if mode == usual && n.UID == 0 && n.GID == 0 && n.XattrSum.IsZero() {
		return b
	}
	b = strconv.AppendInt(append(b, field...), int64(n.UID), 10)
	b = strconv.AppendInt(append(b, ':'), int64(n.GID), 10)
	b = strconv.AppendUint(append(b, ':'), uint64(mode), 8)
	if !n.XattrSum.IsZero() {
		b = n.XattrSum.append(append(b, ':'))
	}
	return append(b, '\n')
}

// A directory is one with the files directly in it.
type directory struct {
	name  InstalledName
	files []InstalledName
}

// directories groups the names by directory: these in the order of the package,
// as apk leaves them, the names in each in byte order.
func (p *InstalledPackage) directories() []directory {
	at := make(map[string]int)
	var dirs []directory
	dir := func(name string) int {
		i, ok := at[name]
		if !ok {
			i = len(dirs)
			at[name] = i
			dirs = append(dirs, directory{name: InstalledName{Path: name, Mode: fs.ModeDir | defaultDir}})
		}
		return i
	}
	for _, f := range p.Files {
		if f.Mode.IsDir() {
			dirs[dir(f.Path)].name = f
			continue
		}
		i := dir(parentOf(f.Path))
		dirs[i].files = append(dirs[i].files, f)
	}
	for _, d := range dirs {
		slices.SortFunc(d.files, func(a, b InstalledName) int { return cmp.Compare(a.Path, b.Path) })
	}
	return dirs
}

func parentOf(name string) string {
	return name[:max(0, strings.LastIndexByte(name, '/'))]
}

// ParseInstalled reads the file "installed". Scripts and triggers stand in
// files of their own.
func ParseInstalled(r io.Reader) (*Installed, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading database of installed packages: %w", err)
	}
	var x installedParser
	n := 0
	for line := range strings.SplitSeq(stringOf(data), "\n") {
		n++
		if err := x.line(line); err != nil {
			return nil, fmt.Errorf("reading database of installed packages: line %d: %w", n, err)
		}
	}
	if err := x.end(); err != nil {
		return nil, fmt.Errorf("reading database of installed packages: %w", err)
	}
	return &x.db, nil
}

type installedParser struct {
	db     Installed
	common indexParser
	extra  InstalledPackage
	dir    int // index of the present directory in extra.Files, plus one
	inFile bool
}

func (x *installedParser) end() error {
	if x.common.current == nil {
		return nil
	}
	if err := x.common.end(); err != nil {
		return err
	}
	p := x.extra
	p.Package = x.common.packages[len(x.common.packages)-1]
	if p.Checksum.IsZero() {
		return fmt.Errorf("package %s: it has no checksum: %w", p.Name, ErrFormat)
	}
	x.db.Packages = append(x.db.Packages, &p)
	x.extra, x.dir, x.inFile = InstalledPackage{}, 0, false
	return nil
}

func (x *installedParser) line(line string) error {
	if line == "" {
		return x.end()
	}
	if len(line) >= 2 && line[1] == ':' && x.common.current != nil {
		known, err := x.field(line[0], line[2:])
		if err != nil {
			return fmt.Errorf("%.80q: %w", line, err)
		}
		if known {
			return nil
		}
	}
	if len(line) >= 2 && strings.IndexByte("CPVASITULomtckDpi", line[0]) < 0 {
		return fmt.Errorf("%.80q: field %q is not known: %w", line, line[0], ErrFormat)
	}
	return x.common.line(line)
}

// field sets one field that only this database has.
func (x *installedParser) field(c byte, value string) (known bool, err error) {
	p := x.common.current
	switch c {
	case 'r':
		p.Replaces, err = x.common.dependencies(p.Replaces, value)
	case 'q':
		p.ReplacesPriority, err = parsePriority(value)
	case 's':
		if x.extra.Tag = value; hasBlank(value) {
			err = ErrFormat
		}
	case 'f':
		if x.extra.Broken = value; strings.Trim(value, brokenLetters) != "" {
			err = ErrFormat
		}
	case 'g': // tags of apk 3 packages, of no use to ours
	case 'F':
		err = x.add(InstalledName{Path: value, Mode: fs.ModeDir | defaultDir})
		x.dir, x.inFile = len(x.extra.Files), false
	case 'R':
		if x.dir == 0 || value == "" || strings.Contains(value, "/") {
			return true, ErrFormat
		}
		err = x.add(InstalledName{Path: path.Join(x.extra.Files[x.dir-1].Path, value), Mode: defaultFile})
		x.inFile = true
	case 'M', 'a':
		if x.dir == 0 || x.inFile != (c == 'a') {
			return true, ErrFormat
		}
		err = x.extra.Files[len(x.extra.Files)-1].setOwner(value)
	case 'Z':
		if !x.inFile {
			return true, ErrFormat
		}
		x.extra.Files[len(x.extra.Files)-1].Sum, err = ParseChecksum(value)
	default:
		return false, nil
	}
	return true, err
}

func (x *installedParser) add(n InstalledName) error {
	if n.Path != "" && !fs.ValidPath(n.Path) || n.Path == "." || hasControl(n.Path) {
		return fmt.Errorf("path %q: %w", n.Path, ErrFormat)
	}
	x.extra.Files = append(x.extra.Files, n)
	return nil
}

// setOwner reads uid:gid:mode[:checksum].
func (n *InstalledName) setOwner(s string) error {
	part := strings.SplitN(s, ":", 4)
	if len(part) < 3 {
		return ErrFormat
	}
	uid, err1 := strconv.ParseUint(part[0], 10, 31)
	gid, err2 := strconv.ParseUint(part[1], 10, 31)
	mode, err3 := strconv.ParseUint(part[2], 8, 12)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	n.UID, n.GID = int(uid), int(gid)
	n.Mode = n.Mode&fs.ModeDir | fs.FileMode(mode&0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			n.Mode |= flag
		}
	}
	if len(part) == 4 {
		sum, err := ParseChecksum(part[3])
		if err != nil {
			return err
		}
		n.XattrSum = sum
	}
	return nil
}

// WriteScripts writes the file "scripts.tar".
func (x *Installed) WriteScripts(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, p := range x.sorted() {
		for _, name := range scriptFiles {
			body, ok := p.Scripts[name]
			if !ok {
				continue
			}
			h := &tar.Header{
				Format: tar.FormatGNU, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(body)), Uname: "root", Gname: "root",
				Name:    fmt.Sprintf("%s-%s.X1%s%s", p.Name, p.Version, hex.EncodeToString(p.Checksum[:]), name),
				ModTime: time.Unix(p.BuildDate, 0),
			}
			if err := tw.WriteHeader(h); err != nil {
				return fmt.Errorf("writing script %s of %s: %w", name, p.Name, err)
			}
			if _, err := tw.Write(body); err != nil {
				return fmt.Errorf("writing script %s of %s: %w", name, p.Name, err)
			}
		}
	}
	return tw.Close()
}

// ReadScripts reads the file "scripts.tar" and gives the packages their
// scripts. As apk does, it passes over scripts of packages that are not there.
func (x *Installed) ReadScripts(r io.Reader) error {
	byChecksum := x.byChecksum()
	tr := tar.NewReader(r)
	for {
		h, err := nextHeader(tr)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading installed scripts: %w", err)
		}
		name := path.Ext(h.Name)
		sum, err := ParseChecksum(strings.TrimPrefix(path.Ext(strings.TrimSuffix(h.Name, name)), "."))
		p := byChecksum[sum]
		if err != nil || p == nil || !isScript(name) || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxScriptSize {
			return fmt.Errorf("reading installed scripts: %s: %w of %d bytes", h.Name, ErrLimit, maxScriptSize)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(tr); err != nil {
			return fmt.Errorf("reading installed scripts: %s: %w", h.Name, err)
		}
		if p.Scripts == nil {
			p.Scripts = Scripts{}
		}
		p.Scripts[name] = body.Bytes()
	}
}

func (x *Installed) byChecksum() map[Checksum]*InstalledPackage {
	m := make(map[Checksum]*InstalledPackage, len(x.Packages))
	for _, p := range x.Packages {
		m[p.Checksum] = p
	}
	return m
}

// WriteTriggers writes the file "triggers".
func (x *Installed) WriteTriggers(w io.Writer) error {
	var b bytes.Buffer
	for _, p := range x.sorted() {
		if len(p.Triggers) > 0 {
			fmt.Fprintf(&b, "%s %s\n", p.Checksum, strings.Join(p.Triggers, " "))
		}
	}
	_, err := b.WriteTo(w)
	return err
}

// ReadTriggers reads the file "triggers" and gives the packages their
// triggers, passing over those of packages that are not there.
func (x *Installed) ReadTriggers(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading installed triggers: %w", err)
	}
	byChecksum := x.byChecksum()
	for line := range strings.Lines(string(data)) {
		word := strings.Fields(line)
		if len(word) < 2 {
			continue
		}
		sum, err := ParseChecksum(word[0])
		if err != nil {
			return fmt.Errorf("reading installed triggers: %w", err)
		}
		if p := byChecksum[sum]; p != nil {
			p.Triggers = append(p.Triggers, word[1:]...)
		}
	}
	return nil
}
