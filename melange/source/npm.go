package source

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
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

func (s *Store) placeNPM(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := l.locate(src, workspace, recipe.NPMLocks...)
	if err != nil || file == "" {
		return err
	}
	data, err := readLock(workspace, file)
	if err != nil {
		return err
	}
	all, err := lockfile.NPM(file, data)
	if err != nil {
		return err
	}
	packages := slices.DeleteFunc(slices.Clone(all), func(p lockfile.NPMPackage) bool { return !p.Needed(string(src.Arch)) })
	files := make([]locked, len(packages))
	for i, p := range packages {
		files[i] = locked{what: p.Name + "@" + p.Version, pos: p.Pos, want: npmWant(p.Resolved, p.Algorithm, p.Digest)}
		l.fetched(npmPackage(src.Kind, p))
	}
	names, err := s.lockedFiles(ctx, files, s.npmAddresses())
	if err != nil || l.Caches == "" {
		return err
	}
	sizes := make([]int64, len(packages))
	for i, p := range packages {
		to := path.Join(npmCache, "_cacache", "content-v2", p.Algorithm, cachePath(p.Digest))
		if sizes[i], err = placeAs(l, to, names[i]); err != nil {
			return err
		}
	}
	l.set("npm_config_cache", recipe.CacheDir+"/"+npmCache)
	for _, name := range []string{"audit", "fund", "update_notifier"} { // questions to a registry
		l.set("npm_config_"+name, "false")
	}
	l.set("npm_config_offline", "true")
	if err := l.setRegistry(file, npmRegistry); err != nil {
		return err
	}
	return writePackuments(filepath.Join(l.Caches, npmCache, "_cacache"), all, packages, sizes)
}

// setRegistry says which registry npm and pnpm ask, which read the same variable.
func (l *Layout) setRegistry(file, address string) error {
	const name = "npm_config_registry"
	if other := l.Env[name]; other != "" && other != address {
		return fmt.Errorf("reading %s: a recipe has steps for npm or for pnpm, which find their packages in different forms by the same variable; "+
			"let those of one of them have the network", file)
	}
	l.set(name, address)
	return nil
}

// npmWant is the file of a package.
func npmWant(uri, algorithm string, digest []byte) Want {
	w, h := Want{URI: uri}, hex.EncodeToString(digest)
	switch algorithm {
	case "sha512":
		w.SHA512 = h
	case "sha256":
		w.SHA256 = h
	default:
		w.SHA1 = h
	}
	return w
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
func tarball(p lockfile.NPMPackage) string {
	return cmp.Or(p.Resolved, npmRegistry+p.Name+"/-/"+path.Base(p.Name)+"-"+p.Version+".tgz")
}

// writePackuments has a cache answer what is asked of a registry: what there is of each package, and for the packages
// that are there themselves.
func writePackuments(cache string, known, there []lockfile.NPMPackage, sizes []int64) error {
	byName := map[string][]lockfile.NPMPackage{}
	for _, p := range known {
		byName[p.Name] = append(byName[p.Name], p)
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
		if err := writeAnswer(cache, npmRequest{tarball(p), []string{""}, p.Integrity, sizes[i]}); err != nil {
			return err
		}
	}
	return nil
}

// packument is what a registry says of a package: its versions, and which of them is the latest.
func packument(name string, list []lockfile.NPMPackage) ([]byte, error) {
	versions := map[string]map[string]any{}
	latest := list[0].Version
	for _, p := range list {
		about := maps.Clone(p.About)
		for _, ours := range []string{"resolved", "integrity", "dev", "optional", "devOptional", "peer", "extraneous", "inBundle", "requires"} {
			delete(about, ours)
		}
		about["name"], about["version"] = name, p.Version
		about["dist"] = map[string]any{"integrity": p.Integrity, "tarball": tarball(p)}
		versions[p.Version] = about
		if newerVersion(p.Version, latest) {
			latest = p.Version
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
