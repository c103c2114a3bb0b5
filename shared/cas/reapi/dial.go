package reapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// A Config says where a server is, and how to speak to it.
type Config struct {
	Address  string   // grpc://HOST:PORT, grpcs://HOST:PORT or unix:/PATH
	Instance string   // which of the server's stores; most have one, without a name
	Headers  []string // NAME=VALUE, sent with every call: where servers look for a login

	Timeout time.Duration // how long the server may be silent in a call; 0: a minute
	Retries int           // of a call that might succeed later

	Authority              string // file of certificates to trust, in place of the system's
	Certificate, ClientKey string // files of what the client shows; neither or both
}

// defaultTimeout is that of Bazel.
const defaultTimeout = time.Minute

// connectTimeout is how long a server may take to be there. It is much less than what it may take for an answer: nobody
// is kept from work by a cache that is not there.
const connectTimeout = 10 * time.Second

// Dial prepares to speak to a server. It says what is wrong with the configuration; whether the server answers shows
// itself later.
func Dial(c Config) (*Client, error) {
	client := &Client{instance: c.Instance, timeout: c.Timeout, retries: c.Retries}
	if client.timeout == 0 {
		client.timeout = defaultTimeout
	}
	var err error
	if client.headers, err = parseHeaders(c.Headers); err != nil {
		return nil, err
	}
	target, secure, err := parseAddress(c.Address)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if secure {
		config, err := c.tls()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	} else if c.Authority != "" || c.Certificate != "" || c.ClientKey != "" {
		return nil, fmt.Errorf("remote cache %s: certificates are for grpcs:// alone", c.Address)
	}
	client.conn, err = grpc.NewClient(target, grpc.WithTransportCredentials(transport),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second}, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMost)))
	if err != nil {
		return nil, fmt.Errorf("remote cache %s: %w", c.Address, err)
	}
	return client, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// parseAddress turns an address into what gRPC calls a target.
func parseAddress(address string) (target string, secure bool, err error) {
	scheme, rest, ok := strings.Cut(address, ":")
	host, isHost := strings.CutPrefix(rest, "//")
	switch {
	case ok && scheme == "unix" && strings.HasPrefix(rest, "/"):
		return "unix:" + "/" + strings.TrimLeft(rest, "/"), false, nil
	case ok && (scheme == "grpc" || scheme == "grpcs") && isHost && host != "" && !strings.Contains(host, "/"):
		return "dns:///" + host, scheme == "grpcs", nil
	}
	return "", false, fmt.Errorf("remote cache %q: want grpc://HOST:PORT, grpcs://HOST:PORT or unix:/PATH", address)
}

func parseHeaders(words []string) (metadata.MD, error) {
	md := metadata.MD{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("header %q: want NAME=VALUE", name)
		}
		md.Append(name, value)
	}
	return md, nil
}

func (c Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Authority != "" {
		text, err := os.ReadFile(c.Authority)
		if err != nil {
			return nil, fmt.Errorf("reading certificates to trust: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("reading certificates to trust: %s: there is none in it", c.Authority)
		}
	}
	switch {
	case c.Certificate == "" && c.ClientKey == "":
		return t, nil
	case c.Certificate == "" || c.ClientKey == "":
		return nil, errors.New("of a client's certificate and its key one is missing")
	}
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.ClientKey)
	if err != nil {
		return nil, fmt.Errorf("reading the client's certificate: %w", err)
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}
