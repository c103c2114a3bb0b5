package apk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/klauspost/compress/gzip"
)

// An Index lists the packages of one repository for one architecture.
type Index struct {
	Description string

	// Generation counts the states of the repository: a later one has a higher
	// number, so that nobody can pass an old one off as the present one. A
	// repository that does not count has 0.
	Generation int

	Packages []*Package
}

// Sort brings the packages into the order in which apk writes them: by name,
// capitals not distinguished, then by version.
func (x *Index) Sort() { slices.SortStableFunc(x.Packages, comparePackages) }

func comparePackages(a, b *Package) int {
	return cmp.Or(
		compareNames(a.Name, b.Name),
		Compare(a.Version, b.Version),
		strings.Compare(string(a.Version), string(b.Version)),
		strings.Compare(string(a.Arch), string(b.Arch)),
		slices.Compare(a.Checksum[:], b.Checksum[:]),
	)
}

func compareNames(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := lower(a[i]), lower(b[i]); x != y {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// Merge adds packages to the index, sorted. One with the name and version of
// another takes its place.
func (x *Index) Merge(packages ...*Package) {
	type key struct {
		name    string
		version Version
	}
	place := make(map[key]int, len(x.Packages))
	for i, p := range x.Packages {
		place[key{p.Name, p.Version}] = i
	}
	for _, p := range packages {
		k := key{p.Name, p.Version}
		if i, ok := place[k]; ok {
			x.Packages[i] = p
			continue
		}
		place[k] = len(x.Packages)
		x.Packages = append(x.Packages, p)
	}
	x.Sort()
}

// Equal reports whether both say the same, of whatever generation they are.
func (x *Index) Equal(y *Index) bool {
	var a, b bytes.Buffer
	return x.Description == y.Description && x.Write(&a) == nil && y.Write(&b) == nil && bytes.Equal(a.Bytes(), b.Bytes())
}

// Write writes the text of the index, in the order the packages have.
func (x *Index) Write(w io.Writer) error {
	buf := make([]byte, 0, 64<<10)
	for _, p := range x.Packages {
		if err := p.checkIndexable(); err != nil {
			return fmt.Errorf("writing index: %w", err)
		}
		buf = appendIndexEntry(buf, p)
		buf = append(buf, '\n')
		if len(buf) > 48<<10 {
			if _, err := w.Write(buf); err != nil {
				return fmt.Errorf("writing index: %w", err)
			}
			buf = buf[:0]
		}
	}
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("writing index: %w", err)
	}
	return nil
}

// checkIndexable refuses what would be read back as something else. Foreign
// packages may break rules that our own must keep.
func (p *Package) checkIndexable() error {
	if err := p.checkIdentity(); err != nil {
		return err
	}
	for _, f := range p.texts() {
		if strings.IndexByte(f.value, '\n') >= 0 {
			return fmt.Errorf("package %s: %s: %q has a line break in it", p.Name, f.key, f.value)
		}
	}
	for _, l := range p.lists() {
		for _, d := range l.deps {
			if !d.readable() {
				return fmt.Errorf("package %s: %s: dependency %q would be read as another one", p.Name, l.key, d)
			}
		}
	}
	return p.checkNumbers()
}

// appendIndexHeader appends the lines that apk has a fixed buffer for.
func appendIndexHeader(b []byte, p *Package) []byte {
	text := func(field string, value string, always bool) {
		if value != "" || always {
			b = append(append(append(b, field...), value...), '\n')
		}
	}
	number := func(field string, n int64, always bool) {
		if n != 0 || always {
			b = append(strconv.AppendInt(append(b, field...), n, 10), '\n')
		}
	}
	b = append(p.Checksum.append(append(b, "C:"...)), '\n')
	text("P:", p.Name, true)
	text("V:", string(p.Version), true)
	text("A:", string(p.Arch), false)
	number("S:", p.Size, true)
	number("I:", p.InstalledSize, true)
	text("T:", p.Description, true)
	text("U:", p.URL, true)
	text("L:", p.License, true)
	text("o:", p.Origin, false)
	text("m:", p.Maintainer, false)
	number("t:", p.BuildDate, false)
	text("c:", p.Commit, false)
	number("k:", int64(p.ProviderPriority), false)
	return b
}

func appendIndexEntry(b []byte, p *Package) []byte {
	b = appendIndexHeader(b, p)
	list := func(field string, deps []Dependency) {
		if len(deps) > 0 {
			b = append(appendList(append(b, field...), deps), '\n')
		}
	}
	list("D:", p.Depends)
	list("p:", p.Provides)
	list("i:", p.InstallIf)
	return b
}

// ParseIndex reads the text of an index. All strings of the result share one
// copy of it.
func ParseIndex(r io.Reader) (*Index, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	packages, err := parseIndex(stringOf(data))
	if err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	return &Index{Packages: packages}, nil
}

// readAll is io.ReadAll for what is large: it asks first what size is likely,
// and grows in larger steps.
func readAll(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	if l, ok := r.(interface{ Len() int }); ok {
		b.Grow(l.Len() + bytes.MinRead)
	}
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// stringOf turns bytes that nobody will change any more into a string.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func parseIndex(text string) ([]*Package, error) {
	var x indexParser
	for n := 1; text != ""; n++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if line == "" {
			if err := x.end(); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		if err := x.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := x.end(); err != nil {
		return nil, err
	}
	return x.packages, nil
}

// An indexParser allots packages and dependencies by the slab: an index has
// them by the hundred thousand.
type indexParser struct {
	packages []*Package
	current  *Package
	slab     []Package
	deps     []Dependency
}

func (x *indexParser) end() error {
	if x.current == nil {
		return nil
	}
	p := x.current
	x.current = nil
	if err := p.checkIdentity(); err != nil {
		return err
	}
	x.packages = append(x.packages, p)
	return nil
}

func (x *indexParser) line(line string) error {
	if len(line) < 2 || line[1] != ':' {
		return fmt.Errorf("%.80q: %w", line, ErrFormat)
	}
	if x.current == nil {
		if len(x.slab) == 0 {
			x.slab = make([]Package, min(1+len(x.packages), 64))
		}
		x.current, x.slab = &x.slab[0], x.slab[1:]
	}
	known, err := x.field(line[0], line[2:])
	if err != nil {
		return fmt.Errorf("%.80q: %w: %w", line, err, ErrFormat)
	}
	// As apk has it: fields in lower case may be passed over, an unknown
	// capital means that the package cannot be understood.
	if c := line[0]; !known && (c < 'a' || c > 'z') {
		return fmt.Errorf("%.80q: field %q is not known: %w", line, c, ErrFormat)
	}
	return nil
}

// field sets one field that an index and the database of installed packages
// have in common.
func (x *indexParser) field(c byte, value string) (known bool, err error) {
	p := x.current
	switch c {
	case 'C':
		p.Checksum, err = ParseChecksum(value)
	case 'P':
		p.Name = value
	case 'V':
		p.Version = Version(value)
	case 'A':
		p.Arch = Arch(value)
	case 'S':
		p.Size, err = parseNumber(value, math.MaxInt64)
	case 'I':
		p.InstalledSize, err = parseNumber(value, math.MaxInt64)
	case 'T':
		p.Description = value
	case 'U':
		p.URL = value
	case 'L':
		p.License = value
	case 'o':
		p.Origin = value
	case 'm':
		p.Maintainer = value
	case 't':
		p.BuildDate, err = parseNumber(value, math.MaxInt64)
	case 'c':
		p.Commit = value
	case 'k':
		p.ProviderPriority, err = parsePriority(value)
	case 'D':
		p.Depends, err = x.dependencies(p.Depends, value)
	case 'p':
		p.Provides, err = x.dependencies(p.Provides, value)
	case 'i':
		p.InstallIf, err = x.dependencies(p.InstallIf, value)
	default:
		return false, nil
	}
	return true, err
}

// dependencies parses a list. A list that is given in several lines goes on.
func (x *indexParser) dependencies(before []Dependency, value string) ([]Dependency, error) {
	n := strings.Count(value, " ") + 1
	if n+len(before) > cap(x.deps)-len(x.deps) {
		x.deps = make([]Dependency, 0, max(min(4*len(x.packages), 1024), n+len(before)))
	}
	start := len(x.deps)
	x.deps = append(x.deps, before...)
	for value != "" {
		var word string
		word, value, _ = strings.Cut(value, " ")
		if word == "" {
			continue
		}
		d, err := ParseDependency(word)
		if err != nil {
			return nil, err
		}
		if d.Tag != "" {
			return nil, fmt.Errorf("dependency %q: a repository tag has no place in a package", word)
		}
		x.deps = append(x.deps, d)
	}
	if start == len(x.deps) {
		return nil, nil
	}
	return slices.Clip(x.deps[start:]), nil
}

const (
	indexFile       = "APKINDEX"
	descriptionFile = "DESCRIPTION"
	maxDescription  = 160 // apk does not read a longer one
)

// ReadIndex reads and verifies APKINDEX.tar.gz. Nothing is parsed before the
// signature has been checked.
func ReadIndex(r io.Reader, v Verify) (*Index, error) {
	x, err := readIndex(r, v)
	if err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	return x, nil
}

func readIndex(r io.Reader, v Verify) (*Index, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, err
	}
	from, err := openIndex(data, v)
	if err != nil {
		return nil, err
	}
	text := make([]byte, 0, min(4*len(data), int(from.zip.left))) // the text of an index shrinks to about a fourth
	piece := make([]byte, 0, 64<<10)
	for err == nil {
		text = append(text, piece...)
		piece, err = from.next(piece)
	}
	if err != io.EOF {
		return nil, err
	}
	packages, err := parseIndex(stringOf(text))
	if err != nil {
		return nil, err
	}
	return &Index{Description: from.Description, Generation: from.Generation, Packages: packages}, nil
}

// An IndexReader reads the text of an index piece by piece.
type IndexReader struct {
	Description string // known when all was read, as is the Generation
	Generation  int

	zip     zipReader
	tr      *tar.Reader
	reading bool   // the text
	found   bool   // the text, in whole or in part
	rest    []byte // of it: the beginning of an entry
}

// OpenIndex verifies APKINDEX.tar.gz, of which nothing but its signature is
// uncompressed before.
func OpenIndex(data []byte, v Verify) (*IndexReader, error) {
	r, err := openIndex(data, v)
	if err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	return r, nil
}

func openIndex(data []byte, v Verify) (*IndexReader, error) {
	if v.Checksum != nil {
		return nil, errors.New("an index has no checksum to verify it by")
	}
	signatures, body, err := signaturesOf(data, v.Limits.control())
	if err != nil {
		return nil, err
	}
	if !v.Insecure {
		s := newSums()
		s.sha256.Write(body)
		if v.AllowSHA1 {
			s.sha1.Write(body)
		}
		if _, err := v.signer(signatures, s); err != nil {
			return nil, cutOr(body, v.Limits.index(), err)
		}
	}
	r := &IndexReader{}
	if err := r.zip.reset(body, v.Limits.index()); err != nil {
		return nil, err
	}
	r.tr = tar.NewReader(&r.zip)
	return r, nil
}

// cutOr returns the error, unless it is because the section is not all there.
func cutOr(body []byte, limit int64, err error) error {
	var z zipReader
	cut := z.reset(body, limit)
	if cut == nil {
		_, cut = io.Copy(io.Discard, &z)
	}
	if errors.Is(cut, io.ErrUnexpectedEOF) {
		return cut
	}
	return err
}

// signaturesOf takes the signature sections off an index.
func signaturesOf(data []byte, limit int64) (signatures []signature, body []byte, err error) {
	var z zipReader
	for {
		if len(data) == 0 {
			return nil, nil, io.ErrUnexpectedEOF
		}
		if err := z.reset(data, limit); err != nil {
			return nil, nil, err
		}
		begin := make([]byte, len(signPrefix))
		if _, err := io.ReadFull(&z, begin); err != nil || string(begin) != signPrefix {
			return signatures, data, nil // what is wrong with it will show
		}
		section, err := io.ReadAll(io.MultiReader(bytes.NewReader(begin), &z))
		if err != nil {
			return nil, nil, err
		}
		more, err := readSignatures(section)
		if err != nil {
			return nil, nil, err
		}
		signatures, data, limit = append(signatures, more...), data[len(data)-z.data.Len():], z.left
	}
}

// Next returns a piece of whole entries for ReadEntries, and after the last one
// io.EOF. It uses the room of buf; the piece is good until that is used again.
func (r *IndexReader) Next(buf []byte) ([]byte, error) {
	piece, err := r.next(buf)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading index: %w", err)
	}
	return piece, err
}

func (r *IndexReader) next(buf []byte) ([]byte, error) {
	buf = append(buf[:0], r.rest...)
	r.rest = r.rest[:0]
	for {
		if !r.reading {
			if len(buf) > 0 {
				return buf, nil
			}
			if err := r.nextFile(); err != nil {
				return nil, err
			}
		}
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(64<<10, len(buf)))
		}
		n, err := r.tr.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			r.reading = false
		case err != nil:
			return nil, err
		case len(buf) == cap(buf):
			if end := bytes.LastIndex(buf, []byte("\n\n")) + 2; end > 1 {
				r.rest = append(r.rest, buf[end:]...)
				return buf[:end], nil
			}
		}
	}
}

// nextFile goes on until the text begins. It returns io.EOF when all is read, and well.
func (r *IndexReader) nextFile() error {
	h, err := nextHeader(r.tr)
	switch {
	case err == io.EOF:
		return r.end()
	case err != nil:
		return err
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%q is no plain file: %w", h.Name, ErrFormat)
	case h.Name == indexFile && r.found:
		return fmt.Errorf("two files %s: %w", indexFile, ErrFormat)
	case h.Name == indexFile:
		r.found, r.reading = true, true
		return nil
	case h.Name == descriptionFile:
		b, err := io.ReadAll(r.tr)
		if err != nil {
			return err
		}
		r.Description, r.Generation = parseDescription(string(b))
		return r.nextFile()
	}
	return fmt.Errorf("a file %q in it: %w", h.Name, ErrFormat)
}

func (r *IndexReader) end() error {
	if _, err := io.Copy(io.Discard, &r.zip); err != nil {
		return err
	}
	switch {
	case r.zip.data.Len() > 0:
		return fmt.Errorf("something follows the last section: %w", ErrFormat)
	case !r.found:
		return fmt.Errorf("no file %s in it: %w", indexFile, ErrFormat)
	}
	return io.EOF
}

// A zipReader reads one gzip member that is in memory, and no byte of what
// follows it.
type zipReader struct {
	data  *bytes.Reader
	zip   gzip.Reader
	limit int64 // of uncompressed bytes
	left  int64
}

func (z *zipReader) reset(data []byte, limit int64) error {
	z.data, z.limit, z.left = bytes.NewReader(data), limit, limit
	if err := z.zip.Reset(z.data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return gzipError(err)
	}
	z.zip.Multistream(false)
	return nil
}

func (z *zipReader) Read(p []byte) (int, error) {
	n, err := z.zip.Read(p)
	if z.left -= int64(n); z.left < 0 {
		return 0, fmt.Errorf("%w of %d bytes", ErrLimit, z.limit)
	}
	if err != nil && err != io.EOF {
		err = gzipError(err)
	}
	return n, err
}

// The generation is the last two words of DESCRIPTION. It is the one place for
// what is not about a package that every reader of indexes lets pass: apk shows
// it to people when it updates, and others refuse files that they do not know.
const generationWord = "generation "

// describe returns what DESCRIPTION says.
func (x *Index) describe() (string, error) {
	text := x.Description
	if _, taken := parseDescription(text); taken != 0 {
		return "", fmt.Errorf("description %q: its end would be read as a generation", text)
	}
	if x.Generation < 0 {
		return "", fmt.Errorf("generation %d: they count from 1", x.Generation)
	}
	if x.Generation > 0 {
		if text != "" {
			text += " "
		}
		text += generationWord + strconv.Itoa(x.Generation)
	}
	if len(text) > maxDescription {
		return "", fmt.Errorf("description of %d bytes, apk reads no more than %d", len(text), maxDescription)
	}
	return text, nil
}

func parseDescription(text string) (description string, generation int) {
	at := strings.LastIndex(text, generationWord)
	switch {
	case at == 0:
	case at > 1 && text[at-1] == ' ':
		description = text[:at-1]
	default:
		return text, 0
	}
	number := text[at+len(generationWord):]
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 || strconv.Itoa(n) != number {
		return text, 0
	}
	return description, n
}

// WriteIndex writes APKINDEX.tar.gz, signed unless s is nil. Equal indexes
// give equal bytes.
func WriteIndex(w io.Writer, x *Index, s Signer) error {
	description, err := x.describe()
	if err != nil {
		return fmt.Errorf("writing index: %w", err)
	}
	var text, body buffer
	if err := x.Write(&text); err != nil {
		return err
	}
	files := []controlFile{{name: indexFile, body: text}}
	if description != "" {
		files = slices.Insert(files, 0, controlFile{name: descriptionFile, body: []byte(description)})
	}
	_, sum, err := writeMember(&body, files, epoch, ends)
	if err != nil {
		return fmt.Errorf("writing index: %w", err)
	}
	bw := bufio.NewWriter(w)
	if s != nil {
		if err := SignControl(bw, s, sum[:], epoch); err != nil {
			return fmt.Errorf("writing index: %w", err)
		}
	}
	bw.Write(body)
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("writing index: %w", err)
	}
	return nil
}

// A buffer is a bytes.Buffer whose bytes can be ranged over.
type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// An Entry is a package of an index for those who choose packages: it has what
// they need of it, and the rest as text.
type Entry struct {
	Package // without Description, URL, License, Origin, Maintainer, Commit

	// For SetFields, the lines of all fields but Checksum, Name, Version,
	// ProviderPriority and the lists: those that the versions of a package mostly
	// have in common, and those that each has for itself.
	Common, Own []byte
}

// Entries reads the text of an index piece by piece into the same room.
type Entries struct {
	// List has the entries of the last piece. It is good until the next one is
	// read, as long as the text does not change, of which its strings are parts.
	List []Entry

	parser   indexParser
	mentions int // in the lists of all entries

	common, own         []byte // of all entries
	commonFrom, ownFrom int    // where those of the present one begin
}

// Read reads a piece of whole entries. After an error List has those before what is wrong.
func (x *Entries) Read(text string) error {
	deps := x.parser.deps[:0]
	if x.mentions > cap(deps) {
		deps = make([]Dependency, 0, x.mentions+x.mentions/4)
	}
	*x = Entries{List: x.List[:0], parser: indexParser{deps: deps}, common: x.common[:0], own: x.own[:0]}
	for n := 1; text != ""; n++ {
		line := text
		if end := strings.IndexByte(text, '\n'); end < 0 {
			text = ""
		} else {
			line, text = text[:end], text[end+1:]
		}
		if err := x.line(line); err != nil {
			x.List = x.List[:len(x.List)-1]
			return fmt.Errorf("reading index: line %d: %w", n, err)
		}
	}
	if err := x.end(); err != nil {
		x.List = x.List[:len(x.List)-1]
		return fmt.Errorf("reading index: %w", err)
	}
	return nil
}

func (x *Entries) line(line string) error {
	if line == "" {
		return x.end()
	}
	if x.parser.current == nil {
		x.List = append(x.List, Entry{})
		x.commonFrom, x.ownFrom = len(x.common), len(x.own)
		x.parser.current = &x.List[len(x.List)-1].Package
	}
	if x.keep(line) {
		return nil
	}
	return x.parser.line(line)
}

// end ends the present entry, if there is one.
func (x *Entries) end() error {
	if x.parser.current == nil {
		return nil
	}
	x.parser.current = nil
	e := &x.List[len(x.List)-1]
	e.Common, e.Own = slices.Clip(x.common[x.commonFrom:]), slices.Clip(x.own[x.ownFrom:])
	x.mentions += len(e.Depends) + len(e.Provides) + len(e.InstallIf)
	return e.checkIdentity()
}

// keep keeps the text of some fields, and reports whether that is all there is
// to do.
func (x *Entries) keep(line string) bool {
	if len(line) < 2 || line[1] != ':' {
		return false
	}
	switch line[0] {
	case 'T', 'U', 'L', 'o', 'm':
		x.common = append(append(x.common, line...), '\n')
		return true
	case 'c':
		x.own = append(append(x.own, line...), '\n')
		return true
	case 'A':
		x.common = append(append(x.common, line...), '\n')
	case 'S', 'I', 't':
		x.own = append(append(x.own, line...), '\n')
	}
	return false
}

// SetFields sets the fields of the package that lines of an index name.
func (p *Package) SetFields(lines string) error {
	x := indexParser{current: p}
	for line := range strings.Lines(lines) {
		if err := x.line(strings.TrimSuffix(line, "\n")); err != nil {
			return fmt.Errorf("reading index: %w", err)
		}
	}
	return nil
}
