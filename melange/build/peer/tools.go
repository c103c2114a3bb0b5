package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"distro.internal/shared/apk"
)

// plainTools writes the repository of tools again with versions that the peer can read: it refuses those with more than
// one suffix, such as 13.8_p13_p8, which Debian's become. The contents are the same.
func plainTools(to, from string, signer apk.Signer) error {
	files, err := filepath.Glob(filepath.Join(from, "x86_64", "*.apk"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no packages: make them with world stage0", from)
	}
	dir := filepath.Join(to, "x86_64")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	index := &apk.Index{}
	for _, file := range files {
		p, data, err := plainTool(file, signer)
		if err != nil {
			return fmt.Errorf("renaming %s: %w", file, err)
		}
		index.Packages = append(index.Packages, p)
		if err := os.WriteFile(filepath.Join(dir, p.FileName()), data, 0o644); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := apk.WriteIndex(&text, index, signer); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "APKINDEX.tar.gz"), text.Bytes(), 0o644)
}

func plainTool(file string, signer apk.Signer) (*apk.Package, []byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	r, err := apk.Open(bytes.NewReader(text), apk.Verify{Insecure: true})
	if err != nil {
		return nil, nil, err
	}
	p := *r.Package
	p.Version = plain(p.Version)
	for _, list := range []*[]apk.Dependency{&p.Depends, &p.Provides, &p.Replaces} {
		*list = append([]apk.Dependency{}, *list...)
		for i := range *list {
			(*list)[i].Version = plain((*list)[i].Version)
		}
	}
	at, err := memberEnd(text, 2)
	if err != nil {
		return nil, nil, err
	}
	var control, signature bytes.Buffer
	when := time.Unix(p.BuildDate, 0)
	sum, digest, err := apk.WriteControl(&control, &p, nil, nil, when)
	if err != nil {
		return nil, nil, err
	}
	if err := apk.SignControl(&signature, signer, digest[:], when); err != nil {
		return nil, nil, err
	}
	whole := bytes.Join([][]byte{signature.Bytes(), control.Bytes(), text[at:]}, nil)
	p.Checksum, p.Size = sum, int64(len(whole))
	return &p, whole, nil
}

// plain leaves the first suffix of a version.
func plain(v apk.Version) apk.Version {
	words := strings.SplitN(string(v), "_", 3)
	if len(words) < 3 {
		return v
	}
	return apk.Version(words[0] + "_" + words[1])
}

// memberEnd finds where the nth gzip member ends.
func memberEnd(text []byte, n int) (int, error) {
	in := bytes.NewReader(text)
	for range n {
		z, err := gzip.NewReader(in)
		if err != nil {
			return 0, err
		}
		z.Multistream(false)
		if _, err := io.Copy(io.Discard, z); err != nil {
			return 0, errors.Join(err, z.Close())
		}
	}
	return len(text) - in.Len(), nil
}
