package repository

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// An Access is how a process gets at servers. Which certificates it trusts is the business of crypto/x509, for
// which SSL_CERT_FILE and SSL_CERT_DIR name more.
type Access struct {
	Credentials Credentials
	Mirrors     []Mirror
}

// AccessFrom gathers what a process was given in its environment: logins in HTTP_AUTH, one a line, and in the
// file that NETRC names or ~/.netrc; and mirrors in REPOSITORY_MIRRORS. There need be none of them.
func AccessFrom(env func(string) string) (Access, error) {
	var a Access
	var err error
	if a.Credentials, err = credentialsFrom(env); err != nil {
		return Access{}, err
	}
	if a.Mirrors, err = ParseMirrors(env("REPOSITORY_MIRRORS")); err != nil {
		return Access{}, fmt.Errorf("REPOSITORY_MIRRORS: %w", err)
	}
	return a, nil
}

// A Mirror has what lies below an address, or a part of it. It is asked when the address itself gives nothing,
// and trusted no more than that: what it has is verified by the same keys and checksums.
type Mirror struct {
	Of, URL string // without a slash at the end
}

// ParseMirrors reads mirrors as words of the form ADDRESS=MIRROR. Those that stand first are asked first.
func ParseMirrors(s string) ([]Mirror, error) {
	var list []Mirror
	for _, word := range strings.Fields(s) {
		of, address, _ := strings.Cut(word, "=")
		m := Mirror{strings.TrimRight(of, "/"), strings.TrimRight(address, "/")}
		for _, end := range []string{m.Of, m.URL} {
			if p, err := placeOf(end); err != nil || p.url == nil {
				return nil, errors.New("not of the form ADDRESS=MIRROR, both of them http or https")
			}
		}
		list = append(list, m)
	}
	return list, nil
}

// addresses are where a repository may be had: its own, then those of its mirrors.
func (a Access) addresses(p place) []place {
	list := []place{p}
	own := *p.url
	own.RawQuery, own.Fragment = "", ""
	for _, m := range a.Mirrors {
		rest, ok := strings.CutPrefix(strings.TrimRight(own.String(), "/")+"/", m.Of+"/")
		if !ok {
			continue
		}
		if at, err := placeOf(m.URL); err == nil {
			at.url = at.url.JoinPath(rest)
			list = append(list, at)
		}
	}
	return list
}

// authorize adds the login for the request's host.
func (a Access) authorize(req *http.Request, p place) {
	if p.user != nil {
		password, _ := p.user.Password()
		req.SetBasicAuth(p.user.Username(), password)
		return
	}
	switch l, ok := a.Credentials.find(p.url); {
	case ok && l.Token != "":
		req.Header.Set("Authorization", "Bearer "+l.Token)
	case ok:
		req.SetBasicAuth(l.User, l.Password)
	}
}

// Authorize adds the login for the host that a request goes to, if there is one.
func (a Access) Authorize(req *http.Request) { a.authorize(req, place{url: req.URL}) }

// Credentials are logins for hosts.
type Credentials []Login

// A Login is for one host, with or without its port. An empty Host is for all that no other login is for.
type Login struct {
	Host, User, Password string

	Token string // shown as it is, instead of user and password
}

func (c Credentials) find(u *url.URL) (Login, bool) {
	for _, host := range []string{u.Host, u.Hostname(), ""} {
		for _, l := range c {
			if strings.EqualFold(l.Host, host) {
				return l, true
			}
		}
	}
	return Login{}, false
}

// ParseNetrc reads logins as curl and ftp keep them. Macros are passed over.
func ParseNetrc(r io.Reader) (Credentials, error) {
	var c Credentials
	var inMacro bool
	var word []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			inMacro = false
			continue
		}
		for _, f := range fields {
			if inMacro || strings.HasPrefix(f, "#") {
				break
			}
			if f == "macdef" {
				inMacro = true
				break
			}
			word = append(word, f)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading netrc: %w", err)
	}
	for len(word) > 0 {
		key := word[0]
		word = word[1:]
		if key == "default" {
			c = append(c, Login{})
			continue
		}
		if len(word) == 0 || (key != "machine" && len(c) == 0) {
			return nil, errors.New("reading netrc: not pairs of words that begin with machine")
		}
		value := word[0]
		word = word[1:]
		switch key {
		case "machine":
			c = append(c, Login{Host: value})
		case "login":
			c[len(c)-1].User = value
		case "password":
			c[len(c)-1].Password = value
		case "account":
		default:
			return nil, errors.New("reading netrc: a word that is none of machine, default, login, password, account, macdef")
		}
	}
	return c, nil
}

// ParseHTTPAuth reads a login in the form that apk and its kin take from the environment,
// "basic:host:user:password", or "bearer:host:token", where the token may have colons in it.
func ParseHTTPAuth(s string) (Login, error) {
	kind, rest, _ := strings.Cut(s, ":")
	host, secret, ok := strings.Cut(rest, ":")
	if host == "*" {
		host = ""
	}
	l := Login{Host: host}
	switch strings.ToLower(kind) {
	case "basic":
		l.User, l.Password, ok = strings.Cut(secret, ":")
	case "bearer":
		l.Token, ok = secret, ok && secret != ""
	default:
		ok = false
	}
	if !ok {
		return Login{}, errors.New("login for HTTP: not of the form basic:host:user:password or bearer:host:token")
	}
	return l, nil
}

func credentialsFrom(env func(string) string) (Credentials, error) {
	var c Credentials
	for line := range strings.Lines(env("HTTP_AUTH")) {
		l, err := ParseHTTPAuth(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("HTTP_AUTH: %w", err)
		}
		c = append(c, l)
	}
	file := env("NETRC")
	if file == "" && env("HOME") != "" {
		file = filepath.Join(env("HOME"), ".netrc")
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	more, err := ParseNetrc(f)
	return append(c, more...), err
}
