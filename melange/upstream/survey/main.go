// Survey makes every recipe of a folder one of the next version, in memory, and says how that went: how many, how fast,
// which not, and whether anything changed that was not meant to.
//
//	go run ./melange/upstream/survey FOLDER
//
// What recipes fetch is answered here, with bytes made of the address, and the commit of the version is given. Outside,
// only the servers of second repositories are asked; without a network such a recipe is one that was not changed.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
	"distro.internal/melange/upstream"
	"distro.internal/shared/apk"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: survey FOLDER")
		os.Exit(2)
	}
	if err := survey(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// commit stands for that of every new version.
const commit = "0123456789abcdef0123456789abcdef01234567"

func survey(w io.Writer, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	store, err := os.MkdirTemp("", "survey-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(store)
	s := &surveyor{dir: dir, sources: &source.Store{Dir: store, HTTP: &http.Client{Transport: answers{}}}}
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for _, file := range files {
		if !strings.HasPrefix(filepath.Base(file), ".") {
			g.Go(func() error { return s.recipe(context.Background(), file) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.Sort(s.failed)
	slices.Sort(s.other)
	for _, line := range append(s.failed, s.other...) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintf(w, "%d recipes changed in %d lines, %d not, in %v\n", s.changed, s.lines, len(s.failed), time.Since(began).Round(time.Millisecond))
	if len(s.other) > 0 {
		return errors.New("some changed where they should not")
	}
	return nil
}

// answers has some content for every address.
type answers struct{}

func (answers) RoundTrip(r *http.Request) (*http.Response, error) {
	sum := sha256.Sum256([]byte(r.URL.String()))
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(sum[:])), ContentLength: int64(len(sum)),
	}, nil
}

type surveyor struct {
	dir     string
	sources *source.Store

	mu             sync.Mutex
	changed, lines int
	failed, other  []string
}

var lastNumber = regexp.MustCompile(`[0-9]+[^0-9]*$`)

// next is a version that is newer by one in its last number.
func next(version string) apk.Version {
	return apk.Version(lastNumber.ReplaceAllStringFunc(version, func(end string) string {
		digits := strings.TrimRight(end, "abcdefghijklmnopqrstuvwxyz._~-")
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil {
			return end + "1"
		}
		return strconv.FormatUint(n+1, 10) + end[len(digits):]
	}))
}

func (s *surveyor) recipe(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	r, err := recipe.Parse(file, text, recipe.ParseOptions{})
	if err != nil {
		return err
	}
	b := upstream.Bump{
		Version: next(r.Package.Version.Value), Commit: commit, Sources: s.sources,
		Plan: recipe.PlanOptions{Arch: apk.HostArch(), BuildArch: apk.HostArch(), Dir: os.DirFS(s.dir)},
	}
	bumped, err := b.Recipe(ctx, file, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = append(s.failed, fmt.Sprintf("%s: not changed: %v", filepath.Base(file), err))
		return nil
	}
	s.changed++
	s.compare(file, string(text), bumped)
	return nil
}

// compare holds the lines of both texts against each other: those that differ must be those of the changes.
func (s *surveyor) compare(file, old string, b *upstream.Bumped) {
	was, is := strings.Split(old, "\n"), strings.Split(string(b.Text), "\n")
	meant := map[int]bool{}
	for _, c := range b.Changes {
		meant[c.Line] = true
	}
	i := 0
	for n, line := range is {
		if i < len(was) && was[i] == line {
			i++
			continue
		}
		s.lines++
		if !meant[n+1] {
			s.other = append(s.other, fmt.Sprintf("%s:%d: changed to %q", filepath.Base(file), n+1, line))
		}
		if i < len(was) && key(was[i]) == key(line) {
			i++ // another value in the place of one
		}
	}
	if i < len(was) {
		s.other = append(s.other, fmt.Sprintf("%s: %d lines are gone", filepath.Base(file), len(was)-i))
	}
}

func key(line string) string {
	k, _, _ := strings.Cut(strings.TrimSpace(line), ":")
	return k
}
