package reapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/bazelbuild/remote-apis/build/bazel/semver"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"distro.internal/shared/cas"
)

// What servers do that are as they should be is proved with one, see TestRemoteCache of ci. Here is what they do not do when
// they are asked to: each test scripts one thing that some server was seen to do.

// A scripted server keeps blobs and results, and behaves as its script says.
type scripted struct {
	repb.UnimplementedCapabilitiesServer
	repb.UnimplementedActionCacheServer
	repb.UnimplementedContentAddressableStorageServer
	bytestream.UnimplementedByteStreamServer

	// script is asked before every call what becomes of it; nil: all is well.
	script func(ctx context.Context, method string, call int) error
	silent bool  // no updates, say the capabilities
	breaks int   // after how many bytes streams to the client break; 0: never
	old    int32 // the only major version, if not 2

	mu      sync.Mutex
	calls   map[string]int
	blobs   map[string][]byte
	results map[string]*repb.ActionResult
	largest int // content in a message
}

func (s *scripted) begin(ctx context.Context, method string) error {
	s.mu.Lock()
	s.calls[method]++
	n := s.calls[method]
	s.mu.Unlock()
	if s.script == nil {
		return nil
	}
	return s.script(ctx, method, n)
}

func (s *scripted) put(d *repb.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.Hash] = data
}

func (s *scripted) GetCapabilities(ctx context.Context, _ *repb.GetCapabilitiesRequest) (*repb.ServerCapabilities, error) {
	major := int32(2)
	if s.old != 0 {
		major = s.old
	}
	return &repb.ServerCapabilities{
		CacheCapabilities: &repb.CacheCapabilities{
			DigestFunctions:               []repb.DigestFunction_Value{repb.DigestFunction_SHA256},
			ActionCacheUpdateCapabilities: &repb.ActionCacheUpdateCapabilities{UpdateEnabled: !s.silent},
		},
		LowApiVersion: &semver.SemVer{Major: major}, HighApiVersion: &semver.SemVer{Major: major, Minor: 3},
	}, s.begin(ctx, "capabilities")
}

func (s *scripted) GetActionResult(ctx context.Context, r *repb.GetActionResultRequest) (*repb.ActionResult, error) {
	if err := s.begin(ctx, "get"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.results[r.ActionDigest.Hash]; ok {
		return m, nil
	}
	return nil, status.Error(codes.NotFound, "no such result")
}

func (s *scripted) UpdateActionResult(ctx context.Context, r *repb.UpdateActionResultRequest) (*repb.ActionResult, error) {
	if err := s.begin(ctx, "update"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[r.ActionDigest.Hash] = r.ActionResult
	return r.ActionResult, nil
}

func (s *scripted) FindMissingBlobs(ctx context.Context, r *repb.FindMissingBlobsRequest) (*repb.FindMissingBlobsResponse, error) {
	if err := s.begin(ctx, "missing"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	said := &repb.FindMissingBlobsResponse{}
	for _, d := range r.BlobDigests {
		if _, ok := s.blobs[d.Hash]; !ok {
			said.MissingBlobDigests = append(said.MissingBlobDigests, d)
		}
	}
	return said, nil
}

func (s *scripted) BatchUpdateBlobs(ctx context.Context, r *repb.BatchUpdateBlobsRequest) (*repb.BatchUpdateBlobsResponse, error) {
	if err := s.begin(ctx, "batch"); err != nil {
		return nil, err
	}
	said := &repb.BatchUpdateBlobsResponse{}
	for _, one := range r.Requests {
		s.put(one.Digest, one.Data)
		said.Responses = append(said.Responses, &repb.BatchUpdateBlobsResponse_Response{Digest: one.Digest})
	}
	return said, nil
}

func (s *scripted) Write(stream bytestream.ByteStream_WriteServer) error {
	if err := s.begin(stream.Context(), "write"); err != nil {
		return err
	}
	var name string
	var data []byte
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if m.ResourceName != "" {
			name = m.ResourceName
		}
		s.largest = max(s.largest, len(m.Data))
		data = append(data, m.Data...)
	}
	words := strings.Split(name, "/")
	s.put(&repb.Digest{Hash: words[len(words)-2]}, data)
	return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: int64(len(data))})
}

func (s *scripted) Read(r *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	if err := s.begin(stream.Context(), "read"); err != nil {
		return err
	}
	s.mu.Lock()
	words := strings.Split(r.ResourceName, "/")
	data, ok := s.blobs[words[len(words)-2]]
	s.mu.Unlock()
	if !ok {
		return status.Error(codes.NotFound, "no such blob")
	}
	data = data[r.ReadOffset:]
	sent := 0
	for ; len(data) > 0; data = data[min(1<<16, len(data)):] {
		if s.breaks > 0 && sent >= s.breaks {
			return status.Error(codes.Unavailable, "going down")
		}
		n := min(1<<16, len(data))
		if err := stream.Send(&bytestream.ReadResponse{Data: data[:n]}); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// serve starts a server and returns a client of it.
func serve(t *testing.T, s *scripted, c Config, options ...grpc.ServerOption) *Client {
	t.Helper()
	s.calls, s.blobs, s.results = map[string]int{}, map[string][]byte{}, map[string]*repb.ActionResult{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	repb.RegisterCapabilitiesServer(server, s)
	repb.RegisterActionCacheServer(server, s)
	repb.RegisterContentAddressableStorageServer(server, s)
	bytestream.RegisterByteStreamServer(server, s)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	if c.Address == "" {
		c.Address = "grpc://"
	}
	c.Address += l.Addr().String()
	client, err := Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// sample is a result with a small and a large output, and the store that has them.
func sample(t *testing.T) (*cas.Key, *cas.Result, cas.Store, []byte) {
	t.Helper()
	store := cas.Store{Dir: t.TempDir()}
	large := make([]byte, 5<<20+17)
	rand.Read(large)
	r := &cas.Result{Metadata: map[string]string{"epoch": "7"}}
	for name, content := range map[string][]byte{"small": []byte("small"), "large": large} {
		d, err := store.PutBytes(content)
		if err != nil {
			t.Fatal(err)
		}
		r.Outputs = append(r.Outputs, cas.Output{Name: name, Digest: d})
	}
	key := cas.NewKey("sample/1")
	key.Add("plan", "abc")
	return key, r, store, large
}

func share(t *testing.T, c *Client) (*cas.Key, *cas.Result, []byte) {
	t.Helper()
	key, r, store, large := sample(t)
	if err := c.Share(t.Context(), key, r, store); err != nil {
		t.Fatal(err)
	}
	return key, r, large
}

func found(t *testing.T, c *Client, key *cas.Key, want *cas.Result) {
	t.Helper()
	got, err := c.Result(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestAction: the names under which results are shared must never change by themselves.
func TestAction(t *testing.T) {
	key := cas.NewKey("tree/1")
	key.Add("arch", "x86_64")
	a, err := actionOf(key)
	if err != nil {
		t.Fatal(err)
	}
	const want = "4ec3b16ee6e768d99c66f0a32eaea0452d48c6f448dde9f4ee5ef46127f92178/140"
	if a.digest.String() != want {
		t.Errorf("the action is %s", a.digest)
	}
	if text := a.blobs[key.Digest()]; !bytes.Equal(text, key.Encode()) || len(a.blobs) != 4 {
		t.Errorf("%d blobs, the key is %q", len(a.blobs), text)
	}
}

// TestRetries: a server that is busy, or is just being replaced, is asked again; a stream goes on where it broke.
func TestRetries(t *testing.T) {
	s := &scripted{breaks: 2 << 20, script: func(_ context.Context, _ string, call int) error {
		return []error{status.Error(codes.Unavailable, "soon"), status.Error(codes.ResourceExhausted, "many"), status.Error(codes.Aborted, "again"), nil}[min(call-1, 3)]
	}}
	c := serve(t, s, Config{Retries: 6})
	key, r, large := share(t, c)
	found(t, c, key, r)
	var back bytes.Buffer
	if err := c.Fetch(t.Context(), cas.DigestOf(large), &back); err != nil || !bytes.Equal(back.Bytes(), large) {
		t.Errorf("%d bytes came back: %v", back.Len(), err)
	}
	if s.largest > chunk {
		t.Errorf("%d bytes in a message", s.largest)
	}
}

// TestLost: that a server cannot be used is another error than that it has nothing.
func TestLost(t *testing.T) {
	key, _, _, _ := sample(t)
	for name, c := range map[string]struct {
		server *scripted
		config Config
	}{
		"unavailable":   {server: &scripted{script: func(context.Context, string, int) error { return status.Error(codes.Unavailable, "down") }}, config: Config{Retries: 1}},
		"not for you":   {server: &scripted{script: func(context.Context, string, int) error { return status.Error(codes.Unauthenticated, "who?") }}},
		"older":         {server: &scripted{old: 1}},
		"newer":         {server: &scripted{old: 3}},
		"silent":        {server: &scripted{script: func(ctx context.Context, _ string, _ int) error { <-ctx.Done(); return ctx.Err() }}, config: Config{Timeout: 50 * time.Millisecond}},
		"another thing": {server: &scripted{script: func(context.Context, string, int) error { return status.Error(codes.Unimplemented, "what?") }}},
	} {
		_, err := serve(t, c.server, c.config).Result(t.Context(), key)
		if !errors.Is(err, cas.ErrLost) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := serve(t, &scripted{}, Config{}).Result(t.Context(), key); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, cas.ErrLost) {
		t.Errorf("nothing is there: %v", err)
	}
}

// TestReadOnly: who may read only is told so in several ways.
func TestReadOnly(t *testing.T) {
	key, r, store, _ := sample(t)
	refuse := func(method string, code codes.Code) *scripted {
		return &scripted{script: func(_ context.Context, m string, _ int) error {
			if m == method {
				return status.Error(code, "not yours")
			}
			return nil
		}}
	}
	for name, s := range map[string]*scripted{
		"says so": {silent: true}, "stream": refuse("write", codes.PermissionDenied),
		"batch": refuse("batch", codes.Unauthenticated), "result": refuse("update", codes.Unauthenticated),
	} {
		if err := serve(t, s, Config{}).Share(t.Context(), key, r, store); !errors.Is(err, cas.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoHit: what is recorded and no help is as good as nothing.
func TestNoHit(t *testing.T) {
	for name, spoil := range map[string]func(s *scripted, m *repb.ActionResult, r *cas.Result){
		"an output is gone":  func(s *scripted, _ *repb.ActionResult, r *cas.Result) { delete(s.blobs, r.Outputs[0].Digest.Hash) },
		"it is a failure":    func(_ *scripted, m *repb.ActionResult, _ *cas.Result) { m.ExitCode = 1 },
		"somebody else's":    func(_ *scripted, m *repb.ActionResult, _ *cas.Result) { m.OutputFiles = m.OutputFiles[:2] },
		"the record is gone": func(s *scripted, m *repb.ActionResult, _ *cas.Result) { delete(s.blobs, m.OutputFiles[2].Digest.Hash) },
	} {
		s := &scripted{}
		c := serve(t, s, Config{})
		key, r, _ := share(t, c)
		for _, m := range s.results {
			spoil(s, m, r)
		}
		if got, err := c.Result(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestCorruptRecord: what the record is not is noticed, whether it comes inline or not.
func TestCorruptRecord(t *testing.T) {
	s := &scripted{}
	c := serve(t, s, Config{})
	key, r, _ := share(t, c)
	for _, m := range s.results {
		record := m.OutputFiles[2]
		record.Contents = []byte(`{"outputs":[]}`)
		found(t, c, key, r)
		s.blobs[record.Digest.Hash] = record.Contents
	}
	if _, err := c.Result(t.Context(), key); !errors.Is(err, cas.ErrCorrupt) {
		t.Error(err)
	}
}

// TestSecure: a server and a client that show certificates, and a login in a header.
func TestSecure(t *testing.T) {
	dir := t.TempDir()
	certificate, pool := certify(t, dir)
	s := &scripted{script: func(ctx context.Context, _ string, _ int) error {
		md, _ := metadata.FromIncomingContext(ctx)
		if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer a=b" {
			return status.Error(codes.Unauthenticated, strings.Join(got, " "))
		}
		return nil
	}}
	server := grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}))
	file := func(name string) string { return filepath.Join(dir, name) }
	config := Config{Address: "grpcs://", Headers: []string{"Authorization=Bearer a=b"}, Authority: file("cert"), Certificate: file("cert"), ClientKey: file("key")}
	c := serve(t, s, config, server)
	key, r, _ := share(t, c)
	found(t, c, key, r)

	config.Authority = ""
	c = serve(t, s, config, server)
	if _, err := c.Capabilities(t.Context()); !errors.Is(err, cas.ErrLost) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger's server: %v", err)
	}
	config.ClientKey = ""
	if _, err := Dial(config); err == nil {
		t.Error("half a certificate")
	}
}

// certify makes a certificate for this machine that vouches for itself.
func certify(t *testing.T, dir string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string][]byte{
		"cert": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"key":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(texts["cert"], texts["key"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(texts["cert"])
	return pair, pool
}

func TestAddress(t *testing.T) {
	for address, want := range map[string]string{
		"grpc://cache:9092": "dns:///cache:9092", "grpcs://cache.example": "dns:///cache.example", "unix:/run/cas": "unix:/run/cas", "unix:///run/cas": "unix:/run/cas",
		"": "", "cache:9092": "", "http://cache": "", "grpc://": "", "grpc:cache": "", "unix:run": "", "grpc://cache/instance": "",
	} {
		if got, _, err := parseAddress(address); got != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v", address, got, err)
		}
	}
}
