package cas

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A Result is what an action gave: named blobs, and words about them that no later action depends on.
type Result struct {
	Outputs  []Output          `json:"outputs"`
	Metadata map[string]string `json:"metadata,omitempty"`

	Fetched bool `json:"-"` // from behind a Layered; its outputs need not be here, see Layered.Bring
}

// An Output is one named blob of a Result.
type Output struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Output returns the digest of the output of that name.
func (r *Result) Output(name string) (Digest, bool) {
	for _, o := range r.Outputs {
		if o.Name == name {
			return o.Digest, true
		}
	}
	return Digest{}, false
}

// Result returns what was recorded for the action. All its outputs are here, and GC leaves them alone
// for a while; a result of which an output was lost is as good as none: fs.ErrNotExist.
func (s Store) Result(action Digest) (*Result, error) {
	r, err := s.Recorded(action)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, o := range r.Outputs {
		if !s.use(o.Digest) {
			return nil, fmt.Errorf("result of action %s: output %s is gone: %w", action, o.Name, fs.ErrNotExist)
		}
	}
	return r, nil
}

// Recorded is Result for who wants to know what the outputs are, and not to have them.
func (s Store) Recorded(action Digest) (*Result, error) {
	if err := action.check(); err != nil {
		return nil, err
	}
	file := s.name("ac", action)
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r, err := ParseResult(b)
	if err != nil {
		return nil, fmt.Errorf("result of action %s: %w", action, errors.Join(fs.ErrNotExist, err))
	}
	if info, err := os.Stat(file); err == nil {
		markUsed(file, info)
	}
	return r, nil
}

// Encode returns the result as a store keeps it: JSON, always the same.
func (r *Result) Encode() ([]byte, error) {
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}

// ParseResult reads what Encode wrote.
func ParseResult(b []byte) (*Result, error) {
	r := new(Result)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	for _, o := range r.Outputs {
		if err := o.Digest.check(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// SetResult records what the action gave. Every output must be here already, and so is on the disk; the record itself is not
// waited for. A machine that dies may lose it or a part of it, which is as good as none, and the action is done again.
func (s Store) SetResult(action Digest, r *Result) error {
	if err := action.check(); err != nil {
		return err
	}
	for _, o := range r.Outputs {
		if !s.Has(o.Digest) {
			return fmt.Errorf("recording result of action %s: output %s is not stored", action, o.Name)
		}
	}
	return s.record(action, r)
}

// record is SetResult for a result of which the outputs may be elsewhere.
func (s Store) record(action Digest, r *Result) error {
	b, err := r.Encode()
	if err != nil {
		return err
	}
	f, err := s.temp()
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o444)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("recording result of action %s: %w", action, err)
	}
	return s.rename(f.Name(), s.name("ac", action))
}

// Forget takes the result of the action away; its outputs stay until GC finds them unused.
func (s Store) Forget(action Digest) error {
	if err := action.check(); err != nil {
		return err
	}
	if err := os.Remove(s.name("ac", action)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
