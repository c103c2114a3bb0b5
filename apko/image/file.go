package image

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// The image file as written, with places for the mistakes found in it.
type (
	file struct {
		Pos          document.Pos
		Include      document.String      `yaml:"include"`
		Contents     contents             `yaml:"contents"`
		Entrypoint   *entrypoint          `yaml:"entrypoint"`
		Cmd          document.String      `yaml:"cmd"`
		StopSignal   document.String      `yaml:"stop-signal"`
		WorkDir      document.String      `yaml:"work-dir"`
		Accounts     accounts             `yaml:"accounts"`
		Archs        []document.String    `yaml:"archs"`
		Environment  document.Map[string] `yaml:"environment"`
		Paths        []pathChange         `yaml:"paths"`
		VCS          document.String      `yaml:"vcs-url"`
		Annotations  document.Map[string] `yaml:"annotations"`
		Volumes      []string             `yaml:"volumes"`
		Layering     *layering            `yaml:"layering"`
		Format       document.String      `yaml:"format"`
		Certificates *certificates        `yaml:"certificates"`
	}
	contents struct {
		BuildRepositories   []document.String `yaml:"build_repositories"`
		RuntimeRepositories []document.String `yaml:"runtime_repositories"`
		Repositories        []document.String `yaml:"repositories"`
		Keyring             []document.String `yaml:"keyring"`
		RuntimeKeyring      []text            `yaml:"runtime_keyring"`
		Packages            []document.String `yaml:"packages"`
		BaseImage           *baseImage        `yaml:"baseimage"`
	}
	baseImage struct {
		Pos      document.Pos
		Image    string `yaml:"image"`
		APKIndex string `yaml:"apkindex"`
	}
	text struct {
		Pos     document.Pos
		Name    string `yaml:"name"`
		Content string `yaml:"content"`
	}
	entrypoint struct {
		Type          document.String               `yaml:"type"`
		Command       document.String               `yaml:"command"`
		ShellFragment document.String               `yaml:"shell-fragment"`
		Services      document.Map[document.String] `yaml:"services"`
	}
	accounts struct {
		RunAs  document.String `yaml:"run-as"`
		Users  []user          `yaml:"users"`
		Groups []group         `yaml:"groups"`
	}
	user struct {
		Pos   document.Pos
		Name  string  `yaml:"username"`
		UID   uint32  `yaml:"uid"`
		GID   *uint32 `yaml:"gid"`
		Shell string  `yaml:"shell"`
		Home  string  `yaml:"homedir"`
	}
	group struct {
		Pos     document.Pos
		Name    string   `yaml:"groupname"`
		GID     uint32   `yaml:"gid"`
		Members []string `yaml:"members"`
	}
	pathChange struct {
		Pos         document.Pos
		Path        string           `yaml:"path"`
		Type        document.String  `yaml:"type"`
		UID         *uint32          `yaml:"uid"`
		GID         *uint32          `yaml:"gid"`
		Permissions *document.String `yaml:"permissions"`
		Source      string           `yaml:"source"`
		Recursive   bool             `yaml:"recursive"`
	}
	layering struct {
		Strategy document.String `yaml:"strategy"`
		Budget   int             `yaml:"budget"`
	}
	certificates struct {
		Additional []text   `yaml:"additional"`
		Providers  []string `yaml:"providers"`
	}
)

// Load reads an image file and what it includes. A file is looked for as it is named and then in the given folders; an
// include first beside the file that includes it. All mistakes of the files are reported at once.
func Load(name string, includePaths ...string) (*Config, error) {
	return LoadBy(os.ReadFile, name, includePaths...)
}

// LoadBy is Load for who wants to know which files were read, or looked for in vain: all are asked of read.
func LoadBy(read func(name string) ([]byte, error), name string, includePaths ...string) (*Config, error) {
	l := loader{read: read, includePaths: includePaths, config: &Config{}, text: sha256.New()}
	found, err := l.find(name, append([]string{""}, includePaths...))
	if err != nil {
		return nil, err
	}
	l.load(found, nil)
	l.checkWhole(found)
	slices.SortStableFunc(l.errs, func(a, b *document.Error) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	if err := l.errs.Err(); err != nil {
		return nil, err
	}
	l.config.Files = "sha256-" + base64.StdEncoding.EncodeToString(l.text.Sum(nil))
	return l.config, nil
}

func (l *loader) find(name string, dirs []string) (string, error) {
	if filepath.IsAbs(name) {
		dirs = []string{""}
	}
	for _, dir := range dirs {
		file := filepath.Join(dir, name)
		switch _, err := l.read(file); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		default:
			return file, nil
		}
	}
	return "", fmt.Errorf("image file %s: %w", name, fs.ErrNotExist)
}

// loader merges files into the config, the included ones first.
type loader struct {
	read         func(name string) ([]byte, error)
	includePaths []string
	config       *Config
	text         hash.Hash    // of the files, each before what it includes
	basePos      document.Pos // of the base image, if there is one
	errs         document.ErrorList
}

// load adds the file; chain is the files that include one another up to it.
func (l *loader) load(name string, chain []string) {
	data, err := l.read(name)
	if err != nil {
		l.errs.AddError(document.Pos{File: name}, err)
		return
	}
	l.text.Write(data)
	doc, err := document.Parse(name, data)
	if err != nil {
		l.errs.AddError(document.Pos{File: name}, err)
		return
	}
	var f file
	l.errs.AddError(document.Pos{File: name}, doc.Decode(&f))
	if f.Include.Value != "" {
		l.include(name, f.Include, append(chain, filepath.Clean(name)))
	}
	l.merge(&f)
}

func (l *loader) include(from string, what document.String, chain []string) {
	dirs := append([]string{filepath.Dir(from), ""}, l.includePaths...)
	found, err := l.find(what.Value, dirs)
	if err != nil {
		l.errs.Add(what.Pos, "", "included file %s is not there", what.Value)
		return
	}
	if i := slices.Index(chain, filepath.Clean(found)); i >= 0 {
		circle := append(slices.Clone(chain[i:]), filepath.Clean(found))
		l.errs.Add(what.Pos, "", "files include one another: %s", strings.Join(circle, " -> "))
		return
	}
	l.load(found, chain)
}

// merge adds what f says: its own values win over those that are there, lists are appended, maps merged key by key, the
// entrypoint, layering and certificates taken as a whole.
func (l *loader) merge(f *file) {
	c := l.config
	l.contents(&f.Contents)
	if f.Entrypoint != nil {
		c.Entrypoint = l.entrypoint(f.Entrypoint)
	}
	override(&c.Cmd, f.Cmd)
	override(&c.StopSignal, f.StopSignal)
	override(&c.WorkDir, f.WorkDir)
	override(&c.VCS, f.VCS)
	if _, err := splitWords(f.Cmd.Value); err != nil {
		l.errs.Add(f.Cmd.Pos, "", "cmd: %v", err)
	}
	l.accounts(&f.Accounts)
	if len(f.Archs) > 0 {
		c.Archs = l.archs(f.Archs)
	}
	l.environment(f.Environment)
	l.annotations(f.Annotations)
	for i := range f.Paths {
		l.path(&f.Paths[i])
	}
	c.Volumes = append(c.Volumes, f.Volumes...)
	l.layering(f.Layering)
	if f.Format.Value != "" && f.Format.Value != "tar" {
		l.errs.Add(f.Format.Pos, "tar is the only one", "layers of format %q are not supported", f.Format.Value)
	}
	l.certificates(f.Certificates)
}

func override(to *string, by document.String) {
	if by.Value != "" {
		*to = by.Value
	}
}

func (l *loader) contents(f *contents) {
	c := &l.config.Contents
	c.BuildRepositories = append(c.BuildRepositories, l.repositories(f.BuildRepositories)...)
	c.RuntimeRepositories = append(c.RuntimeRepositories, l.repositories(f.RuntimeRepositories)...)
	c.Repositories = append(c.Repositories, l.repositories(f.Repositories)...)
	for _, key := range f.Keyring {
		if u, err := url.Parse(key.Value); err == nil && u.Scheme != "" && u.Scheme != "https" {
			l.errs.Add(key.Pos, "use https or a file", "a key is not to be fetched over %s", u.Scheme)
		}
		c.Keyring = append(c.Keyring, key.Value)
	}
	for _, key := range f.RuntimeKeyring {
		if !keyFile.MatchString(key.Name) {
			l.errs.Add(key.Pos, "", "key name %q: letters, digits, dots, dashes and underscores make a name", key.Name)
		}
		if slices.ContainsFunc(c.RuntimeKeyring, func(t Text) bool { return t.Name == key.Name }) {
			l.errs.Add(key.Pos, "", "key %q is given twice", key.Name)
		}
		if _, err := apk.DecodePublicKey([]byte(key.Content)); err != nil {
			l.errs.Add(key.Pos, "", "key %q: %v", key.Name, err)
		}
		c.RuntimeKeyring = append(c.RuntimeKeyring, Text{key.Name, key.Content})
	}
	for _, p := range f.Packages {
		if _, err := apk.ParseDependency(p.Value); err != nil {
			l.errs.Add(p.Pos, "", "%v", err)
		}
		c.Packages = append(c.Packages, p.Value)
	}
	if f.BaseImage != nil {
		l.basePos = f.BaseImage.Pos
		if f.BaseImage.Image == "" {
			l.errs.Add(f.BaseImage.Pos, "name the folder of an OCI layout as image:", "the base image has no image")
		}
		c.BaseImage = &BaseImage{Image: f.BaseImage.Image, APKIndex: f.BaseImage.APKIndex, dirs: append([]string{""}, l.includePaths...)}
	}
}

var keyFile = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

func (l *loader) repositories(list []document.String) []string {
	var out []string
	for _, r := range list {
		tag, address := SplitTag(r.Value)
		switch {
		case address == "":
			l.errs.Add(r.Pos, "", "a repository is empty")
		case strings.HasPrefix(address, "@"):
			l.errs.Add(r.Pos, `write "@tag URL"`, "repository %q has a tag without an address", r.Value)
		case strings.ContainsAny(address, " \t\n"):
			l.errs.Add(r.Pos, "", "repository %q has blanks in its address", r.Value)
		}
		address = strings.TrimRight(address, "/")
		if tag != "" {
			address = "@" + tag + " " + address
		}
		out = append(out, address)
	}
	return out
}

func (l *loader) entrypoint(f *entrypoint) Entrypoint {
	e := Entrypoint{Type: f.Type.Value, Command: f.Command.Value, ShellFragment: f.ShellFragment.Value}
	if e.Type != "" && e.Type != ServiceBundle {
		l.errs.Add(f.Type.Pos, document.DidYouMean(e.Type, []string{ServiceBundle}), "unknown entrypoint type %q", e.Type)
	}
	if _, err := splitWords(e.Command); err != nil {
		l.errs.Add(f.Command.Pos, "", "entrypoint command: %v", err)
	}
	for _, s := range f.Services {
		if !keyFile.MatchString(s.Key.Value) {
			l.errs.Add(s.Key.Pos, "", "service name %q: letters, digits, dots, dashes and underscores make a name", s.Key.Value)
		}
		if e.Services == nil {
			e.Services = make(map[string]string)
		}
		e.Services[s.Key.Value] = s.Value.Value
	}
	return e
}

// accountName is what useradd accepts, with capitals and dots.
var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

func (l *loader) accounts(f *accounts) {
	c := &l.config.Accounts
	override(&c.RunAs, f.RunAs)
	for _, u := range f.Users {
		user := User{Name: u.Name, UID: u.UID, GID: u.UID, Shell: u.Shell, Home: u.Home}
		if u.GID != nil {
			user.GID = *u.GID
		}
		if user.Shell == "" {
			user.Shell = "/bin/sh"
		}
		if user.Home == "" {
			user.Home = "/home/" + u.Name
		}
		l.user(u.Pos, user)
		c.Users = append(c.Users, user)
	}
	for _, g := range f.Groups {
		if !accountName.MatchString(g.Name) {
			l.errs.Add(g.Pos, "", "group name %q: a letter, then at most 31 letters, digits, dots, dashes or underscores", g.Name)
		}
		for _, other := range c.Groups {
			if other.Name == g.Name {
				l.errs.Add(g.Pos, "", "group %s is given twice", g.Name)
			} else if other.GID == g.GID {
				l.errs.Add(g.Pos, "", "group %s has the gid %d of %s", g.Name, g.GID, other.Name)
			}
		}
		c.Groups = append(c.Groups, Group{g.Name, g.GID, g.Members})
	}
}

func (l *loader) user(pos document.Pos, u User) {
	if !accountName.MatchString(u.Name) {
		l.errs.Add(pos, "", "user name %q: a letter, then at most 31 letters, digits, dots, dashes or underscores", u.Name)
	}
	if u.UID == 0 {
		l.errs.Add(pos, "root is there already", "user %s has no uid", u.Name)
	}
	for _, field := range []string{u.Shell, u.Home} {
		if !path.IsAbs(field) || strings.ContainsAny(field, ":\n\x00") {
			l.errs.Add(pos, "", "user %s: %q is not an absolute path", u.Name, field)
		}
	}
	for _, other := range l.config.Accounts.Users {
		if other.Name == u.Name {
			l.errs.Add(pos, "", "user %s is given twice", u.Name)
		} else if other.UID == u.UID {
			l.errs.Add(pos, "", "user %s has the uid %d of %s", u.Name, u.UID, other.Name)
		}
	}
}

// ParseArch reads an architecture in apk's or OCI's spelling.
func ParseArch(s string) (apk.Arch, error) {
	a, err := apk.ParseArch(s)
	if err == nil {
		return a, nil
	}
	var known []string
	for _, a := range apk.Archs() {
		known = append(known, string(a), a.Platform())
	}
	return "", &document.Error{Text: err.Error(), Hint: document.DidYouMean(s, known)}
}

func (l *loader) archs(list []document.String) []apk.Arch {
	var archs []apk.Arch
	for _, s := range list {
		if s.Value == "all" {
			archs = append(archs, apk.Archs()...)
			continue
		}
		a, err := ParseArch(s.Value)
		if err != nil {
			e := *err.(*document.Error)
			e.Pos = s.Pos
			l.errs = append(l.errs, &e)
			continue
		}
		archs = append(archs, a)
	}
	slices.Sort(archs)
	return slices.Compact(archs)
}

func (l *loader) environment(m document.Map[string]) {
	for _, item := range m {
		if name := item.Key.Value; name == "" || strings.ContainsAny(name, "=\x00") {
			l.errs.Add(item.Key.Pos, "", "%q cannot be the name of an environment variable", name)
		}
		if l.config.Environment == nil {
			l.config.Environment = make(map[string]string)
		}
		l.config.Environment[item.Key.Value] = item.Value
	}
}

var annotationKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// CheckAnnotation refuses a key that OCI tools would not take.
func CheckAnnotation(key string) error {
	if !annotationKey.MatchString(key) {
		return fmt.Errorf("annotation key %q: letters, digits, dots, slashes and dashes make a key", key)
	}
	return nil
}

func (l *loader) annotations(m document.Map[string]) {
	for _, item := range m {
		if err := CheckAnnotation(item.Key.Value); err != nil {
			l.errs.Add(item.Key.Pos, "", "%v", err)
		}
		if l.config.Annotations == nil {
			l.config.Annotations = make(map[string]string)
		}
		l.config.Annotations[item.Key.Value] = item.Value
	}
}

func (l *loader) path(f *pathChange) {
	kinds := []string{Directory, EmptyFile, HardLink, Symlink, Permissions}
	if !slices.Contains(kinds, f.Type.Value) {
		pos := f.Type.Pos
		if f.Type.Value == "" {
			pos = f.Pos
		}
		l.errs.Add(pos, document.DidYouMean(f.Type.Value, kinds), "unknown type %q of a path: want %s", f.Type.Value, strings.Join(kinds, ", "))
	}
	p := Path{Path: relative(f.Path), Type: f.Type.Value, UID: f.UID, GID: f.GID, Source: f.Source, Recursive: f.Recursive}
	if p.Path == "" {
		l.errs.Add(f.Pos, "", "%q is not the path of a file", f.Path)
	}
	switch {
	case p.Type == HardLink:
		if p.Source = relative(f.Source); p.Source == "" {
			l.errs.Add(f.Pos, "", "hard link %s: source %q is not the path of a file", f.Path, f.Source)
		}
	case p.Type == Symlink && p.Source == "":
		l.errs.Add(f.Pos, "", "symbolic link %s has no source", f.Path)
	}
	switch p.Type {
	case Directory:
		p.Mode = 0o755
	case EmptyFile:
		p.Mode = 0o644
	}
	if f.Permissions != nil {
		mode, err := parseMode(f.Permissions.Value)
		if err != nil {
			l.errs.Add(f.Permissions.Pos, `write it as 0o755`, "permissions %s: %v", f.Permissions.Value, err)
		}
		p.Mode, p.HasMode = mode, true
	}
	if p.Type == Permissions && !p.HasMode && p.UID == nil && p.GID == nil {
		l.errs.Add(f.Pos, "", "permissions of %s: neither permissions nor an owner is given", f.Path)
	}
	l.config.Paths = append(l.config.Paths, p)
}

// relative is the path as trees spell it; empty for the top itself and for what is outside.
func relative(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// parseMode reads octal digits. A number without a leading zero is decimal to YAML, and never what was meant.
func parseMode(s string) (fs.FileMode, error) {
	digits := strings.TrimPrefix(s, "0o")
	if digits == s && !strings.HasPrefix(s, "0") {
		return 0, fmt.Errorf("not an octal number")
	}
	bits, err := strconv.ParseUint(digits, 8, 32)
	if err != nil || bits > 0o7777 {
		return 0, fmt.Errorf("not an octal number up to 0o7777")
	}
	mode := fs.FileMode(bits & 0o777)
	if bits&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode, nil
}

func (l *loader) layering(f *layering) {
	if f == nil {
		return
	}
	switch {
	case f.Strategy.Value == "" && f.Budget == 0:
	case f.Strategy.Value != "origin":
		l.errs.Add(f.Strategy.Pos, document.DidYouMean(f.Strategy.Value, []string{"origin"}), "unknown layering strategy %q", f.Strategy.Value)
	case f.Budget < 1:
		l.errs.Add(f.Strategy.Pos, "", "layering needs a budget of at least 1")
	}
	l.config.Layering = Layering{f.Strategy.Value, f.Budget}
}

func (l *loader) certificates(f *certificates) {
	if f == nil {
		return
	}
	c := Certificates{Providers: f.Providers}
	for _, t := range f.Additional {
		if !keyFile.MatchString(t.Name) {
			l.errs.Add(t.Pos, "", "certificate name %q: letters, digits, dots, dashes and underscores make a name", t.Name)
		}
		block, rest := pem.Decode([]byte(t.Content))
		if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
			l.errs.Add(t.Pos, "", "certificate %s: not exactly one certificate in PEM", t.Name)
		}
		c.Additional = append(c.Additional, Text{t.Name, t.Content})
	}
	l.config.Certificates = c
}

// checkWhole looks at what only the merged configuration can show.
func (l *loader) checkWhole(name string) {
	if len(l.config.Contents.Packages) == 0 && l.config.Contents.BaseImage == nil && len(l.errs) == 0 {
		l.errs.Add(document.Pos{File: name}, "", "no packages are wanted")
	}
	if l.config.Contents.BaseImage != nil && l.config.Layering.Strategy != "" {
		l.errs.Add(l.basePos, "leave layering out", "what is put on a base image is one layer")
	}
	for _, repository := range l.config.Repositories() {
		if tag, _ := SplitTag(repository); tag != "" && strings.ContainsAny(tag, "@ \t") {
			l.errs.Add(document.Pos{File: name}, "", "repository tag %q", tag)
		}
	}
}
