package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// A Daemon is a container engine on this machine that speaks Docker's API at a socket: Docker, Podman.
type Daemon struct {
	Socket string // file
}

// DaemonAt is the engine that the environment variable DOCKER_HOST names; an empty one stands for Docker's usual place.
func DaemonAt(host string) (Daemon, error) {
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return Daemon{}, fmt.Errorf("DOCKER_HOST %s: only engines at unix:// are known", host)
	}
	return Daemon{socket}, nil
}

// Load hands the image to the engine and sets the tags. An engine has images of one architecture: so must the index.
func (d Daemon) Load(ctx context.Context, x *Index, tags ...Tag) error {
	if len(x.Images) != 1 || len(tags) == 0 {
		return fmt.Errorf("loading image: %d architectures under %d names, want one under one or more", len(x.Images), len(tags))
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(x.writeTar(ctx, w, tags[0], x.blobs())) }()
	defer r.Close()
	if err := d.post(ctx, "/images/load?quiet=1", r); err != nil {
		return fmt.Errorf("loading %s: %w", tags[0], err)
	}
	for _, t := range tags[1:] {
		to := url.Values{"repo": {t.Repository}, "tag": {t.Name}}
		if err := d.post(ctx, "/images/"+tags[0].String()+"/tag?"+to.Encode(), nil); err != nil {
			return fmt.Errorf("tagging %s as %s: %w", tags[0], t, err)
		}
	}
	return nil
}

// post asks for something, and reads the answer: messages in JSON, of which any may be of an error.
func (d Daemon) post(ctx context.Context, path string, body io.Reader) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-tar")
	response, err := client.Do(request)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return err
	}
	defer response.Body.Close()
	messages := json.NewDecoder(io.LimitReader(response.Body, 1<<20))
	for {
		var m struct{ Error, Message string }
		err := messages.Decode(&m)
		switch {
		case err == nil && m.Error != "":
			return errors.New(m.Error)
		case response.StatusCode >= 300:
			return fmt.Errorf("the engine answers %s: %s", response.Status, strings.TrimSpace(m.Message))
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("reading the engine's answer: %w", err)
		}
	}
}
