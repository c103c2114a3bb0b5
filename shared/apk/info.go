package apk

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxInfo bounds .PKGINFO; the largest in the wild have a few thousand lines.
const maxInfo = 16 << 20

// ParseInfo reads the text of .PKGINFO. Keys that apk does not know are passed
// over. License lines are joined by " AND ", with
// parentheses where an alternative would be torn apart.
func ParseInfo(r io.Reader) (*Package, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInfo+1))
	if err != nil {
		return nil, fmt.Errorf("reading .PKGINFO: %w", err)
	}
	if len(data) > maxInfo {
		return nil, fmt.Errorf("reading .PKGINFO: %w of %d bytes", ErrLimit, maxInfo)
	}
	p := new(Package)
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, " = ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if err := p.setInfo(key, value); err != nil {
			return nil, fmt.Errorf("reading .PKGINFO: line %d: %s: %w", n, key, err)
		}
	}
	if err := p.checkIdentity(); err != nil {
		return nil, fmt.Errorf("reading .PKGINFO: %w", err)
	}
	return p, nil
}

func (p *Package) setInfo(key, value string) (err error) {
	switch key {
	case "pkgname":
		p.Name = value
	case "pkgver":
		p.Version = Version(value)
	case "pkgdesc":
		p.Description = value
	case "url":
		p.URL = value
	case "builddate":
		p.BuildDate, err = parseNumber(value, math.MaxInt64)
	case "maintainer":
		p.Maintainer = value
	case "size":
		p.InstalledSize, err = parseNumber(value, math.MaxInt64)
	case "arch":
		p.Arch = Arch(value)
	case "origin":
		p.Origin = value
	case "commit":
		p.Commit = value
	case "license":
		if p.License != "" && value != "" {
			value = operand(p.License) + " AND " + operand(value)
		}
		p.License = value
	case "depend":
		p.Depends, err = appendDependencies(p.Depends, value)
	case "provides":
		p.Provides, err = appendDependencies(p.Provides, value)
	case "replaces":
		p.Replaces, err = appendDependencies(p.Replaces, value)
	case "install_if":
		p.InstallIf, err = appendDependencies(p.InstallIf, value)
	case "triggers":
		p.Triggers = fields(value)
	case "provider_priority":
		p.ProviderPriority, err = parsePriority(value)
	case "replaces_priority":
		p.ReplacesPriority, err = parsePriority(value)
	case "datahash":
		p.DataHash, err = parseDataHash(value)
	}
	return err
}

func appendDependencies(deps []Dependency, s string) ([]Dependency, error) {
	more, err := ParseDependencies(s)
	if err != nil {
		return nil, err
	}
	for _, d := range more {
		if d.Tag != "" {
			return nil, fmt.Errorf("dependency %q: a repository tag has no place in a package", d)
		}
	}
	if deps == nil {
		return more, nil
	}
	return append(deps, more...), nil
}

// fields are the words of a value; nil when there are none.
func fields(value string) []string {
	if words := strings.Fields(value); len(words) > 0 {
		return words
	}
	return nil
}

// operand returns a license expression as a part of one that is joined by AND,
// which binds closer than OR.
func operand(license string) string {
	depth := 0
	for word := range strings.FieldsSeq(license) {
		if depth == 0 && strings.EqualFold(word, "or") {
			return "(" + license + ")"
		}
		depth += strings.Count(word, "(") - strings.Count(word, ")")
	}
	return license
}

// parseNumber reads an unsigned decimal number.
func parseNumber(s string, limit uint64) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > limit {
		return 0, fmt.Errorf("%q is no number from 0 to %d", s, limit)
	}
	return int64(n), nil
}

func parsePriority(s string) (int, error) {
	n, err := parseNumber(s, math.MaxUint16)
	return int(n), err
}

func parseDataHash(s string) (string, error) {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no SHA-256 in hex", s)
	}
	return s, nil
}

// checkIdentity refuses names and versions that could not be part of a file
// name or would be read as something else.
func (p *Package) checkIdentity() error {
	if p.Name == "" || strings.ContainsAny(p.Name, "/@<>=~!") || hasBlank(p.Name) {
		return fmt.Errorf("package name %q: %w", p.Name, ErrFormat)
	}
	if p.Version == "" || strings.Contains(string(p.Version), "/") || hasBlank(string(p.Version)) {
		return fmt.Errorf("package %s: version %q: %w", p.Name, p.Version, ErrFormat)
	}
	return nil
}

func hasBlank(s string) bool {
	for i := range len(s) {
		if classes[s[i]] == blank {
			return true
		}
	}
	return false
}

// WriteInfo writes the text of .PKGINFO. It refuses whatever apk would refuse,
// misread or be unable to write into its own database later.
func (p *Package) WriteInfo(w io.Writer) error {
	if err := p.check(); err != nil {
		return err
	}
	var b bytes.Buffer
	line := func(key, value string) {
		if value != "" {
			b.WriteString(key + " = " + value + "\n")
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			line(key, strconv.FormatInt(n, 10))
		}
	}
	each := func(key string, deps []Dependency) {
		for _, d := range deps {
			line(key, d.String())
		}
	}
	line("pkgname", p.Name)
	line("pkgver", string(p.Version))
	line("arch", string(p.Arch))
	line("size", strconv.FormatInt(p.InstalledSize, 10))
	line("origin", p.Origin)
	line("pkgdesc", p.Description)
	line("url", p.URL)
	line("commit", p.Commit)
	line("maintainer", p.Maintainer)
	number("builddate", p.BuildDate)
	line("license", p.License)
	each("depend", p.Depends)
	each("provides", p.Provides)
	each("replaces", p.Replaces)
	line("install_if", string(appendList(nil, p.InstallIf)))
	number("provider_priority", int64(p.ProviderPriority))
	number("replaces_priority", int64(p.ReplacesPriority))
	line("triggers", strings.Join(p.Triggers, " "))
	line("datahash", p.DataHash)
	_, err := w.Write(b.Bytes())
	return err
}

func appendList(b []byte, deps []Dependency) []byte {
	for i, d := range deps {
		if i > 0 {
			b = append(b, ' ')
		}
		b = d.append(b)
	}
	return b
}

// The buffers apk has for one package in its database. What does not fit it
// cannot install.
const (
	maxHeader     = 2047 // all lines but the lists of dependencies
	maxDependency = 254
	maxReplaces   = 4096
)

// check is stricter than reading: what we write, every apk can use.
func (p *Package) check() error {
	if err := p.checkIdentity(); err != nil {
		return err
	}
	if !validName(p.Name) {
		return fmt.Errorf("package name %q: has a character that apk does not allow there", p.Name)
	}
	if !p.Version.Valid() {
		return fmt.Errorf("package %s: version %q: not a version to apk", p.Name, p.Version)
	}
	for _, f := range p.texts() {
		if err := checkText(f.value); err != nil {
			return fmt.Errorf("package %s: %s: %w", p.Name, f.key, err)
		}
	}
	for _, l := range p.lists() {
		for _, d := range l.deps {
			if err := d.check(); err != nil {
				return fmt.Errorf("package %s: %s: %w", p.Name, l.key, err)
			}
		}
	}
	for _, t := range p.Triggers {
		if !strings.HasPrefix(t, "/") || hasBlank(t) {
			return fmt.Errorf("package %s: trigger %q: not an absolute path without spaces", p.Name, t)
		}
	}
	if n := len(appendIndexHeader(nil, p)); n > maxHeader {
		return fmt.Errorf("package %s: description and the like take %d bytes, apk has room for %d", p.Name, n, maxHeader)
	}
	if n := len(appendList(nil, p.Replaces)); n > maxReplaces {
		return fmt.Errorf("package %s: replaces takes %d bytes, apk has room for %d", p.Name, n, maxReplaces)
	}
	return p.checkNumbers()
}

func (p *Package) checkNumbers() error {
	for _, n := range []int{p.ProviderPriority, p.ReplacesPriority} {
		if n < 0 || n > math.MaxUint16 {
			return fmt.Errorf("package %s: priority %d: not from 0 to %d", p.Name, n, math.MaxUint16)
		}
	}
	if p.BuildDate < 0 || p.InstalledSize < 0 {
		return fmt.Errorf("package %s: negative build date or size", p.Name)
	}
	if p.DataHash != "" {
		if _, err := parseDataHash(p.DataHash); err != nil {
			return fmt.Errorf("package %s: data hash: %w", p.Name, err)
		}
	}
	return nil
}

type textField struct{ key, value string }

func (p *Package) texts() []textField {
	return []textField{
		{"architecture", string(p.Arch)}, {"description", p.Description}, {"URL", p.URL}, {"license", p.License},
		{"origin", p.Origin}, {"maintainer", p.Maintainer}, {"commit", p.Commit},
	}
}

type listField struct {
	key  string
	deps []Dependency
}

func (p *Package) lists() []listField {
	return []listField{
		{"depends", p.Depends}, {"provides", p.Provides}, {"replaces", p.Replaces}, {"install_if", p.InstallIf},
	}
}

// validName holds what apk demands of the name of a package.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || strings.IndexByte("+-._", c) < 0) {
			return false
		}
	}
	return s != ""
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%q has a line break or control character in it", s)
	}
	return nil
}

func (d Dependency) check() error {
	s := d.String()
	switch {
	case !d.readable():
		return fmt.Errorf("dependency %q: would be read as another one", s)
	case d.Tag != "":
		return fmt.Errorf("dependency %q: a repository tag has no place in a package", s)
	case !d.Valid():
		return fmt.Errorf("dependency %q: %q is not a version to apk", s, d.Version)
	case len(s) > maxDependency:
		return fmt.Errorf("dependency %q: longer than the %d bytes apk has room for", s, maxDependency)
	}
	return checkText(s)
}
