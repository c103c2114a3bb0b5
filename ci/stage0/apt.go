package stage0

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/shared/atomicfile"
)

// An Apt is this machine's apt, used in a private folder: it changes nothing
// of the machine, and any user may run it. The zero value works with the
// machine's own mirrors and keys.
type Apt struct {
	// Mirror is the base URI of a Debian mirror, in the place of those of the
	// machine's configuration; Keyring the keys it is trusted by.
	Mirror, Keyring string
}

// helper is the program of the apt package that fetches single files.
const helper = "/usr/lib/apt/apt-helper"

// A mirror is an entry of apt's configuration that may be Debian's archive.
type mirror struct {
	uri, signedBy string
}

// mirrors returns where the Debian archive may be found, the likeliest first.
func (a Apt) mirrors(ctx context.Context) ([]mirror, error) {
	if a.Mirror != "" {
		return []mirror{{strings.TrimSuffix(a.Mirror, "/"), a.Keyring}}, nil
	}
	dirs, err := aptDirs(ctx)
	if err != nil {
		return nil, err
	}
	files := []string{dirs["LIST"]}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dirs["PARTS"], pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var all []aptSource
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the configuration of apt: %w", err)
		}
		if strings.HasSuffix(file, ".sources") {
			all = append(all, parseDeb822(data)...)
		} else {
			all = append(all, parseOneLine(data)...)
		}
	}
	found := debianMirrors(all)
	if len(found) == 0 {
		return nil, errors.New("no Debian mirror stands in the configuration of apt: name one")
	}
	return found, nil
}

// aptDirs asks apt where its configuration is.
func aptDirs(ctx context.Context) (map[string]string, error) {
	out, err := run(ctx, nil, "apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f",
		"PARTS", "Dir::Etc::sourceparts/d", "TRUSTED", "Dir::Etc::trustedparts/d")
	if err != nil {
		return nil, err
	}
	dirs := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		dirs[name] = strings.Trim(value, "'")
	}
	return dirs, nil
}

// An aptSource is one entry of apt's lists of sources.
type aptSource struct {
	types, uris, suites, components []string
	signedBy                        string // files; empty: the keys apt always trusts
	disabled                        bool
}

// parseDeb822 reads a .sources file. What it does not understand it leaves out:
// apt itself is there to complain.
func parseDeb822(data []byte) []aptSource {
	var all []aptSource
	for _, paragraph := range paragraphs(string(data)) {
		s := aptSource{
			types: strings.Fields(paragraph["types"]), uris: strings.Fields(paragraph["uris"]),
			suites: strings.Fields(paragraph["suites"]), components: strings.Fields(paragraph["components"]),
			disabled: strings.EqualFold(paragraph["enabled"], "no"),
		}
		if key := paragraph["signed-by"]; strings.HasPrefix(key, "/") {
			s.signedBy = key
		}
		all = append(all, s)
	}
	return all
}

// paragraphs reads the format of Debian's control files: fields, whose names
// are returned in lower case, in paragraphs with empty lines between.
func paragraphs(text string) []map[string]string {
	var all []map[string]string
	var now map[string]string
	field := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			now, field = nil, ""
		case line[0] == ' ' || line[0] == '\t':
			if field != "" {
				now[field] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				field = ""
				continue
			}
			if now == nil {
				now = make(map[string]string)
				all = append(all, now)
			}
			field = strings.ToLower(name)
			now[field] = strings.TrimSpace(value)
		}
	}
	return all
}

// parseOneLine reads a .list file: "deb [option=value ...] uri suite component...".
func parseOneLine(data []byte) []aptSource {
	var all []aptSource
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		var s aptSource
		if before, rest, ok := strings.Cut(line, "["); ok {
			options, after, ok := strings.Cut(rest, "]")
			if !ok {
				continue
			}
			for option := range strings.FieldsSeq(options) {
				if key, ok := strings.CutPrefix(option, "signed-by="); ok && strings.HasPrefix(key, "/") {
					s.signedBy = strings.ReplaceAll(key, ",", " ")
				}
			}
			line = before + " " + after
		}
		words := strings.Fields(line)
		if len(words) < 4 {
			continue
		}
		s.types, s.uris, s.suites, s.components = words[:1], words[1:2], words[2:3], words[3:]
		all = append(all, s)
	}
	return all
}

// debianSuites are the names of the releases that an archive of Debian itself has.
var debianSuites = []string{
	"bullseye", "bookworm", "trixie", "forky", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable",
}

// debianMirrors picks the entries that may be Debian's own archive. Others
// name their suites like Debian's too, so that this is a guess, best first;
// signatures and digests decide.
func debianMirrors(all []aptSource) []mirror {
	var likely, possible []mirror
	for _, s := range all {
		suite := func(name string) bool { return slices.Contains(debianSuites, name) }
		if s.disabled || !slices.Contains(s.types, "deb") || !slices.Contains(s.components, "main") ||
			!slices.ContainsFunc(s.suites, suite) {
			continue
		}
		for _, uri := range s.uris {
			m := mirror{strings.TrimSuffix(uri, "/"), s.signedBy}
			if strings.HasSuffix(m.uri, "/debian") || strings.Contains(s.signedBy, "debian-archive-keyring") {
				likely = append(likely, m)
			} else {
				possible = append(possible, m)
			}
		}
	}
	var unique []mirror
	for _, m := range slices.Concat(likely, possible) {
		if !slices.Contains(unique, m) {
			unique = append(unique, m)
		}
	}
	return unique
}

// A root is a folder that apt takes for the whole machine.
type root struct {
	dir    string
	config string // file
	uri    string // of the mirror it is set up for
}

// newRoot sets up a folder in which nothing is installed, with the given
// suites of the mirror; types are "deb" and "deb-src".
func newRoot(ctx context.Context, dir string, m mirror, types string, suites ...string) (*root, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"etc/apt/sources.list.d", "var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	settings, err := aptSettings(ctx)
	if err != nil {
		return nil, err
	}
	dirs, err := aptDirs(ctx)
	if err != nil {
		return nil, err
	}
	r := &root{dir: dir, config: filepath.Join(dir, "apt.conf"), uri: m.uri}
	source := fmt.Sprintf("Types: %s\nURIs: %s\nSuites: %s\nComponents: main\n", types, m.uri, strings.Join(suites, " "))
	if m.signedBy != "" {
		source += "Signed-By: " + strings.ReplaceAll(m.signedBy, "\n", " ") + "\n"
	}
	for _, f := range []struct{ name, text string }{
		{"etc/apt/sources.list.d/debian.sources", source},
		{"var/lib/dpkg/status", ""},
		{"apt.conf", settings + rootSettings(dir, dirs["TRUSTED"])},
	} {
		if err := atomicfile.WriteSynced(filepath.Join(dir, f.name), 0o644, atomicfile.Bytes([]byte(f.text))); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func rootSettings(dir, trusted string) string {
	return fmt.Sprintf(`Dir "%s";
Dir::State::status "%[1]s/var/lib/dpkg/status";
Dir::Etc::TrustedParts "%s";
APT::Architecture "%s";
APT::Architectures "%[3]s";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "3";
Debug::NoLocking "true";
`, dir, trusted, debianArch)
}

// aptSettings returns how this machine fetches: proxies, time limits, certificates.
func aptSettings(ctx context.Context) (string, error) {
	out, err := run(ctx, nil, "apt-config", "dump", "--no-empty")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		switch group := strings.Split(name, "::"); {
		case group[0] != "Acquire" || len(group) < 2:
		case slices.Contains([]string{"IndexTargets", "Languages", "CompressionTypes", "Changelogs"}, group[1]):
		default:
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// run runs apt, or another program of it, in the root.
func (r *root) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return run(ctx, []string{"APT_CONFIG=" + r.config}, name, args...)
}

// archivePath returns the path below the mirror's base of a file that apt
// named by its URI.
func (r *root) archivePath(uri string) (string, error) {
	rest, ok := strings.CutPrefix(uri, r.uri+"/")
	if !ok {
		return "", fmt.Errorf("%s is not below %s", uri, r.uri)
	}
	name, err := url.PathUnescape(rest)
	if err != nil {
		return "", err
	}
	if !isPoolPath(name) {
		return "", fmt.Errorf("%q is no path in the archive", name)
	}
	return name, nil
}

// run runs a program of apt. Its error is what the program complained of.
func run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w%s", filepath.Base(name), strings.Join(firstWords(args), " "), err, complaints(stderr.String()))
	}
	return out, nil
}

// firstWords keeps an error readable whose command names a hundred files.
func firstWords(args []string) []string {
	if len(args) > 4 {
		return append(slices.Clone(args[:4]), "...")
	}
	return args
}

// complaints picks apt's errors out of what it said.
func complaints(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if text, ok := strings.CutPrefix(line, "E: "); ok && b.Len() < 32<<10 {
			b.WriteString("; " + strings.TrimSpace(text))
		}
	}
	return b.String()
}
