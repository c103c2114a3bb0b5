package cas

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
)

// A folder is a remote store of the plainest kind: another folder. Trouble is what it answers when that is set.
type folder struct {
	Store
	trouble error
	asked   int
}

func (f *folder) Result(_ context.Context, k *Key) (*Result, error) {
	if f.asked++; f.trouble != nil {
		return nil, f.trouble
	}
	return f.Store.Result(k.Digest())
}

func (f *folder) Fetch(_ context.Context, d Digest, w io.Writer) error {
	if f.asked++; f.trouble != nil {
		return f.trouble
	}
	r, err := f.Open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

func (f *folder) Share(ctx context.Context, k *Key, r *Result, from Store) error {
	if f.asked++; f.trouble != nil {
		return f.trouble
	}
	for _, o := range r.Outputs {
		b, err := from.ReadAll(o.Digest)
		if err != nil {
			return err
		}
		if _, err := f.PutBytes(b); err != nil {
			return err
		}
	}
	return f.SetResult(k.Digest(), r)
}

// somebody is one who shares a folder with others; what is told goes into the lines.
func somebody(t *testing.T, f *folder, lines *[]string) Layered {
	return Layered{Store: Store{Dir: t.TempDir()}, Behind: &Shared{Remote: f, Tell: func(err error) { *lines = append(*lines, err.Error()) }}}
}

func TestLayered(t *testing.T) {
	ctx := t.Context()
	var told []string
	f := &folder{Store: Store{Dir: t.TempDir()}}
	one, two := somebody(t, f, &told), somebody(t, f, &told)
	key := NewKey("k/1")
	if _, err := two.Find(ctx, key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nobody has made it: %v", err)
	}
	out := put(t, one.Store, "output")
	if err := one.Keep(ctx, key, &Result{Outputs: []Output{{"o", out}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := one.Find(ctx, key); err != nil || r.Fetched {
		t.Errorf("who has made it has it: %v, %v", r, err)
	}

	r, err := two.Find(ctx, key)
	if err != nil || !r.Fetched || two.Has(out) {
		t.Errorf("found %v, %v; the output is here: %v", r, err, two.Has(out))
	}
	if k, err := two.ReadAll(key.Digest()); err != nil || string(k) != string(key.Encode()) {
		t.Errorf("the key is %q, %v", k, err)
	}
	if _, err := two.Result(key.Digest()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a result without its output: %v", err)
	}
	if r, err := two.Recorded(key.Digest()); err != nil || r.Outputs[0].Digest != out {
		t.Errorf("recorded is %v, %v", r, err)
	}
	if err := two.Bring(ctx, out); err != nil || !two.Has(out) {
		t.Errorf("the output did not come: %v", err)
	}
	asked := f.asked
	if r, err := two.Find(ctx, key); err != nil || r.Fetched || two.Bring(ctx, out) != nil || f.asked != asked {
		t.Errorf("what is here is asked for: %v, %v", r, err)
	}
	if len(told) > 0 {
		t.Errorf("told %q", told)
	}
}

// TestTrouble: whatever the other store does, it is as if it had nothing, and what is to be said is said once.
func TestTrouble(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		trouble error
		told    string
		asked   int // of five questions
	}{
		{errors.New("strange"), "the remote cache is in trouble: strange", 5},
		{ErrCorrupt, "the remote cache is in trouble: content does not match its digest", 5},
		{ErrLost, "going on without the remote cache: it cannot be used", 1},
		{fs.ErrNotExist, "", 5},
	} {
		var told []string
		f := &folder{Store: Store{Dir: t.TempDir()}, trouble: c.trouble}
		l := somebody(t, f, &told)
		for range 2 {
			if _, err := l.Find(ctx, NewKey("absent")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v: found: %v", c.trouble, err)
			}
			if err := l.Keep(ctx, NewKey("made"), &Result{}); err != nil {
				t.Errorf("%v: kept: %v", c.trouble, err)
			}
		}
		if err := l.Bring(ctx, DigestOf([]byte("x"))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: brought: %v", c.trouble, err)
		}
		if got := strings.Join(told, "; "); !strings.HasPrefix(got, c.told) || strings.Contains(got, "; ") || f.asked != c.asked {
			t.Errorf("%v: told %q, asked %d times", c.trouble, got, f.asked)
		}
	}
}

// TestNotHandedOn: who may not write, or does not want to, reads on.
func TestNotHandedOn(t *testing.T) {
	ctx := t.Context()
	var told []string
	f := &folder{Store: Store{Dir: t.TempDir()}, trouble: ErrReadOnly}
	l := somebody(t, f, &told)
	for range 3 {
		if err := l.Keep(ctx, NewKey("k"), &Result{}); err != nil {
			t.Error(err)
		}
	}
	if f.asked != 1 || len(told) > 0 {
		t.Errorf("asked %d times, told %q", f.asked, told)
	}
	f.trouble = nil
	if err := f.SetResult(NewKey("other").Digest(), &Result{}); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Find(ctx, NewKey("other")); err != nil || !r.Fetched {
		t.Errorf("found %v, %v", r, err)
	}
	f.asked, l.Behind = 0, &Shared{Remote: f, ReadOnly: true}
	if err := l.Keep(ctx, NewKey("mine"), &Result{}); err != nil || f.asked > 0 {
		t.Errorf("asked %d times: %v", f.asked, err)
	}
}

// TestLiar: what another store gives is nothing here under another name than its own.
func TestLiar(t *testing.T) {
	var told []string
	f := &folder{Store: Store{Dir: t.TempDir()}}
	l := somebody(t, f, &told)
	l.Behind.Remote = liar{f}
	d := DigestOf([]byte("truth"))
	if err := l.Bring(t.Context(), d); !errors.Is(err, fs.ErrNotExist) || l.Has(d) || l.Has(DigestOf([]byte("lie"))) {
		t.Errorf("%v", err)
	}
	if len(told) != 1 || !strings.Contains(told[0], ErrCorrupt.Error()) {
		t.Errorf("told %q", told)
	}
}

type liar struct{ *folder }

func (liar) Fetch(_ context.Context, _ Digest, w io.Writer) error {
	_, err := io.WriteString(w, "lie")
	return err
}
