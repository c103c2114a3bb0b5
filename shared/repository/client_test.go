package repository

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"distro.internal/shared/apk"
)

// A server serves a published repository, counts what it is asked for, and misbehaves on demand.
type server struct {
	*httptest.Server
	repository *Repository
	packages   []*apk.Package

	mu     sync.Mutex
	served []string // "GET name status"
	fault  func(w http.ResponseWriter, r *http.Request) bool
}

func serve(t *testing.T, start func(http.Handler) *httptest.Server, additions ...Addition) *server {
	t.Helper()
	signer, keyring := testKeys()
	s := &server{repository: &Repository{Dir: t.TempDir(), Signer: signer, Keyring: keyring}}
	publish(t, s.repository, Change{Add: map[apk.Arch][]Addition{"x86_64": additions}})
	for _, a := range additions {
		s.packages = append(s.packages, a.Package)
	}
	s.Server = start(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		s.mu.Lock()
		s.served = append(s.served, fmt.Sprint(filepath.Base(r.URL.Path), " ", rec.status))
		s.mu.Unlock()
	}()
	if fault != nil && fault(rec, r) {
		return
	}
	http.FileServer(http.Dir(s.repository.Dir)).ServeHTTP(rec, r)
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// requests returns what was served since the last call.
func (s *server) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.served, ", ")
	s.served = nil
	return all
}

func (s *server) source() Source { return Source{URL: s.URL, Keyring: s.repository.Keyring} }

func client(t *testing.T) *Client { return &Client{Cache: t.TempDir(), Backoff: time.Millisecond} }

func TestIndexIsAskedForOnlyWhenNew(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	c := client(t)
	for _, want := range []string{"APKINDEX.tar.gz 200", "APKINDEX.tar.gz 304"} {
		x, err := c.Index(t.Context(), s.source(), "x86_64")
		if err != nil || len(x.Packages) != 1 {
			t.Fatalf("%v, %v", x, err)
		}
		if got := s.requests(); got != want {
			t.Errorf("requests %s, want %s", got, want)
		}
	}
	future := time.Now().Add(10 * time.Second) // what the file server goes by has the grain of a second
	g := publish(t, s.repository, Change{Add: map[apk.Arch][]Addition{"x86_64": {add(t, "b", "1-r0", "x86_64", "B")}}})
	if err := os.Chtimes(filepath.Join(g.Dir, "x86_64", indexFile), future, future); err != nil {
		t.Fatal(err)
	}
	if x, err := c.Index(t.Context(), s.source(), "x86_64"); err != nil || len(x.Packages) != 2 {
		t.Errorf("after publishing: %v, %v", x, err)
	}
	if _, err := c.Index(t.Context(), s.source(), "riscv64"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such architecture: %v", err)
	}
	s.Close()
	c.Offline = true
	if x, err := c.Index(t.Context(), s.source(), "x86_64"); err != nil || len(x.Packages) != 2 {
		t.Errorf("offline: %v, %v", x, err)
	}
	if _, err := c.Index(t.Context(), s.source(), "aarch64"); !errors.Is(err, ErrOffline) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("offline, not in the cache: %v", err)
	}
}

// TestETag is the same with a server that knows entity tags alone.
func TestETag(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("ETag", `"v1"`)
		return false
	}
	c := client(t)
	for range 2 {
		if _, err := c.Index(t.Context(), s.source(), "x86_64"); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.requests(); got != "APKINDEX.tar.gz 200, APKINDEX.tar.gz 304" {
		t.Error(got)
	}
}

// TestKeysBelongToTheirRepository reads one repository with the keys of another, from the net and from
// the cache.
func TestKeysBelongToTheirRepository(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	key, err := apk.GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	wrong := Source{URL: s.URL, Keyring: apk.Keyring{"test.rsa.pub": &key.PublicKey}}
	pem, err := apk.EncodePublicKey(s.repository.Keyring["test.rsa.pub"])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"test.rsa.pub", "x86_64/test.rsa.pub", "keys/test.rsa.pub", "apk-configuration"} { // where others look
		if err := writeFile(filepath.Join(s.repository.Dir, name), pem); err != nil {
			t.Fatal(err)
		}
	}
	c := client(t)
	for _, source := range []Source{wrong, {URL: s.URL}, s.source(), wrong, {URL: s.URL, Keyring: apk.Keyring{}}} {
		_, err := c.Index(t.Context(), source, "x86_64")
		if right := len(source.Keyring) > 0 && source.Keyring["test.rsa.pub"] != &key.PublicKey; (err == nil) != right {
			t.Errorf("keys %v: %v", source.Keyring, err)
		}
		if err != nil && !errors.Is(err, apk.ErrUntrusted) && !errors.Is(err, apk.ErrSignature) {
			t.Errorf("keys %v: %v", source.Keyring, err)
		}
	}
	if got := s.requests(); strings.Contains(got, "pub") || strings.Contains(got, "configuration") {
		t.Errorf("it asks the repository whom to trust: %s", got)
	}
}

// TestOlderIndex plays what was published before to a client that has seen what was published since.
func TestOlderIndex(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	signer, _ := testKeys()
	states := map[string][]byte{}
	keep := func(name string, g Generation) {
		b, err := os.ReadFile(filepath.Join(g.Dir, "x86_64", indexFile))
		if err != nil {
			t.Fatal(err)
		}
		states[name] = b
	}
	first, err := s.repository.Current()
	if err != nil {
		t.Fatal(err)
	}
	keep("1", first)
	keep("2", publish(t, s.repository, Change{Add: map[apk.Arch][]Addition{"x86_64": {add(t, "b", "1-r0", "x86_64", "B")}}}))
	back, err := s.repository.Rollback(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	keep("3, which is 1 again", back)
	var uncounted bytes.Buffer
	if err := apk.WriteIndex(&uncounted, &apk.Index{}, signer); err != nil {
		t.Fatal(err)
	}
	states["without a number"] = uncounted.Bytes()
	states["of a stranger"] = []byte("rubbish")

	folder := t.TempDir()
	show := func(name string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", strconv.Quote(name))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(states[name]))
			return true
		}
		for _, arch := range []string{"x86_64", "aarch64"} {
			if err := writeFile(filepath.Join(folder, arch, indexFile), states[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	steps := []struct {
		state    string
		allow    bool
		want     error
		packages int
	}{
		{state: "without a number", packages: 0},
		{state: "1", packages: 1},
		{state: "2", packages: 2},
		{state: "2", packages: 2},
		{state: "1", want: ErrOlder},
		{state: "1", want: ErrOlder},
		{state: "without a number", want: ErrOlder},
		{state: "3, which is 1 again", packages: 1},
		{state: "2", want: ErrOlder},
		{state: "2", allow: true, packages: 2},
		{state: "2", packages: 2},
		{state: "1", want: ErrOlder},
		{state: "3, which is 1 again", packages: 1},
	}
	for kind, url := range map[string]string{"server": s.URL, "folder": folder} {
		c := client(t)
		for i, step := range steps {
			show(step.state)
			c.AllowOlder = step.allow
			x, err := c.Index(t.Context(), Source{URL: url, Keyring: s.repository.Keyring}, "x86_64")
			if !errors.Is(err, step.want) || (err == nil) != (step.want == nil) || err == nil && len(x.Packages) != step.packages {
				t.Errorf("%s, step %d, %s: %v, %v", kind, i, step.state, x, err)
			}
		}
		c.AllowOlder = false
		show("1")
		if _, err := c.Index(t.Context(), Source{URL: url, Keyring: s.repository.Keyring}, "aarch64"); err != nil {
			t.Errorf("%s: another architecture is older: %v", kind, err)
		}
		for _, state := range []string{"1", "of a stranger"} {
			show(state)
			if _, err := c.Index(t.Context(), Source{URL: url, Keyring: s.repository.Keyring}, "x86_64"); err == nil {
				t.Errorf("%s: %s is accepted", kind, state)
			}
		}
		if kind == "folder" {
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			show("1")
			if _, err := c.Index(t.Context(), Source{URL: url, Keyring: s.repository.Keyring}, "x86_64"); err != nil {
				t.Errorf("a folder made anew: %v", err)
			}
			continue
		}
		c.Offline = true // what was refused did not take the place of what was there
		if x, err := c.Index(t.Context(), s.source(), "x86_64"); err != nil || x.Generation != 3 {
			t.Errorf("offline: %v, %v", x, err)
		}
	}
}

func TestFetch(t *testing.T) {
	big := strings.Repeat("content that does not fit into one packet ", 30000)
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"), add(t, "b", "1-r0", "x86_64", big))
	c := client(t)
	var wanted []Wanted
	for range 4 { // many times the same, at the same time
		for _, p := range s.packages {
			wanted = append(wanted, Wanted{s.source(), p})
		}
	}
	files, err := c.FetchAll(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"A", big, "A", big} {
		if fileContent(t, files[i]) != want {
			t.Errorf("file %d has other content", i)
		}
	}
	if got := s.requests(); strings.Count(got, "200") != 2 {
		t.Errorf("each package was wanted once: %s", got)
	}
	s.Close()
	c.Offline = true
	if _, err := c.Fetch(t.Context(), s.source(), s.packages[0]); err != nil {
		t.Errorf("offline: %v", err)
	}
	elsewhere := Source{URL: "https://mirror.test/os", Keyring: s.repository.Keyring}
	if _, err := c.Fetch(t.Context(), elsewhere, s.packages[0]); err != nil {
		t.Errorf("the same package from another address: %v", err)
	}
	absent := *s.packages[0]
	absent.Checksum = apk.Checksum{1}
	start := time.Now()
	if _, err := c.Fetch(t.Context(), s.source(), &absent); !errors.Is(err, ErrOffline) || time.Since(start) > time.Second {
		t.Errorf("offline, not in the cache: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(c.Cache, "partial", "*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDamagedCache damages what is in the cache: it must come again.
func TestDamagedCache(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	c := client(t)
	file, err := c.Fetch(t.Context(), s.source(), s.packages[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{"", "x"} {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		if file, err = c.Fetch(t.Context(), s.source(), s.packages[0]); err != nil || fileContent(t, file) != "A" {
			t.Errorf("%q: %v", damage, err)
		}
	}
}

func TestGC(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"), add(t, "b", "1-r0", "x86_64", "B"))
	c := client(t)
	files, err := c.FetchAll(t.Context(), []Wanted{{s.source(), s.packages[0]}, {s.source(), s.packages[1]}})
	if err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(c.Cache, "partial", "left")
	if err := writeFile(partial, []byte("x")); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-48 * time.Hour)
	for _, old := range []string{files[0], partial} {
		if err := os.Chtimes(old, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.GC(24*time.Hour, 0); err != nil || got.Items != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, want := range map[string]bool{files[0]: false, files[1]: true, partial: false} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
	if file, err := c.Fetch(t.Context(), s.source(), s.packages[0]); err != nil || fileContent(t, file) != "A" {
		t.Errorf("after that: %v", err)
	}
}

// TestFaults lets the server fail in all the ways of servers.
func TestFaults(t *testing.T) {
	random := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	big := string(random)
	var n atomic.Int32
	fail := func(status int, times int32) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			if n.Add(1) > times {
				return false
			}
			http.Error(w, "no", status)
			return true
		}
	}
	var whole []byte
	for _, c := range []struct {
		name    string
		fault   func(http.ResponseWriter, *http.Request) bool
		partial func() []byte
		want    string // requests
		err     string
	}{
		{name: "comes back", fault: fail(503, 2), want: "503 503 200"},
		{name: "too many requests", fault: fail(429, 1), want: "429 200"},
		{name: "stays away", fault: fail(500, 99), want: "500 500 500 500 500", err: "server answered 500 Internal Server Error"},
		{name: "forbidden", fault: fail(403, 99), want: "403", err: "server answered 403 Forbidden"},
		{name: "gone", fault: fail(404, 99), want: "404", err: "server answered 404 Not Found: file does not exist"},
		{name: "line breaks", want: "200 206", fault: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", `"v1"`)
			if n.Add(1) > 1 {
				return false
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			w.Write(whole[:1000])
			w.(*recorder).ResponseWriter.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "no ranges", want: "200 200", fault: func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			if n.Add(1) == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
				w.Write(whole[:1000])
				w.(*recorder).ResponseWriter.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			return false
		}},
		{name: "goes on where another run stopped", want: "206", partial: func() []byte { return whole[:5000] }},
		{name: "another run had it all", want: "416", partial: func() []byte { return whole }},
		{name: "another run left rubbish", want: "206 200", partial: func() []byte { return make([]byte, 5000) }},
		{name: "other content", want: "200", err: "not what apk writes", fault: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Write(bytes.Repeat([]byte("x"), len(whole)))
			return true
		}},
		{name: "damaged data", want: "200", err: "not what apk writes", fault: func(w http.ResponseWriter, _ *http.Request) bool {
			b := bytes.Clone(whole)
			b[len(b)-5] ^= 1
			w.Write(b)
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.Store(0)
			s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", big))
			p := s.packages[0]
			var err error
			if whole, err = os.ReadFile(filepath.Join(s.repository.Dir, "x86_64", p.FileName())); err != nil {
				t.Fatal(err)
			}
			s.fault = c.fault
			client := client(t)
			if c.partial != nil {
				name := filepath.Join(client.Cache, "partial", fmt.Sprintf("%x", p.Checksum[:]))
				if err := writeFile(name, c.partial()); err != nil {
					t.Fatal(err)
				}
			}
			file, err := client.Fetch(t.Context(), s.source(), p)
			switch {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err == "" && fileContent(t, file) != big:
				t.Error("other content")
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v", err)
			}
			s.Close()
			if got := strings.ReplaceAll(strings.ReplaceAll(s.requests(), p.FileName()+" ", ""), ",", ""); got != c.want {
				t.Errorf("answers %s, want %s", got, c.want)
			}
		})
	}
}

// TestLogins serves only who says the password, and looks for it in all that is left behind.
func TestLogins(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if (user == "user" && password == "s3cret") || r.Header.Get("Authorization") == "Bearer s3cret" || r.URL.Query().Get("token") == "s3cret" {
			return false
		}
		http.Error(w, "who are you", http.StatusUnauthorized)
		return true
	}
	host := strings.TrimPrefix(s.URL, "http://")
	hostname, _, _ := strings.Cut(host, ":")
	for name, try := range map[string]struct {
		url   string
		creds Credentials
		right bool
	}{
		"bearer":         {s.URL, Credentials{{Host: host, Token: "s3cret"}}, true},
		"wrong bearer":   {s.URL, Credentials{{Host: host, Token: "s3cret2"}}, false},
		"in the address": {"http://user:s3cret@" + host, nil, true},
		"token":          {"http://" + host + "?token=s3cret", nil, true},
		"for host, port": {s.URL, Credentials{{Host: host, User: "user", Password: "s3cret"}}, true},
		"for the host":   {s.URL, Credentials{{Host: "other.test", User: "x", Password: "y"}, {Host: hostname, User: "user", Password: "s3cret"}}, true},
		"for all":        {s.URL, Credentials{{User: "user", Password: "s3cret"}}, true},
		"for another":    {s.URL, Credentials{{Host: "other.test", User: "user", Password: "s3cret"}}, false},
		"wrong":          {"http://user:s3cret2@" + host, nil, false},
		"wrong token":    {"http://" + host + "?token=s3cret2", nil, false},
		"bad port":       {"http://user:s3cret@127.0.0.1:1", nil, false},
		"bad scheme":     {"ftp://user:s3cret@" + host, nil, false},
		"no address":     {"http://user:s3cret@%zz", nil, false},
	} {
		var logged strings.Builder
		c := client(t)
		c.Credentials = try.creds
		c.Log = func(m string) { logged.WriteString(m) }
		source := Source{URL: try.url, Keyring: s.repository.Keyring}
		_, err := c.Index(t.Context(), source, "x86_64")
		if err == nil {
			_, err = c.Fetch(t.Context(), source, s.packages[0])
		}
		if (err == nil) != try.right {
			t.Errorf("%s: %v", name, err)
		}
		filepath.WalkDir(c.Cache, func(file string, d fs.DirEntry, _ error) error {
			logged.WriteString(file + "\n")
			if b, err := os.ReadFile(file); err == nil && strings.HasSuffix(file, ".json") {
				logged.Write(b)
			}
			return nil
		})
		if all := fmt.Sprint(err, logged.String()); strings.Contains(all, "s3cret") {
			t.Errorf("%s: the password is in %s", name, all)
		}
	}
}

// TestOwnCertificates reads a server with a certificate of its own from processes that are told of it and
// that are not: what a process trusts it decides once.
func TestOwnCertificates(t *testing.T) {
	s := serve(t, httptest.NewTLSServer, add(t, "a", "1-r0", "x86_64", "A"))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	c := client(t)
	var unknown x509.UnknownAuthorityError
	c.Log = func(m string) { t.Errorf("it tries a stranger's certificate again: %s", m) }
	if _, err := c.Index(t.Context(), s.source(), "x86_64"); !errors.As(err, &unknown) {
		t.Errorf("a stranger's certificate: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, told := range []bool{true, false} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), readerVariable+"="+s.URL)
		if told {
			cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+file)
		}
		out, err := cmd.CombinedOutput()
		if (err == nil) != told {
			t.Errorf("told of it: %v; %v\n%s", told, err, out)
		}
	}
}

// TestRedirections: who is led elsewhere takes no login along, and does not leave the protected line.
func TestRedirections(t *testing.T) {
	elsewhere := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	elsewhere.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("another server gets %s", r.Header.Get("Authorization"))
		}
		return false
	}
	lead := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "s3cret" {
			t.Error("the server itself gets no login")
		}
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
	})
	plain, secure := httptest.NewServer(lead), httptest.NewTLSServer(lead)
	defer plain.Close()
	defer secure.Close()
	c := client(t)
	c.Credentials = Credentials{{Host: "127.0.0.1", User: "user", Password: "s3cret"}}
	source := Source{URL: plain.URL, Keyring: elsewhere.repository.Keyring}
	if _, err := c.Index(t.Context(), source, "x86_64"); err != nil {
		t.Error(err)
	}
	c.HTTP, source.URL = secure.Client(), secure.URL
	if _, err := c.Index(t.Context(), source, "x86_64"); !errors.Is(err, errDowngrade) {
		t.Errorf("from https to http: %v", err)
	}
}

// TestMirrors has a server that fails and mirrors that are asked for it, one of which has other content.
func TestMirrors(t *testing.T) {
	big := strings.Repeat("content ", 3000)
	origin := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", big))
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) }))
	defer liar.Close()
	mirror := &server{repository: origin.repository}
	mirror.Server = httptest.NewServer(http.StripPrefix("/mirror", mirror))
	defer mirror.Close()
	c := client(t)
	var logged strings.Builder
	c.Log = func(m string) { logged.WriteString(m + "\n") }
	c.Mirrors = []Mirror{{origin.URL + "/os", liar.URL}, {origin.URL, liar.URL}, {origin.URL, "http://user:s3cret@" + strings.TrimPrefix(mirror.URL, "http://") + "/mirror"}}
	read := func() {
		t.Helper()
		x, err := c.Index(t.Context(), origin.source(), "x86_64")
		if err == nil {
			_, err = c.Fetch(t.Context(), origin.source(), x.Packages[0])
		}
		if err != nil {
			t.Error(err)
		}
	}
	read()
	if got := origin.requests() + "; " + mirror.requests(); got != "APKINDEX.tar.gz 200, a-1-r0.apk 200; " {
		t.Errorf("all is well: %s", got)
	}
	origin.fault = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true }
	c.Cache = t.TempDir()
	read()
	if got := origin.requests() + "; " + mirror.requests(); got != "APKINDEX.tar.gz 502, a-1-r0.apk 502; APKINDEX.tar.gz 200, a-1-r0.apk 200" {
		t.Errorf("the server is ill: %s", got)
	}
	read()
	if got := mirror.requests(); got != "APKINDEX.tar.gz 304" {
		t.Errorf("the mirror again: %s", got)
	}
	origin.fault = nil
	origin.requests()
	read()
	if got := origin.requests(); got != "APKINDEX.tar.gz 200" {
		t.Errorf("what the mirror called it says nothing to the server: %s", got)
	}
	if strings.Contains(logged.String(), "s3cret") || logged.Len() == 0 {
		t.Errorf("logged: %s", &logged)
	}
	origin.Close()
	mirror.Close()
	_, err := c.Index(t.Context(), origin.source(), "x86_64")
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody is there: %v", err)
	}
}

func TestParseMirrors(t *testing.T) {
	got, err := ParseMirrors(" https://a.test/os=https://mirror.test/a/\nhttps://b.test/=http://u:p@mirror.test ")
	want := []Mirror{{"https://a.test/os", "https://mirror.test/a"}, {"https://b.test", "http://u:p@mirror.test"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for _, bad := range []string{"https://a.test", "=https://a.test", "https://a.test=/srv/s3cret", "ftp://a.test=https://s3cret@b.test"} {
		if got, err := ParseMirrors(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

// TestEndless has servers that do not come to an end, or say nothing at all.
func TestEndless(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "x86_64", "A"))
	c := client(t)
	endless := func(w http.ResponseWriter, r *http.Request) bool {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return true
			}
		}
	}
	s.fault = endless
	if _, err := c.Fetch(t.Context(), s.source(), s.packages[0]); !errors.Is(err, apk.ErrLimit) {
		t.Errorf("a package without an end: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Cache, "partial", "*")); len(left) == 1 {
		if info, err := os.Stat(left[0]); err != nil || info.Size() > 0 {
			t.Errorf("it stays: %v, %v", info, err)
		}
	}
	if err := (&Client{Cache: c.Cache}).limited(t, s, 1<<20); !errors.Is(err, apk.ErrLimit) {
		t.Errorf("an index without an end: %v", err)
	}
	silent := make(chan struct{})
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusOK)
		w.(*recorder).ResponseWriter.(http.Flusher).Flush()
		select {
		case <-silent:
		case <-r.Context().Done():
		}
		return true
	}
	defer close(silent)
	c.Patience = 20 * time.Millisecond
	start := time.Now()
	if _, err := c.Fetch(t.Context(), s.source(), s.packages[0]); !errors.Is(err, errSilent) || time.Since(start) > 10*time.Second {
		t.Errorf("a server that says nothing: %v", err)
	}
}

// limited asks for an index that may have no more than max bytes.
func (c *Client) limited(t *testing.T, s *server, max int64) error {
	p, err := s.source().place()
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.get(t.Context(), request{place: p, arch: "x86_64", name: indexFile, max: max}, &memory{})
	return err
}

func TestFolder(t *testing.T) {
	s := serve(t, httptest.NewServer, add(t, "a", "1-r0", "noarch", "A"))
	for _, url := range []string{s.repository.Dir, "file://" + s.repository.Dir} {
		source := Source{URL: url, Keyring: s.repository.Keyring, Arch: "x86_64"}
		c := &Client{Offline: true}
		x, err := c.Index(t.Context(), source, "x86_64")
		if err != nil {
			t.Fatal(err)
		}
		file, err := c.Fetch(t.Context(), source, x.Packages[0])
		if err != nil || file != filepath.Join(s.repository.Dir, "x86_64", "a-1-r0.apk") {
			t.Errorf("%s, %v", file, err)
		}
		other := *x.Packages[0]
		other.Checksum[0]++
		if _, err := c.Fetch(t.Context(), source, &other); !errors.Is(err, apk.ErrChecksum) {
			t.Errorf("another build of it: %v", err)
		}
	}
	if _, err := (&Client{}).Index(t.Context(), Source{URL: t.TempDir(), Insecure: true}, "x86_64"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestNetrc(t *testing.T) {
	for text, want := range map[string]Credentials{
		"": nil,
		"# comment\nmachine a.test login u password p\nmachine b.test\n\tlogin v\n\tpassword q # not a comment's end\n": {{Host: "a.test", User: "u", Password: "p"}, {Host: "b.test", User: "v", Password: "q"}},
		"machine a.test login u\nmacdef init\ncd /\nmachine x\n\ndefault login anonymous password me@home account z":    {{Host: "a.test", User: "u"}, {User: "anonymous", Password: "me@home"}},
	} {
		got, err := ParseNetrc(strings.NewReader(text))
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%q: %v %s", text, err, d)
		}
	}
	for _, bad := range []string{"login u", "machine", "machine a.test password", "machine a.test secret s3cret"} {
		if got, err := ParseNetrc(strings.NewReader(bad)); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func FuzzParseNetrc(f *testing.F) {
	f.Add("machine a.test login u password p\n")
	f.Add("default login a\nmacdef x\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseNetrc(strings.NewReader(text))
		if err != nil && c != nil {
			t.Error("logins in spite of an error")
		}
	})
}

func TestHTTPAuth(t *testing.T) {
	for text, want := range map[string]Login{
		"basic:a.test:user:p:w":  {Host: "a.test", User: "user", Password: "p:w"},
		"basic:*:user:pw":        {User: "user", Password: "pw"},
		"bearer:a.test:to:ken==": {Host: "a.test", Token: "to:ken=="},
	} {
		if l, err := ParseHTTPAuth(text); err != nil || l != want {
			t.Errorf("%q: %v, %v", text, l, err)
		}
	}
	for _, bad := range []string{"", "basic:a:b", "basic", "bearer:s3cret", "bearer:a:", "digest:a:b:s3cret"} {
		if l, err := ParseHTTPAuth(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, %v", bad, l, err)
		}
	}
}

func TestAccessFrom(t *testing.T) {
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, []byte("machine c.test login u password p\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HTTP_AUTH": "basic:a.test:u:p\nbearer:b.test:t", "NETRC": netrc, "REPOSITORY_MIRRORS": "https://a.test=https://b.test"}
	got, err := AccessFrom(func(name string) string { return env[name] })
	want := Access{
		Credentials{{Host: "a.test", User: "u", Password: "p"}, {Host: "b.test", Token: "t"}, {Host: "c.test", User: "u", Password: "p"}},
		[]Mirror{{"https://a.test", "https://b.test"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for name, value := range map[string]string{"HTTP_AUTH": "basic:a.test:u:p\n\n", "REPOSITORY_MIRRORS": "https://a.test"} {
		env := map[string]string{name: value}
		if _, err := AccessFrom(func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s %q: %v", name, value, err)
		}
	}
}
