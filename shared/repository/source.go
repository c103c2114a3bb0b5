// Package repository is where packages live: how an index and the packages it names are fetched and
// verified, and how a new state of a repository is published in one step.
//
// It knows folders and HTTP servers, caches, and the layout on the disk. What is in a package, and which
// packages are wanted, others know. It reads no environment: credentials, directories and keys are given to it.
package repository

import (
	"errors"
	"fmt"
	"net/url"
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

// A place is a Source's address with the secrets taken out of it.
type place struct {
	folder string   // set for a folder
	url    *url.URL // set otherwise; no user in it
	user   *url.Userinfo
}

func (s Source) place() (place, error) { return placeOf(s.URL) }

func placeOf(address string) (place, error) {
	if !strings.Contains(address, "://") {
		if address == "" {
			return place{}, errors.New("repository without an address")
		}
		return place{folder: address}, nil
	}
	u, err := url.Parse(address)
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
