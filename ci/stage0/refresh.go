package stage0

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Refresh asks apt for the closure of the spec's seeds, as if for a machine
// with nothing installed, and returns it as a lock. dir is for apt's lists,
// which are kept there to be brought up to date the next time.
func Refresh(ctx context.Context, a Apt, s *Spec, dir string) (*Lock, error) {
	r, err := a.update(ctx, filepath.Join(dir, "binary"), "deb", s.Suite)
	if err != nil {
		return nil, fmt.Errorf("refreshing stage0: %w", err)
	}
	args := append([]string{"--print-uris", "-y", "-qq", "install"}, s.Seeds...)
	out, err := r.run(ctx, "apt-get", args...)
	if err != nil {
		return nil, fmt.Errorf("refreshing stage0: %w", err)
	}
	l := &Lock{Suite: s.Suite}
	for line := range strings.Lines(string(out)) {
		p, err := r.parsePin(line)
		if err != nil {
			return nil, fmt.Errorf("refreshing stage0: %q: %w", strings.TrimSpace(line), err)
		}
		l.Pins = append(l.Pins, p)
	}
	slices.SortFunc(l.Pins, func(a, b Pin) int { return cmp.Compare(a.Name, b.Name) })
	return l, nil
}

// update fetches the lists of the first mirror that has the suites. That the
// lists are Debian's is known by the keys that the machine trusts for it.
func (a Apt) update(ctx context.Context, dir, types string, suites ...string) (*root, error) {
	mirrors, err := a.mirrors(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, m := range mirrors {
		r, err := newRoot(ctx, dir, m, types, suites...)
		if err != nil {
			return nil, err
		}
		if _, err := r.run(ctx, "apt-get", "-q", "update"); err != nil {
			errs = append(errs, err)
			continue
		}
		out, err := r.run(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)")
		if err == nil && !strings.HasPrefix(string(out), "Debian\n") {
			err = fmt.Errorf("%s is no archive of Debian", m.uri)
		}
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// parsePin reads a line of --print-uris: 'uri' name_version_arch.deb size SHA256:digest.
func (r *root) parsePin(line string) (Pin, error) {
	file, err := r.parseFile(line)
	if err != nil {
		return Pin{}, err
	}
	name, err := url.PathUnescape(file.name)
	if err != nil {
		return Pin{}, err
	}
	words := strings.Split(strings.TrimSuffix(name, ".deb"), "_")
	if len(words) != 3 {
		return Pin{}, errors.New("the file is not called name_version_architecture.deb")
	}
	p := Pin{Name: words[0], Version: words[1], Arch: words[2], Size: file.size, SHA256: file.sha256, Path: file.path}
	return p, p.check()
}

// A printed file is what apt says of a file that it would fetch.
type printed struct {
	name, path, sha256 string
	size               int64
}

func (r *root) parseFile(line string) (printed, error) {
	words := strings.Fields(line)
	if len(words) != 4 {
		return printed{}, errors.New("not uri, file, size and digest")
	}
	f := printed{name: words[1]}
	var err error
	if f.path, err = r.archivePath(strings.Trim(words[0], "'")); err != nil {
		return printed{}, err
	}
	if f.size, err = strconv.ParseInt(words[2], 10, 64); err != nil {
		return printed{}, err
	}
	sum, ok := strings.CutPrefix(words[3], "SHA256:")
	if !ok || !isSHA256(sum) {
		return printed{}, fmt.Errorf("digest %q is no SHA-256", words[3])
	}
	f.sha256 = sum
	return f, nil
}
