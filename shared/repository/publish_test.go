package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// readerVariable makes the test binary a process that reads the index of the repository that it names.
const readerVariable = "REPOSITORY_TEST_READ"

func readIndex(url string) error {
	cache, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	_, err = (&Client{Cache: cache}).Index(context.Background(), Source{URL: url, Insecure: true}, "x86_64")
	return err
}

// publisherVariable makes the test binary a process that publishes until it is killed.
const publisherVariable = "REPOSITORY_TEST_PUBLISH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(publisherVariable); dir != "" {
		publishForever(dir)
	}
	if url := os.Getenv(readerVariable); url != "" {
		if err := readIndex(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writePackage writes a package of one file into dir.
func writePackage(dir, name, version string, arch apk.Arch, content string) (Addition, error) {
	tree := filetree.New()
	err := tree.Put(filetree.Entry{Path: "usr/share/" + name, Mode: 0o644, Size: int64(len(content)), Open: filetree.Bytes([]byte(content))})
	if err != nil {
		return Addition{}, err
	}
	var data, control bytes.Buffer
	info, err := apk.WriteData(&data, tree)
	if err != nil {
		return Addition{}, err
	}
	p := &apk.Package{Name: name, Version: apk.Version(version), Arch: arch, Description: name, License: "MIT", DataHash: info.Hash, InstalledSize: info.InstalledSize}
	sum, _, err := apk.WriteControl(&control, p, nil, nil, time.Unix(1e9, 0))
	if err != nil {
		return Addition{}, err
	}
	p.Checksum, p.Size = sum, int64(control.Len()+data.Len())
	file := filepath.Join(dir, fmt.Sprintf("%s-%s.%s.%x.apk", name, version, arch, sum[:4]))
	return Addition{p, file}, os.WriteFile(file, append(control.Bytes(), data.Bytes()...), 0o644)
}

func add(t testing.TB, name, version string, arch apk.Arch, content string) Addition {
	t.Helper()
	a, err := writePackage(t.TempDir(), name, version, arch, content)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var testKeys = sync.OnceValues(func() (apk.Signer, apk.Keyring) {
	key, err := apk.GenerateKey(2048)
	if err != nil {
		panic(err)
	}
	signer, err := apk.NewSigner("test.rsa.pub", key)
	if err != nil {
		panic(err)
	}
	return signer, apk.Keyring{"test.rsa.pub": &key.PublicKey}
})

func publish(t testing.TB, r *Repository, c Change) Generation {
	t.Helper()
	g, err := r.Publish(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// listing is what a client finds: for each architecture the packages with their content.
func listing(t testing.TB, dir string, keyring apk.Keyring, archs ...apk.Arch) string {
	t.Helper()
	var out []string
	c := &Client{}
	for _, arch := range archs {
		s := Source{URL: dir, Keyring: keyring, Insecure: keyring == nil}
		x, err := c.Index(t.Context(), s, arch)
		if errors.Is(err, fs.ErrNotExist) {
			out = append(out, string(arch)+": none")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		line := []string{string(arch) + ":"}
		for _, p := range x.Packages {
			file, err := c.Fetch(t.Context(), s, p)
			if err != nil {
				t.Fatal(err)
			}
			line = append(line, p.Name+"-"+string(p.Version)+"="+fileContent(t, file))
		}
		out = append(out, strings.Join(line, " "))
	}
	return strings.Join(out, "; ")
}

// fileContent is the content of the one file of a package that writePackage wrote.
func fileContent(t testing.TB, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := apk.Open(f, apk.Verify{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for {
		_, content, err := r.Next()
		if err != nil {
			return b.String()
		}
		if _, err := b.ReadFrom(content); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPublish is the life of a repository.
func TestPublish(t *testing.T) {
	signer, keyring := testKeys()
	dir := filepath.Join(t.TempDir(), "repository")
	r := &Repository{Dir: dir, Signer: signer, Keyring: keyring, Keep: 3}
	const both = "x86_64 aarch64"
	var archs []apk.Arch
	for _, a := range strings.Fields(both) {
		archs = append(archs, apk.Arch(a))
	}
	x86, arm := archs[0], archs[1]
	if _, err := r.Current(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("current of nothing: %v", err)
	}
	a1, a1arm := add(t, "a", "1-r0", x86, "A1"), add(t, "a", "1-r0", arm, "A1arm")
	a2, b1, b1new := add(t, "a", "2-r0", x86, "A2"), add(t, "b", "1-r0", x86, "B1"), add(t, "b", "1-r0", x86, "B1new")

	for _, step := range []struct {
		name   string
		change Change
		number int
		want   string
	}{
		{"first", Change{Add: map[apk.Arch][]Addition{x86: {a1}, arm: {a1arm}}}, 1, "x86_64: a-1-r0=A1; aarch64: a-1-r0=A1arm"},
		{"nothing", Change{}, 1, "x86_64: a-1-r0=A1; aarch64: a-1-r0=A1arm"},
		{"the same", Change{Add: map[apk.Arch][]Addition{x86: {a1}}}, 1, "x86_64: a-1-r0=A1; aarch64: a-1-r0=A1arm"},
		{"added", Change{Add: map[apk.Arch][]Addition{x86: {b1, a2}}}, 2, "x86_64: a-1-r0=A1 a-2-r0=A2 b-1-r0=B1; aarch64: a-1-r0=A1arm"},
		{"rebuilt", Change{Add: map[apk.Arch][]Addition{x86: {b1new}}}, 3, "x86_64: a-1-r0=A1 a-2-r0=A2 b-1-r0=B1new; aarch64: a-1-r0=A1arm"},
		{"removed", Change{Remove: map[apk.Arch][]string{x86: {"a-1-r0", "b"}}}, 4, "x86_64: a-2-r0=A2; aarch64: a-1-r0=A1arm"},
		{"exactly", Change{Replace: true, Add: map[apk.Arch][]Addition{x86: {b1}}}, 5, "x86_64: b-1-r0=B1; aarch64: none"},
	} {
		g := publish(t, r, step.change)
		if g.Number != step.number {
			t.Errorf("%s: generation %d", step.name, g.Number)
		}
		if got := listing(t, dir, keyring, archs...); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "aarch64")); err == nil {
		t.Error("a link to an architecture that is gone stayed")
	}
	all, err := r.Generations()
	var numbers []int
	for _, g := range all {
		numbers = append(numbers, g.Number)
	}
	if err != nil || !slices.Equal(numbers, []int{3, 4, 5}) {
		t.Errorf("generations %v, %v", numbers, err)
	}

	for range 2 { // the second time nothing is left to do
		if g, err := r.Rollback(t.Context(), 4); err != nil || g.Number != 6 {
			t.Fatalf("rolled back: generation %d, %v", g.Number, err)
		}
	}
	if got := listing(t, dir, keyring, archs...); got != "x86_64: a-2-r0=A2; aarch64: a-1-r0=A1arm" {
		t.Errorf("rolled back: %s", got)
	}
	if _, err := r.Rollback(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "it is not kept: there are ") {
		t.Errorf("rolled back to one that is gone: %v", err)
	}
	if _, err := (&Repository{Dir: dir, Keyring: keyring}).Rollback(t.Context(), 5); err == nil {
		t.Error("rolled back without the key")
	}
	if g := publish(t, r, Change{Add: map[apk.Arch][]Addition{x86: {b1}}}); g.Number != 7 {
		t.Errorf("after going back: generation %d", g.Number)
	}
	if got := listing(t, dir, keyring, archs...); got != "x86_64: a-2-r0=A2 b-1-r0=B1; aarch64: a-1-r0=A1arm" {
		t.Errorf("after going back: %s", got)
	}
}

func TestPublishRefuses(t *testing.T) {
	signer, keyring := testKeys()
	r := &Repository{Dir: t.TempDir(), Signer: signer, Keyring: keyring}
	good := add(t, "a", "1-r0", "x86_64", "A")
	publish(t, r, Change{Add: map[apk.Arch][]Addition{"x86_64": {good}}})
	other := add(t, "a", "2-r0", "x86_64", "other")
	with := func(change func(*apk.Package)) Addition {
		p := *other.Package
		change(&p)
		return Addition{&p, other.File}
	}
	for name, c := range map[string]Change{
		"another file":    {Add: map[apk.Arch][]Addition{"x86_64": {{other.Package, good.File}}}},
		"another size":    {Add: map[apk.Arch][]Addition{"x86_64": {with(func(p *apk.Package) { p.Size++ })}}},
		"no size":         {Add: map[apk.Arch][]Addition{"x86_64": {with(func(p *apk.Package) { p.Size = 0 })}}},
		"no checksum":     {Add: map[apk.Arch][]Addition{"x86_64": {with(func(p *apk.Package) { p.Checksum = apk.Checksum{} })}}},
		"name of a path":  {Add: map[apk.Arch][]Addition{"x86_64": {with(func(p *apk.Package) { p.Name = "../a" })}}},
		"arch of a path":  {Add: map[apk.Arch][]Addition{"../x86_64": {other}}},
		"no file":         {Add: map[apk.Arch][]Addition{"x86_64": {{other.Package, other.File + "x"}}}},
		"twice, not same": {Add: map[apk.Arch][]Addition{"x86_64": {other, add(t, "a", "2-r0", "x86_64", "third")}}},
	} {
		if g, err := r.Publish(t.Context(), c); err == nil {
			t.Errorf("%s: generation %d", name, g.Number)
		}
		if got := listing(t, r.Dir, keyring, "x86_64"); got != "x86_64: a-1-r0=A" {
			t.Errorf("%s: now there is %s", name, got)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(r.Dir, generationsDir, "[1-9]*")); len(left) != 1 {
		t.Errorf("generations %v", left)
	}
}

// TestPublishReadsOnlyWhatIsNew damages every package that is there: adding one must not notice.
func TestPublishReadsOnlyWhatIsNew(t *testing.T) {
	signer, keyring := testKeys()
	r := &Repository{Dir: t.TempDir(), Signer: signer, Keyring: keyring}
	var first []Addition
	for i := range 20 {
		first = append(first, add(t, fmt.Sprint("p", i), "1-r0", "x86_64", "P"))
	}
	publish(t, r, Change{Add: map[apk.Arch][]Addition{"x86_64": first}})
	for _, a := range first {
		if err := os.WriteFile(a.File, nil, 0o600); err != nil { // the same inode as in the pool
			t.Fatal(err)
		}
	}
	g := publish(t, r, Change{Add: map[apk.Arch][]Addition{"x86_64": {add(t, "new", "1-r0", "x86_64", "N")}}})
	x, err := g.Index("x86_64", apk.Verify{Keyring: keyring})
	if err != nil || len(x.Packages) != 21 {
		t.Errorf("%v, %v", x, err)
	}
	if g := publish(t, r, Change{Replace: true, Add: map[apk.Arch][]Addition{"x86_64": first}}); g.Number != 3 {
		t.Errorf("generation %d", g.Number)
	}
}

// TestPublishers lets many add their packages at the same time: nobody's may be lost.
func TestPublishers(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	const n = 8
	for i := range n {
		a := add(t, fmt.Sprint("p", i), "1-r0", "x86_64", "P")
		wg.Go(func() {
			r := &Repository{Dir: dir, Keep: 1}
			if _, err := r.Publish(t.Context(), Change{Add: map[apk.Arch][]Addition{"x86_64": {a}}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := strings.Count(listing(t, dir, nil, "x86_64"), "=P"); got != n {
		t.Errorf("%d packages", got)
	}
	if all, _ := filepath.Glob(filepath.Join(dir, generationsDir, "*")); len(all) != 1 {
		t.Errorf("Keep is 1, but there are %v", all)
	}
}

func TestPublishGivesUp(t *testing.T) {
	r := &Repository{Dir: t.TempDir()}
	unlock, err := r.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Publish(ctx, Change{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another one publishes: %v", err)
	}
}

var forever = []apk.Arch{"aarch64", "x86_64"}

// publishForever publishes one version after another, each with the same packages for both architectures.
// It counts on from what it finds.
func publishForever(dir string) {
	temp, err := os.MkdirTemp(filepath.Dir(dir), "packages-")
	for i := 1; err == nil; i++ {
		r := &Repository{Dir: dir, Keep: 3}
		if g, currentErr := r.Current(); currentErr == nil {
			i = max(i, g.Number+1)
		}
		c := Change{Replace: true, Add: make(map[apk.Arch][]Addition)}
		for _, arch := range forever {
			for _, name := range []string{"one", "two", "three"} {
				var a Addition
				if a, err = writePackage(temp, name, fmt.Sprintf("%d-r0", i), arch, fmt.Sprint(i)); err != nil {
					break
				}
				c.Add[arch] = append(c.Add[arch], a)
			}
		}
		if err == nil {
			_, err = r.Publish(context.Background(), c)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// checkWhole looks at a generation of publishForever: every package that the indexes name is there, and
// they name one version.
func checkWhole(g Generation) error {
	versions := make(map[apk.Version]bool)
	if !slices.Equal(g.Archs, forever) {
		return fmt.Errorf("generation %d has architectures %v", g.Number, g.Archs)
	}
	for _, arch := range g.Archs {
		x, err := g.Index(arch, apk.Verify{Insecure: true})
		if err != nil {
			return fmt.Errorf("generation %d: %w", g.Number, err)
		}
		if len(x.Packages) != 3 {
			return fmt.Errorf("generation %d has %d packages for %s", g.Number, len(x.Packages), arch)
		}
		for _, p := range x.Packages {
			versions[p.Version] = true
			f, err := os.Open(filepath.Join(g.Dir, string(arch), p.FileName()))
			if err != nil {
				return fmt.Errorf("generation %d: %w", g.Number, err)
			}
			err = verifyAll(f, p, apk.Limits{})
			f.Close()
			if err != nil {
				return fmt.Errorf("generation %d: %s: %w", g.Number, p.FileName(), err)
			}
		}
	}
	if len(versions) != 1 {
		return fmt.Errorf("generation %d has the versions %v", g.Number, versions)
	}
	return nil
}

// TestKilled kills publishers at any moment, while a reader looks all the time.
func TestKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repository")
	r := &Repository{Dir: dir}
	done := make(chan struct{})
	var wg sync.WaitGroup
	reads := 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			g, err := r.Current()
			if err != nil {
				time.Sleep(time.Millisecond)
				continue // none yet, or expired while it was looked up
			}
			if err = checkWhole(g); err != nil {
				// With Keep: 3 a generation may expire under a slow reader, but only whole ones do.
				if _, gone := os.Stat(g.Dir); gone == nil {
					t.Error(err)
				}
				continue
			}
			reads++
			time.Sleep(time.Millisecond)
		}
	})
	last := 0
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), publisherVariable+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(time.Millisecond) {
			if g, err := r.Current(); err == nil && g.Number > last {
				break // it is at work
			}
		}
		time.Sleep(rand.N(50 * time.Millisecond))
		cmd.Process.Kill()
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Errorf("the publisher gave up by itself: %v", err)
		}
		g, err := r.Current()
		if err == nil {
			err = checkWhole(g)
		}
		if err != nil {
			t.Fatalf("after the kill: %v", err)
		}
		if g.Number <= last {
			t.Errorf("generation %d after %d", g.Number, last)
		}
		last = g.Number
	}
	close(done)
	wg.Wait()
	if reads == 0 {
		t.Error("the reader saw nothing")
	}
	if _, err := r.Publish(t.Context(), Change{Replace: true}); err != nil {
		t.Errorf("after all the kills: %v", err)
	}
}
