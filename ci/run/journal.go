package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// A Record is one line of a journal: how a node ended, and under which
// keys its results can be found.
type Record struct {
	Time   time.Time     `json:"time"`
	Node   string        `json:"node"`
	Status Status        `json:"status"`
	Took   time.Duration `json:"took,omitempty"` // nanoseconds
	Note   string        `json:"note,omitempty"`
	Error  string        `json:"error,omitempty"`

	Keys    map[string]string `json:"keys,omitempty"`    // digests of the action keys, by their kind
	Content string            `json:"content,omitempty"` // digest of what dependents see
}

// A Journal is an append-only file of records, one JSON object a line. A line
// is on disk before Append returns; a torn last line, which a crash leaves, is
// cut off by the next Open. It may be asked by many at once, also while something
// is appended.
type Journal struct {
	f *os.File

	mu   sync.Mutex
	last map[string]Record // by node, of every status but skipped and stopped
	took map[string]time.Duration
}

// OpenJournal reads what is there and makes it ready to be appended to.
func OpenJournal(file string) (*Journal, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	j := &Journal{f: f, last: map[string]Record{}, took: map[string]time.Duration{}}
	whole, err := j.read()
	if err == nil {
		err = cut(f, whole)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("reading journal %s: %w", file, err)
	}
	return j, nil
}

// cut leaves a whole journal untouched, down to the time of its last record.
func cut(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() == size {
		return err
	}
	return f.Truncate(size)
}

// ReadJournal reads a journal without changing it; one that is not there is empty.
func ReadJournal(file string) (*Journal, error) {
	f, err := os.Open(file)
	j := &Journal{f: f, last: map[string]Record{}, took: map[string]time.Duration{}}
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := j.read(); err != nil {
		return nil, fmt.Errorf("reading journal %s: %w", file, err)
	}
	return j, nil
}

// read takes in all whole lines and returns their length in bytes.
func (j *Journal) read() (whole int64, err error) {
	r := bufio.NewReaderSize(j.f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return whole, nil // the end, or a torn line at it
		}
		var rec Record
		if err := json.Unmarshal(bytes.TrimSpace(line), &rec); err != nil {
			return whole, fmt.Errorf("at byte %d: %w", whole, err)
		}
		j.remember(rec)
		whole += int64(len(line))
	}
}

func (j *Journal) remember(r Record) {
	if r.Status == Skipped || r.Status == Stopped {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last[r.Node] = r
	if r.Status == Built {
		j.took[r.Node] = r.Took
	}
}

// Append writes a record through to the disk.
func (j *Journal) Append(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := j.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	j.remember(r)
	return nil
}

// Last returns how a node ended when it last ran.
func (j *Journal) Last(node string) (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.last[node]
	return r, ok
}

// Took returns how long a node took when it was last built; 0 when it never was.
func (j *Journal) Took(node string) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.took[node]
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }
