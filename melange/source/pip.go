package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/html"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
	"distro.internal/shared/atomicfile"
)

// A requirements file with hashes names each file that pip may install, but not where it is nor what it is called. An
// index does: the one of the file, or that which pip is configured for on this machine. Of the files that have one of
// the hashes, those are fetched that can be installed on a Linux of the architecture: wheels, for any version of Python,
// and archives of sources. pip then finds them in a folder, in place of any index, and picks among them as it always does.
//
// A requirement may also be an address. pip asks for that and for nothing else, so in the workspace the address becomes
// that of the file.
//
// What an index said of a requirement is remembered, so that nothing is asked again for what is in the store.

// wheelFolder is where the files are, in the folder of caches.
const wheelFolder = "wheels"

func (s *Store) placePip(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := l.locate(src, workspace, "requirements.txt")
	if err != nil || file == "" {
		return err
	}
	list, err := lockfile.Requirements(file, !src.Found, func(name string) ([]byte, error) { return readLock(workspace, name) })
	if err != nil || len(list) == 0 {
		return err
	}
	var files []locked
	var names []string
	var owners []lockfile.Requirement
	for _, r := range list {
		found, err := s.distributions(ctx, r, string(src.Arch))
		if err != nil {
			return fmt.Errorf("%s: finding %s: %w", r.Pos, r, err)
		}
		for _, d := range found {
			files = append(files, locked{what: d.File, pos: r.Pos, want: d.want()})
			names, owners = append(names, d.File), append(owners, r)
		}
		l.fetched(pipPackage(r, found))
	}
	stored, err := s.lockedFiles(ctx, files, func(context.Context, locked) ([]string, error) { return nil, nil })
	if err != nil || l.Caches == "" {
		return err
	}
	for i, name := range names {
		if _, err := placeAs(l, wheelFolder+"/"+name, stored[i]); err != nil {
			return err
		}
	}
	for i, r := range owners {
		if r.Address != "" {
			here := (&url.URL{Scheme: "file", Path: path.Join(recipe.CacheDir, wheelFolder, names[i])}).String()
			if err := readdress(workspace, r.Pos.File, r.Address, here); err != nil {
				return err
			}
		}
	}
	for _, client := range []string{"PIP", "UV"} {
		l.set(client+"_NO_INDEX", "1")
		l.set(client+"_FIND_LINKS", recipe.CacheDir+"/"+wheelFolder)
	}
	return nil
}

// readdress has a lock file name the file that was fetched in place of its address.
func readdress(workspace *os.Root, file, address, here string) error {
	data, err := workspace.ReadFile(file)
	if err != nil {
		return err
	}
	info, err := workspace.Stat(file)
	if err != nil {
		return err
	}
	data = bytes.ReplaceAll(data, []byte(address), []byte(here))
	if err := workspace.WriteFile(file, data, info.Mode().Perm()); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return workspace.Chtimes(file, info.ModTime(), info.ModTime())
}

// A distribution is a file that an index has.
type distribution struct {
	File, URL, Hash string
}

func (d distribution) want() Want {
	if algorithm, sum, _ := strings.Cut(d.Hash, ":"); algorithm == "sha512" {
		return Want{SHA512: sum, URI: d.URL}
	} else {
		return Want{SHA256: sum, URI: d.URL}
	}
}

// distributions are the files to have for a requirement.
func (s *Store) distributions(ctx context.Context, r lockfile.Requirement, arch string) ([]distribution, error) {
	if r.Address != "" {
		u, err := url.Parse(r.Address)
		if err != nil {
			return nil, err
		}
		u.Fragment = ""
		return []distribution{{path.Base(u.Path), u.String(), r.Hashes[0]}}, nil
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{normalName(r.Name), r.Version, arch}, r.Hashes...), "\n")))
	memory := filepath.Join(s.Dir, "pip", hex.EncodeToString(sum[:]))
	var found []distribution
	if data, err := os.ReadFile(memory); err == nil && json.Unmarshal(data, &found) == nil {
		return found, nil
	}
	if s.Offline {
		return nil, errOffline
	}
	indexes := r.Indexes
	if len(indexes) == 0 {
		var err error
		if indexes, err = s.pipIndexes(ctx); err != nil {
			return nil, err
		}
	}
	var failures []error
	for _, index := range indexes {
		all, err := s.askIndex(ctx, index, normalName(r.Name))
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, d := range all {
			if slices.Contains(r.Hashes, d.Hash) && lockfile.Installable(d.File, arch) {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.Join(append(failures, fmt.Errorf("no index has a file for %s with one of the hashes", arch))...)
	}
	slices.SortFunc(found, func(a, b distribution) int { return cmp.Compare(a.File, b.File) })
	found = slices.CompactFunc(found, func(a, b distribution) bool { return a.File == b.File })
	data, err := json.Marshal(found)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(memory), 0o755); err != nil {
		return nil, err
	}
	return found, atomicfile.Write(memory, 0o644, atomicfile.Bytes(data))
}

var runs = regexp.MustCompile(`[-_.]+`)

// normalName is a name as indexes have it.
func normalName(name string) string { return strings.ToLower(runs.ReplaceAllString(name, "-")) }

// pipIndexes are the indexes that pip is configured for on this machine.
func (s *Store) pipIndexes(ctx context.Context) ([]string, error) {
	if index := cmp.Or(s.variable("PIP_INDEX_URL"), s.variable("UV_DEFAULT_INDEX")); index != "" {
		return append([]string{index}, strings.Fields(s.variable("PIP_EXTRA_INDEX_URL"))...), nil
	}
	s.pip.once.Do(func() { s.pip.indexes, s.pip.err = s.askPip(ctx) })
	if len(s.pip.indexes) == 0 && s.pip.err == nil {
		return nil, errors.New("no index is known: set PIP_INDEX_URL, or begin the file with --index-url, or install pip, which knows one")
	}
	return s.pip.indexes, s.pip.err
}

// pipAnswer is what pip said, once.
type pipAnswer struct {
	once    sync.Once
	indexes []string
	err     error
}

// defaultIndexOf is where pip's help tells of the index that it asks when nothing is configured.
var defaultIndexOf = regexp.MustCompile(`--index-url\s+<url>[^(]*\(default\s+(https?://[^\s)]+)\)`)

func (s *Store) askPip(ctx context.Context) ([]string, error) {
	var indexes []string
	configured, err := s.program(ctx, "python3", "-m", "pip", "config", "list")
	if err != nil {
		return nil, nil // a Python without pip
	}
	for line := range strings.Lines(configured) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `'"`)
		switch {
		case strings.HasSuffix(name, ".index-url"):
			indexes = append([]string{value}, indexes...)
		case strings.HasSuffix(name, ".extra-index-url"):
			indexes = append(indexes, strings.Fields(strings.ReplaceAll(value, `\n`, " "))...)
		}
	}
	if strings.Contains(configured, ".index-url=") {
		return indexes, nil
	}
	help, err := s.program(ctx, "python3", "-m", "pip", "install", "--help")
	if m := defaultIndexOf.FindStringSubmatch(help); m != nil {
		indexes = append([]string{m[1]}, indexes...)
	}
	return indexes, err
}

// indexTypes are the forms of an index's answer, the one that needs no guessing first.
const indexTypes = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

// askIndex asks an index for all files of a project.
func (s *Store) askIndex(ctx context.Context, index, name string) ([]distribution, error) {
	address := strings.TrimSuffix(index, "/") + "/" + name + "/"
	data, kind, err := s.ask(ctx, address, indexTypes)
	if err != nil {
		return nil, fmt.Errorf("asking index %s: %w", redacted(index), err)
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(kind)
	var list []distribution
	if strings.HasSuffix(media, "json") {
		list, err = parseIndexJSON(data)
	} else {
		list, err = parseIndexHTML(data)
	}
	if err != nil {
		return nil, fmt.Errorf("asking index %s: %w", redacted(index), err)
	}
	list = slices.DeleteFunc(list, func(d distribution) bool { return d.File != path.Base(d.File) || !filepath.IsLocal(d.File) })
	for i := range list { // addresses are relative to the index
		u, err := base.Parse(list[i].URL)
		if err != nil {
			return nil, fmt.Errorf("asking index %s: %w", redacted(index), err)
		}
		u.Fragment = ""
		list[i].URL = u.String()
	}
	return list, nil
}

func parseIndexJSON(data []byte) ([]distribution, error) {
	var project struct {
		Files []struct {
			Filename, URL string
			Hashes        map[string]string
		}
	}
	if err := json.Unmarshal(data, &project); err != nil {
		return nil, err
	}
	var list []distribution
	for _, f := range project.Files {
		for _, algorithm := range []string{"sha256", "sha512"} {
			if sum := f.Hashes[algorithm]; sum != "" {
				list = append(list, distribution{f.Filename, f.URL, algorithm + ":" + strings.ToLower(sum)})
			}
		}
	}
	return list, nil
}

// parseIndexHTML reads the older form: links, with the hash of what they lead to behind a #.
func parseIndexHTML(data []byte) ([]distribution, error) {
	var list []distribution
	for z := html.NewTokenizer(bytes.NewReader(data)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return list, nil
		case html.StartTagToken:
			t := z.Token()
			if t.Data != "a" {
				continue
			}
			for _, a := range t.Attr {
				if u, err := url.Parse(a.Val); a.Key == "href" && err == nil {
					list = append(list, distribution{path.Base(u.Path), a.Val, strings.ToLower(strings.Replace(u.Fragment, "=", ":", 1))})
				}
			}
		}
	}
}
