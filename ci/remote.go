package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"distro.internal/shared/cas"
	"distro.internal/shared/cas/reapi"
	"distro.internal/shared/repository"
)

// remoteFlags say where results are shared. They are called as Bazel's are.
type remoteFlags struct {
	server reapi.Config
	upload bool
}

func (r *remoteFlags) register(f *pflag.FlagSet) {
	f.StringVar(&r.server.Address, "remote-cache", "", "look for results on this server, and share them there: grpc://HOST:PORT, grpcs://HOST:PORT or unix:/PATH of a Remote Execution API v2 cache")
	f.BoolVar(&r.upload, "remote-upload-local-results", true, "share what is made here")
	r.registerServer(f)
}

// registerServer registers how to speak to the server.
func (r *remoteFlags) registerServer(f *pflag.FlagSet) {
	f.StringVar(&r.server.Instance, "remote-instance-name", "", "which of the server's stores")
	f.StringArrayVar(&r.server.Headers, "remote-header", nil, "NAME=VALUE to send with every call; several times for several")
	f.DurationVar(&r.server.Timeout, "remote-timeout", time.Minute, "how long the server may be silent in a call")
	f.IntVar(&r.server.Retries, "remote-retries", 5, "how often a call is made again that might succeed later")
	f.StringVar(&r.server.Authority, "tls-certificate", "", "certificates to trust for grpcs://, in place of the system's")
	f.StringVar(&r.server.Certificate, "tls-client-certificate", "", "certificate to show to the server")
	f.StringVar(&r.server.ClientKey, "tls-client-key", "", "private key of that certificate")
}

// openRemote puts the shared cache behind the folder of results, if there is one.
func (w *world) openRemote(r remoteFlags) (done func(), err error) {
	if r.server.Address == "" {
		return func() {}, nil
	}
	client, err := r.dial(w.client.Access)
	if err != nil {
		return nil, err
	}
	w.builder.Store.Behind = &cas.Shared{Remote: client, ReadOnly: !r.upload}
	return func() { client.Close() }, nil
}

// dial prepares to speak to the server, with the login that there is for its host.
func (r remoteFlags) dial(access repository.Access) (*reapi.Client, error) {
	c := r.server
	if host, ok := strings.CutPrefix(c.Address, "grpcs://"); ok {
		if req, err := http.NewRequest(http.MethodGet, "https://"+host, nil); err == nil {
			access.Authorize(req)
			if login := req.Header.Get("Authorization"); login != "" {
				c.Headers = append([]string{"authorization=" + login}, c.Headers...)
			}
		}
	}
	return reapi.Dial(c)
}
