// Package repository is where packages live: how an index and the packages it names are fetched and
// verified, and how a new state of a repository is published in one step.
//
// It knows folders and HTTP servers, caches, and the layout on the disk. What is in a package, and which
// packages are wanted, others know. It reads no environment: credentials, directories and keys are given to it.
package repository

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"distro.internal/shared/apk"
)

// A Source is a repository to read from. Its keys are its own: no other repository is trusted by them.
type Source struct {
	URL      string // a folder, or an http, https or file address; <arch>/APKINDEX.tar.gz lies below
	Keyring  apk.Keyring
	Tag      string   // packages are only used where a dependency asks for this tag; empty for all others
	Arch     apk.Arch // the folder in which packages of no architecture are looked for
	Insecure bool     // do without a signature
}

// verify is how an index of the source is verified.
func (s Source) verify() apk.Verify { return apk.Verify{Keyring: s.Keyring, Insecure: s.Insecure} }

// A place is a Source's address with the secrets taken out of it.
type place struct {
	folder string   // set for a folder
	url    *url.URL // set otherwise; no user in it
	user   *url.Userinfo
}

func (s Source) place() (place, error) {
	if !strings.Contains(s.URL, "://") {
		if s.URL == "" {
			return place{}, errors.New("repository without an address")
		}
		return place{folder: s.URL}, nil
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return place{}, errors.New("repository with an address that is no URL") // the address may hold a password
	}
	switch u.Scheme {
	case "file":
		return place{folder: filepath.FromSlash(u.Path)}, nil
	case "http", "https":
		p := place{url: u, user: u.User}
		u.User = nil
		return p, nil
	}
	return place{}, fmt.Errorf("repository %s: addresses of kind %q are not known", u.Redacted(), u.Scheme)
}

// file is the address of a file of the repository, for people; tokens in a query are no part of it.
func (p place) file(arch apk.Arch, name string) string {
	if p.folder != "" {
		return filepath.Join(p.folder, string(arch), name)
	}
	u := *p.url.JoinPath(string(arch), name)
	u.RawQuery, u.Fragment = "", ""
	return u.String()
}

// Credentials are logins for hosts.
type Credentials []Login

// A Login is for one host, with or without its port. An empty Host is for all that no other login is for.
type Login struct {
	Host, User, Password string
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

// ParseHTTPAuth reads a login in the form that apk and its kin take from the environment:
// "basic:host:user:password".
func ParseHTTPAuth(s string) (Login, error) {
	field := strings.SplitN(s, ":", 4)
	if len(field) != 4 || !strings.EqualFold(field[0], "basic") {
		return Login{}, errors.New("login for HTTP: not of the form basic:host:user:password")
	}
	host := field[1]
	if host == "*" {
		host = ""
	}
	return Login{Host: host, User: field[2], Password: field[3]}, nil
}

// CredentialsFrom gathers the logins that a process was given: HTTP_AUTH, and the file that NETRC names
// or ~/.netrc. env is the process's environment; there need be neither.
func CredentialsFrom(env func(string) string) (Credentials, error) {
	var c Credentials
	if auth := env("HTTP_AUTH"); auth != "" {
		l, err := ParseHTTPAuth(auth)
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
