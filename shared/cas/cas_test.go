package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func put(t *testing.T, s Store, content string) Digest {
	t.Helper()
	d, err := s.PutBytes([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// age makes the file look unused for that long.
func age(t *testing.T, file string, d time.Duration) {
	t.Helper()
	then := time.Now().Add(-d)
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestDigest(t *testing.T) {
	d := DigestOf([]byte("hello"))
	const text = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/5"
	if d.String() != text {
		t.Errorf("got %s", d)
	}
	if back, err := ParseDigest(text); back != d || err != nil {
		t.Errorf("parsed %v, %v", back, err)
	}
	for _, bad := range []string{"", "/", "2cf2/5", text + "0x", strings.ToUpper(text), strings.Replace(text, "/", "/0", 1),
		strings.Replace(text, "/5", "/-5", 1), "../" + text[3:]} {
		if d, err := ParseDigest(bad); err == nil {
			t.Errorf("%q was taken for %v", bad, d)
		}
	}
}

func TestStore(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	absent := DigestOf([]byte("absent"))
	if s.Has(absent) {
		t.Error("an empty store has something")
	}
	if _, err := s.Open(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is absent: %v", err)
	}
	d := put(t, s, "content")
	if !s.Has(d) || s.Has(Digest{d.Hash, d.Size + 1}) {
		t.Error("Has does not compare hash and size")
	}
	if b, err := s.ReadAll(d); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := s.PutFile(file); again != d || err != nil {
		t.Errorf("%v, %v", again, err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, "tmp", "*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := Store{Dir: t.TempDir()}
	if _, err := s.Put(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCorruptBlob(t *testing.T) {
	for name, damage := range map[string]string{"other bytes": "c0ntent", "cut short": "cont", "longer": "content and more"} {
		for _, seek := range []bool{false, true} {
			s := Store{Dir: t.TempDir()}
			d := put(t, s, "content")
			os.Chmod(s.Path(d), 0o600)
			if err := os.WriteFile(s.Path(d), []byte(damage), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := s.Open(d)
			if err == nil && seek {
				_, err = r.Seek(3, io.SeekStart)
			}
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, seek %v: %v", name, seek, err)
			}
			if s.Has(d) {
				t.Errorf("%s: the bad blob is still there", name)
			}
			put(t, s, "content")
			if b, err := s.ReadAll(d); string(b) != "content" || err != nil {
				t.Errorf("%s: put again: %q, %v", name, b, err)
			}
		}
	}
}

func TestSeek(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	r, err := s.Open(put(t, s, "0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := func(n int) string {
		b := make([]byte, n)
		n, _ = io.ReadFull(r, b)
		return string(b[:n])
	}
	for _, c := range []struct {
		offset int64
		whence int
		at     int64
		then   string
	}{
		{0, io.SeekStart, 0, "012"}, {0, io.SeekCurrent, 3, "345"}, {0, io.SeekStart, 0, "012"}, {2, io.SeekCurrent, 5, "567"},
		{-2, io.SeekEnd, 8, "89"}, {1, io.SeekStart, 1, "123"},
	} {
		at, err := r.Seek(c.offset, c.whence)
		if got := read(3); at != c.at || err != nil || got != c.then {
			t.Errorf("seek %d %d: at %d, %v, then %q", c.offset, c.whence, at, err, got)
		}
	}
}

func TestResult(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	action := DigestOf([]byte("action"))
	if _, err := s.Result(action); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no result yet: %v", err)
	}
	out := put(t, s, "output")
	want := &Result{Outputs: []Output{{"data", out}}, Metadata: map[string]string{"b": "2", "a": "1"}}
	if err := s.SetResult(action, want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Result(action)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d, ok := got.Output("data"); d != out || !ok {
		t.Errorf("output data: %v, %v", d, ok)
	}
	b, _ := os.ReadFile(s.name("ac", action))
	if want := `{"outputs":[{"name":"data","digest":{"hash":"` + out.Hash + `","size":6}}],"metadata":{"a":"1","b":"2"}}` + "\n"; string(b) != want {
		t.Errorf("on disk %s", b)
	}
	if err := os.Remove(s.Path(out)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Result(action); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a result without its output: %v", err)
	}
	if err := s.SetResult(action, want); err == nil {
		t.Error("a result was recorded that names what is not there")
	}
	if err := os.WriteFile(s.name("ac", DigestOf(nil)), []byte("{"), 0o600); err == nil {
		if _, err := s.Result(DigestOf(nil)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a damaged result: %v", err)
		}
	}
}

func TestGC(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	blob := func(content string, unused time.Duration) Digest {
		d := put(t, s, content)
		age(t, s.Path(d), unused)
		return d
	}
	ancient := blob("ancient...", 50*24*time.Hour)
	old := blob("old.......", 10*24*time.Hour)
	older := blob("older.....", 11*24*time.Hour)
	used := blob("used......", 60*24*time.Hour)
	fresh := blob("fresh.....", time.Minute)
	action := DigestOf([]byte("action"))
	if err := s.SetResult(action, &Result{Outputs: []Output{{"o", used}}}); err != nil {
		t.Fatal(err)
	}
	age(t, s.Path(used), 60*24*time.Hour)
	age(t, s.name("ac", action), 60*24*time.Hour)
	if _, err := s.Result(action); err != nil { // this is the use
		t.Fatal(err)
	}
	partial := filepath.Join(s.Dir, "tmp", "blob-dead")
	if err := os.WriteFile(partial, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	age(t, partial, 2*time.Hour)

	c, err := s.GC(30*24*time.Hour, 0)
	if err != nil || c.Items != 2 || c.Bytes != 11 {
		t.Errorf("by age: %+v, %v", c, err)
	}
	if _, err := os.Stat(s.Path(ancient)); err == nil {
		t.Error("what is too old stayed")
	}
	if _, err := os.Stat(partial); err == nil {
		t.Error("what a dead process left stayed")
	}
	c, err = s.GC(0, c.LeftBytes-1)
	if err != nil || c.Items != 1 {
		t.Errorf("by size: %+v, %v", c, err)
	}
	if _, err := os.Stat(s.Path(older)); err == nil {
		t.Error("not the longest unused went first")
	}
	if c, err = s.GC(time.Nanosecond, 1); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Path(old)); err == nil {
		t.Errorf("%+v: the old one stayed", c)
	}
	if !s.Has(fresh) || !s.Has(used) {
		t.Error("what was in use is gone")
	}
	if _, err := s.Result(action); err != nil {
		t.Errorf("the result in use is gone: %v", err)
	}
}

// TestManyAtOnce stores and reads the same blobs from many goroutines while GC runs.
func TestManyAtOnce(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				content := []byte(strings.Repeat(fmt.Sprint(j%10), 1000))
				d, err := s.PutBytes(content)
				if err != nil {
					t.Error(err)
					return
				}
				if i == 0 {
					then := time.Now().Add(-2 * time.Hour)
					os.Chtimes(s.Path(d), then, then)
					if _, err := s.GC(time.Hour, 0); err != nil {
						t.Error(err)
					}
					continue
				}
				if b, err := s.ReadAll(d); err == nil && !bytes.Equal(b, content) {
					t.Error("other content")
				}
			}
		})
	}
	wg.Wait()
}

func TestKey(t *testing.T) {
	k := NewKey("build/1")
	k.Add("plan", "abc")
	k.Add("package zlib", "1.3.1")
	k.Add("empty", "")
	const want = "5:key/1 7:build/1 \n4:plan 3:abc \n12:package zlib 5:1.3.1 \n5:empty 0: \n"
	if got := string(k.Encode()); got != want {
		t.Errorf("encoded %q", got)
	}
	back, err := ParseKey(k.Encode())
	if err != nil || back.Digest() != k.Digest() || back.Kind() != "build/1" {
		t.Errorf("parsed %v, %v", back, err)
	}
	a, b := NewKey("k"), NewKey("k")
	a.Add("ab", "c")
	b.Add("a", "bc")
	if a.Digest() == b.Digest() {
		t.Error("two keys have one digest")
	}
}

func TestDiff(t *testing.T) {
	key := func(kind string, pairs ...string) *Key {
		k := NewKey(kind)
		for _, p := range pairs {
			name, value, _ := strings.Cut(p, "=")
			k.Add(name, value)
		}
		return k
	}
	for _, c := range []struct {
		name         string
		older, newer *Key
		want         string
	}{
		{"same", key("k", "a=1"), key("k", "a=1"), ""},
		{"order alone", key("k", "a=1", "b=2"), key("k", "b=2", "a=1"), ""},
		{"all kinds", key("k/1", "a=1", "b=2", "c=3"), key("k/2", "a=1", "c=4", "d=5"),
			`kind: "k/2", was "k/1"; c: "4", was "3"; d: added "5"; b: removed "2"`},
		{"repeated", key("k", "l=1", "l=2"), key("k", "l=1", "l=3", "l=4"), `l: "3", was "2"; l: added "4"`},
	} {
		var got []string
		for _, change := range Diff(c.older, c.newer) {
			got = append(got, change.String())
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%s: %s", c.name, s)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	k := NewKey("build/1")
	k.Add("plan", "abc")
	k.Add("x\ny", "\x00")
	f.Add(k.Encode())
	f.Add([]byte("5:key/1 0: \n"))
	f.Add([]byte("05:key/1 0: \n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		k, err := ParseKey(in)
		if err == nil && !bytes.Equal(k.Encode(), in) {
			t.Errorf("%q became %q", in, k.Encode())
		}
	})
}

func TestStat(t *testing.T) {
	dir := t.TempDir()
	memory, file := filepath.Join(dir, "memory"), filepath.Join(dir, "a file")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *Stat {
		s, err := OpenStat(memory)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	digest := func(s *Stat, want string) {
		t.Helper()
		if d, err := s.Digest(file); d != DigestOf([]byte(want)) || err != nil {
			t.Errorf("%v, %v", d, err)
		}
	}
	s := open()
	digest(s, "one")
	if len(s.known) != 0 {
		t.Error("a file that was written just now is trusted")
	}
	// What the file system says is the only thing that tells: pretend the file is at rest, with another
	// digest, to see that it is not read.
	sig, err := signatureOf(file)
	if err != nil {
		t.Fatal(err)
	}
	other := DigestOf([]byte("two"))
	s.known[file] = &statEntry{signature: sig, hash: other.Hash, day: time.Now().Unix() / (24 * 60 * 60)}
	s.changed = true
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s = open()
	digest(s, "two")
	if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest(s, "new")
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if s = open(); len(s.known) != 0 {
		t.Error("the old digest is still remembered")
	}
	if _, err := s.Digest(dir); err == nil {
		t.Error("a directory has a digest")
	}
	if err := os.WriteFile(memory, []byte(statFormat+" 1\nrubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest(open(), "new")
}

// TestStatRemembers waits until a file is at rest, so that the whole way is gone once.
func TestStatRemembers(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("rest"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(atRest + 50*time.Millisecond)
	s, err := OpenStat(filepath.Join(dir, "sub", "memory"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Digest(file); err != nil || s.known[file] == nil {
		t.Errorf("not remembered: %v", err)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenStat(filepath.Join(dir, "sub", "memory"))
	if err != nil || again.known[file] == nil || *again.known[file] != *s.known[file] {
		t.Errorf("read back %v, %v", again.known, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(statFormat + " 1\n" + DigestOf(nil).Hash + " 0 1 2 3 4 a b\n")
	f.Add(statFormat + " 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		known, err := parseStat(text)
		for name, e := range known {
			if err == nil && (Digest{Hash: e.hash, Size: e.size}).check() != nil {
				t.Errorf("%q has digest %q", name, e.hash)
			}
		}
	})
}
