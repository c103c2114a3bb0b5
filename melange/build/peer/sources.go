package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serve packs each folder as an archive, always the same, and serves them on the loopback until the context ends.
func serve(ctx context.Context, archives, sources string) (address string, err error) {
	if err := os.MkdirAll(archives, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(sources)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if err := pack(filepath.Join(archives, e.Name()+".tar.gz"), os.DirFS(sources), e.Name()); err != nil {
			return "", err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(archives))}
	go server.Serve(l)
	context.AfterFunc(ctx, func() { server.Close() })
	return "http://" + l.Addr().String(), nil
}

func pack(archive string, sources fs.FS, name string) (err error) {
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	err = fs.WalkDir(sources, name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sources, path)
		if err != nil {
			return err
		}
		err = t.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(1600000000, 0)})
		if err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	})
	return errors.Join(err, t.Close(), z.Close())
}
