package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"distro.internal/melange/recipe"
	"distro.internal/shared/document"
)

// npm installs from its cache when that has what it wants, and looks there in two ways: for a package whose digest it
// knows by that digest; and for what a registry says of a package by the address it would have asked. The first is all
// that "npm ci" does with a lock file that has addresses. The second is asked where the lock file has none (npm can be
// configured to leave them out), and by every other command: then npm sees a registry that has exactly the versions
// that are locked. It is no registry that anybody could ask, so that nothing of this machine gets into what is built.
//
// The folder is that of cacache, npm's cache: content-v2/sha512/AA/BB/REST and index-v5/AA/BB/REST, where an entry of the
// index is a line of JSON behind the SHA-1 of it, in a file that is named by the SHA-256 of its key.

// npmRegistry is the registry that steps see.
const npmRegistry = "https://registry.invalid/"

// npmCache is where npm has its cache, which recipe.Environment says too.
const npmCache = "npm"

// npmPackage is a package of a lock file.
type npmPackage struct {
	locked
	name, version string
	algorithm     string         // of the digest that npm finds it by
	digest        []byte         //
	integrity     string         // as it was written
	about         map[string]any // what a registry would say of this version
}

func (s *Store) placeNPM(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := locate(src, workspace, recipe.NPMLocks...)
	if err != nil || file == "" {
		return err
	}
	data, err := readLock(workspace, file)
	if err != nil {
		return err
	}
	all, err := parseNPM(file, data)
	if err != nil {
		return err
	}
	packages := slices.DeleteFunc(slices.Clone(all), func(p npmPackage) bool { return !p.needed(string(src.Arch)) })
	files := make([]locked, len(packages))
	for i, p := range packages {
		files[i] = p.locked
	}
	names, err := s.lockedFiles(ctx, files, s.npmAddresses())
	if err != nil || l.Caches == "" {
		return err
	}
	sizes := make([]int64, len(packages))
	for i, p := range packages {
		to := path.Join(npmCache, "_cacache", "content-v2", p.algorithm, cachePath(p.digest))
		if sizes[i], err = placeAs(l, to, names[i]); err != nil {
			return err
		}
	}
	l.set("npm_config_cache", recipe.CacheDir+"/"+npmCache)
	l.set("npm_config_registry", npmRegistry)
	for _, name := range []string{"audit", "fund", "update_notifier"} { // questions to a registry
		l.set("npm_config_"+name, "false")
	}
	l.set("npm_config_offline", "true")
	return writePackuments(filepath.Join(l.Caches, npmCache, "_cacache"), all, packages, sizes)
}

// npmAddresses says where the registry that npm is configured for here has a package.
func (s *Store) npmAddresses() func(context.Context, locked) ([]string, error) {
	var ask sync.Once
	var registry string
	var err error
	return func(ctx context.Context, f locked) ([]string, error) {
		ask.Do(func() {
			if registry = s.variable("npm_config_registry"); registry == "" {
				registry, err = s.program(ctx, "npm", "config", "get", "registry")
			}
		})
		if err != nil {
			return nil, err
		}
		file := registryPath(f.want.URI)
		if f.want.URI == "" {
			i := strings.LastIndexByte(f.what, '@')
			name, version := f.what[:i], f.what[i+1:]
			file = name + "/-/" + path.Base(name) + "-" + version + ".tgz"
		}
		if registry == "" || file == "" {
			return nil, nil
		}
		return []string{strings.TrimSuffix(registry, "/") + "/" + file}, nil
	}
}

// registryPath is the part of a package's address that is the same in every registry; empty when it is no registry's.
func registryPath(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	name, file, found := strings.Cut(u.Path, "/-/")
	if !found {
		return ""
	}
	base := path.Base(name)
	if scope := path.Base(path.Dir(name)); strings.HasPrefix(scope, "@") {
		base = scope + "/" + base
	}
	return base + "/-/" + file
}

// npmMachines are npm's names of processors.
var npmMachines = map[string]string{
	"x86_64": "x64", "aarch64": "arm64", "armv7": "arm", "armhf": "arm", "x86": "ia32", "riscv64": "riscv64", "ppc64le": "ppc64",
	"s390x": "s390x", "loongarch64": "loong64",
}

// needed says whether npm would install the package on a machine of ours: what is optional it leaves out elsewhere.
func (p npmPackage) needed(arch string) bool {
	if optional, _ := p.about["optional"].(bool); !optional {
		return true
	}
	return allows(p.about["os"], "linux") && allows(p.about["cpu"], cmp.Or(npmMachines[arch], arch))
}

// allows reads a list of names, or of those that are not meant: "!win32".
func allows(list any, name string) bool {
	var names []string
	switch list := list.(type) {
	case string:
		names = []string{list}
	case []any:
		for _, n := range list {
			s, _ := n.(string)
			names = append(names, s)
		}
	}
	if slices.Contains(names, "!"+name) {
		return false
	}
	named := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return strings.HasPrefix(s, "!") })
	return len(named) == 0 || slices.Contains(named, name) || slices.Contains(named, "any")
}

// A npmRequest is what the cache answers: an address, and the forms that may be asked for, of which "" is none.
type npmRequest struct {
	address   string
	accepts   []string
	integrity string
	size      int64
}

// npmAccepts are the forms in which npm asks for what is known of a package: in full, and in short, to install it. The
// cache gives an answer only to who asks as was asked before.
var npmAccepts = []string{"application/json", "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"}

// tarball is the address of a package.
func (p npmPackage) tarball() string {
	return cmp.Or(p.want.URI, npmRegistry+p.name+"/-/"+path.Base(p.name)+"-"+p.version+".tgz")
}

// writePackuments has a cache answer what is asked of a registry: what there is of each package, and for the packages
// that are there themselves.
func writePackuments(cache string, known, there []npmPackage, sizes []int64) error {
	byName := map[string][]npmPackage{}
	for _, p := range known {
		byName[p.name] = append(byName[p.name], p)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		said, err := packument(name, byName[name])
		if err != nil {
			return err
		}
		sum := sha512.Sum512(said)
		if err := writeUnder(cache, path.Join("content-v2", "sha512", cachePath(sum[:])), said); err != nil {
			return err
		}
		integrity := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
		address := npmRegistry + strings.ReplaceAll(name, "/", "%2f")
		if err := writeAnswer(cache, npmRequest{address, npmAccepts, integrity, int64(len(said))}); err != nil {
			return err
		}
	}
	for i, p := range there {
		if err := writeAnswer(cache, npmRequest{p.tarball(), []string{""}, p.integrity, sizes[i]}); err != nil {
			return err
		}
	}
	return nil
}

// packument is what a registry says of a package: its versions, and which of them is the latest.
func packument(name string, list []npmPackage) ([]byte, error) {
	versions := map[string]map[string]any{}
	latest := list[0].version
	for _, p := range list {
		about := maps.Clone(p.about)
		for _, ours := range []string{"resolved", "integrity", "dev", "optional", "devOptional", "peer", "extraneous", "inBundle", "requires"} {
			delete(about, ours)
		}
		about["name"], about["version"] = name, p.version
		about["dist"] = map[string]any{"integrity": p.integrity, "tarball": p.tarball()}
		versions[p.version] = about
		if newerVersion(p.version, latest) {
			latest = p.version
		}
	}
	return json.Marshal(map[string]any{"name": name, "dist-tags": map[string]string{"latest": latest}, "versions": versions})
}

// newerVersion compares versions well enough to call one the latest: none that is locked is wanted by that name.
func newerVersion(a, b string) bool {
	number := func(s string) (n [3]int) {
		fmt.Sscanf(s, "%d.%d.%d", &n[0], &n[1], &n[2])
		return n
	}
	x, y := number(a), number(b)
	return slices.Compare(x[:], y[:]) > 0
}

func writeAnswer(cache string, r npmRequest) error {
	key := "make-fetch-happen:request-cache:" + r.address
	var lines []byte
	for _, accept := range r.accepts {
		headers := map[string]string{}
		if accept != "" {
			headers["accept"] = accept
		}
		line, err := json.Marshal(map[string]any{
			"key": key, "integrity": r.integrity, "time": placedTime.UnixMilli(), "size": r.size,
			"metadata": map[string]any{
				"time": placedTime.UnixMilli(), "url": r.address, "reqHeaders": headers,
				"resHeaders": map[string]string{}, "options": map[string]bool{"compress": true},
			},
		})
		if err != nil {
			return err
		}
		lines = fmt.Appendf(lines, "\n%x\t%s", sha1.Sum(line), line)
	}
	hash := sha256.Sum256([]byte(key))
	return writeUnder(cache, path.Join("index-v5", cachePath(hash[:])), lines)
}

func writeUnder(cache, name string, text []byte) error {
	file := filepath.Join(cache, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// cachePath is a digest as the cache makes paths of it.
func cachePath(digest []byte) string {
	h := hex.EncodeToString(digest)
	return path.Join(h[:2], h[2:4], h[4:])
}

// parseNPM reads a package-lock.json or npm-shrinkwrap.json, of any version that npm still reads. Packages that are not
// fetched (folders, and what comes inside of others) are left out.
func parseNPM(file string, data []byte) ([]npmPackage, error) {
	p := &npmParser{file: file, data: data, dec: json.NewDecoder(bytes.NewReader(data)), seen: map[string]bool{}}
	if err := p.document(); err != nil {
		return nil, err
	}
	return p.packages, p.errs.Err()
}

type npmParser struct {
	file     string
	data     []byte
	dec      *json.Decoder
	errs     document.ErrorList
	seen     map[string]bool // names, versions and digests
	packages []npmPackage
}

// here is the place of the value that was just read, or of what is next.
func (p *npmParser) here() document.Pos {
	at := int(p.dec.InputOffset())
	if i := bytes.LastIndexByte(p.data[:at], '\n'); i >= 0 && at > 0 {
		line := p.data[i+1 : at]
		if trimmed := bytes.TrimLeft(line, " \t"); len(trimmed) > 0 {
			return position(p.file, p.data, at-len(trimmed))
		}
	}
	return position(p.file, p.data, at)
}

// broken is what the decoder stumbled over, with its place.
func (p *npmParser) broken(err error) error {
	at := int(p.dec.InputOffset())
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && errors.As(json.Unmarshal(p.data, new(any)), &syntax) { // a Decoder's offsets are of a part
		at = int(syntax.Offset) - 1
	}
	return &document.Error{Pos: position(p.file, p.data, at), Text: "no lock file of npm: " + strings.TrimPrefix(err.Error(), "json: ")}
}

// members calls do for each member of the object that is next, which has to read its value.
func (p *npmParser) members(do func(name string, pos document.Pos) error) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.broken(err)
	}
	if t != json.Delim('{') {
		return p.broken(fmt.Errorf("want an object, found %v", t))
	}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return p.broken(err)
		}
		name, ok := t.(string)
		if !ok {
			return p.broken(fmt.Errorf("want a name, found %v", t))
		}
		if err := do(name, p.here()); err != nil {
			return err
		}
	}
	if _, err := p.dec.Token(); err != nil {
		return p.broken(err)
	}
	return nil
}

func (p *npmParser) skip() error {
	var ignored json.RawMessage
	if err := p.dec.Decode(&ignored); err != nil {
		return p.broken(err)
	}
	return nil
}

func (p *npmParser) document() error {
	found, version := false, 1.0
	err := p.members(func(name string, pos document.Pos) error {
		switch {
		case name == "lockfileVersion":
			if err := p.dec.Decode(&version); err != nil {
				return p.broken(err)
			}
			return nil
		case name == "packages":
			found = true
			return p.members(p.entry)
		case name == "dependencies" && version < 2: // later it repeats what is in packages
			found = true
			return p.members(p.older)
		}
		return p.skip()
	})
	if err == nil && !found {
		p.errs.Add(document.Pos{File: p.file, Line: 1, Col: 1}, "", "no lock file of npm: it has neither packages nor dependencies")
	}
	return err
}

// entry reads a package of version 2 or 3: its name is the folder that it is installed in.
func (p *npmParser) entry(folder string, pos document.Pos) error {
	var about map[string]any
	if err := p.dec.Decode(&about); err != nil {
		return p.broken(err)
	}
	i := strings.LastIndex(folder, "node_modules/")
	if i < 0 {
		return nil // the project itself, or one of its own folders
	}
	name := folder[i+len("node_modules/"):]
	if real, ok := about["name"].(string); ok {
		name = real // installed under another
	}
	p.add(name, about, pos)
	return nil
}

// older reads a package of version 1, which has those that are installed below it inside.
func (p *npmParser) older(name string, pos document.Pos) error {
	about := map[string]any{}
	err := p.members(func(field string, _ document.Pos) error {
		if field == "dependencies" {
			return p.members(p.older)
		}
		var value any
		if err := p.dec.Decode(&value); err != nil {
			return p.broken(err)
		}
		about[field] = value
		return nil
	})
	if err != nil {
		return err
	}
	if version, ok := about["version"].(string); ok {
		if alias, ok := strings.CutPrefix(version, "npm:"); ok {
			if i := strings.LastIndexByte(alias, '@'); i > 0 {
				name, about["version"] = alias[:i], alias[i+1:]
			}
		}
	}
	if bundled, _ := about["bundled"].(bool); bundled {
		about["inBundle"] = true
	}
	if requires, ok := about["requires"].(map[string]any); ok {
		about["dependencies"] = requires
	}
	p.add(name, about, pos)
	return nil
}

func (p *npmParser) add(name string, about map[string]any, pos document.Pos) {
	text := func(field string) string {
		s, _ := about[field].(string)
		return s
	}
	version, resolved, integrity := text("version"), text("resolved"), text("integrity")
	link, _ := about["link"].(bool)
	bundled, _ := about["inBundle"].(bool)
	switch {
	case link || bundled || strings.HasPrefix(version, "file:") || strings.HasPrefix(resolved, "file:"):
		return
	case name == "" || strings.ContainsAny(name, "\x00\\?#%") || slices.ContainsFunc(strings.Split(name, "/"), dotted) || strings.Count(name, "/") > 1:
		p.errs.Add(pos, "", "%q is no name of a package", name)
		return
	case strings.HasPrefix(resolved, "git") || strings.HasPrefix(version, "git"):
		p.errs.Add(pos, "publish it to a registry, or let the step have the network", "%s is a git commit, which npm takes from nowhere but git", name)
		return
	case integrity == "":
		p.errs.Add(pos, "npm install --package-lock-only writes it", "%s has no integrity", name)
		return
	case version == "" || strings.ContainsAny(version, "/\x00\\?#%"):
		p.errs.Add(pos, "", "%s has the version %q", name, version)
		return
	}
	algorithm, digest := strongest(integrity)
	if algorithm == "" {
		p.errs.Add(pos, "", "%s has the integrity %q: want sha512-, sha256- or sha1- and a digest in base64", name, integrity)
		return
	}
	if !strings.HasPrefix(resolved, "http://") && !strings.HasPrefix(resolved, "https://") {
		resolved = ""
	}
	if key := name + "@" + version + " " + integrity; p.seen[key] {
		return // installed in several folders
	} else {
		p.seen[key] = true
	}
	h := hex.EncodeToString(digest)
	want := Want{URI: resolved}
	switch algorithm {
	case "sha512":
		want.SHA512 = h
	case "sha256":
		want.SHA256 = h
	default:
		want.SHA1 = h
	}
	p.packages = append(p.packages, npmPackage{
		locked: locked{what: name + "@" + version, pos: pos, want: want},
		name:   name, version: version, algorithm: algorithm, digest: digest, integrity: integrity, about: about,
	})
}

func dotted(s string) bool { return s == "" || s == "." || s == ".." }

// strongest takes the best digest out of an integrity as the web has it: words of ALGORITHM-BASE64.
func strongest(integrity string) (algorithm string, digest []byte) {
	for _, a := range []struct {
		name string
		size int
	}{{"sha512", 64}, {"sha256", 32}, {"sha1", 20}} {
		for _, word := range strings.Fields(integrity) {
			text, ok := strings.CutPrefix(word, a.name+"-")
			text, _, _ = strings.Cut(text, "?")
			if b, err := base64.StdEncoding.DecodeString(text); ok && err == nil && len(b) == a.size {
				return a.name, b
			}
		}
	}
	return "", nil
}
