// Package image reads image files and lock files.
//
// An image file says what an image is to be: packages, accounts, paths, how it is started. [Load] reads it with what it
// includes, checks it, and returns the [Config]: plain values in which nothing is left to look up. A [Lock] says which
// packages, to the byte, that is.
//
// The package knows no repository, no tar and no registry: it only says what is wanted.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// Config is an image file after its includes were merged, checked and complete. It is not to be changed.
type Config struct {
	Contents     Contents          `json:"contents"`
	Entrypoint   Entrypoint        `json:"entrypoint,omitzero"`
	Cmd          string            `json:"cmd,omitempty"`
	StopSignal   string            `json:"stop-signal,omitempty"`
	WorkDir      string            `json:"work-dir,omitempty"`
	Accounts     Accounts          `json:"accounts,omitzero"`
	Archs        []apk.Arch        `json:"archs,omitempty"`
	Environment  map[string]string `json:"environment,omitempty"`
	Paths        []Path            `json:"paths,omitempty"`
	VCS          string            `json:"vcs-url,omitempty"` // URL@revision
	Annotations  map[string]string `json:"annotations,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	Layering     Layering          `json:"layering,omitzero"`
	Certificates Certificates      `json:"certificates,omitzero"`

	Files string `json:"-"` // SHA-256 of the text of the files that this was read from, as "sha256-BASE64"
}

// Contents is where packages come from and which are wanted. A repository is a URL or a folder, with "@tag " before it
// when its packages are only taken for dependencies that name the tag.
type Contents struct {
	BuildRepositories   []string `json:"build_repositories,omitempty"`   // not named in the image
	RuntimeRepositories []string `json:"runtime_repositories,omitempty"` // only named in the image
	Repositories        []string `json:"repositories,omitempty"`
	Keyring             []string `json:"keyring,omitempty"` // files or https URLs of public keys
	RuntimeKeyring      []Text   `json:"runtime_keyring,omitempty"`
	Packages            []string `json:"packages,omitempty"`

	BaseImage *BaseImage `json:"baseimage,omitempty"`
}

// BaseImage is an image on which this one is put, as one more layer.
type BaseImage struct {
	Image string `json:"image"` // folder of an OCI layout

	// APKIndex is a folder that has, as ARCH/APKINDEX, the database of what is installed in the base. When it is empty
	// that in the base itself counts.
	APKIndex string `json:"apkindex,omitempty"`

	dirs []string // where folders are looked for
}

// ImageDir is where the layout lies: where the image file says, or below one of the folders that it was looked for in.
func (b *BaseImage) ImageDir() string { return b.dir(b.Image) }

// InstalledFile is the database of what is installed for an architecture; empty when that of the base counts.
func (b *BaseImage) InstalledFile(arch apk.Arch) string {
	if b.APKIndex == "" {
		return ""
	}
	return filepath.Join(b.dir(b.APKIndex), string(arch), "APKINDEX")
}

func (b *BaseImage) dir(name string) string {
	for _, dir := range b.dirs {
		if found := filepath.Join(dir, name); !filepath.IsAbs(name) && exists(found) {
			return found
		}
	}
	return name
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// Text is a file that stands in the image file itself.
type Text struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// Entrypoint is what a container runs.
type Entrypoint struct {
	Type          string            `json:"type,omitempty"` // "service-bundle" or empty
	Command       string            `json:"command,omitempty"`
	ShellFragment string            `json:"shell-fragment,omitempty"`
	Services      map[string]string `json:"services,omitempty"`
}

// ServiceBundle is the entrypoint type that supervises services with s6.
const ServiceBundle = "service-bundle"

// Accounts are the users and groups added to those of the packages.
type Accounts struct {
	RunAs  string  `json:"run-as,omitempty"`
	Users  []User  `json:"users,omitempty"`
	Groups []Group `json:"groups,omitempty"`
}

// User is a line of /etc/passwd.
type User struct {
	Name  string `json:"username"`
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
	Shell string `json:"shell"`
	Home  string `json:"homedir"`
}

// Group is a line of /etc/group.
type Group struct {
	Name    string   `json:"groupname"`
	GID     uint32   `json:"gid"`
	Members []string `json:"members,omitempty"`
}

// Kinds of [Path].
const (
	Directory   = "directory"
	EmptyFile   = "empty-file"
	HardLink    = "hardlink"
	Symlink     = "symlink"
	Permissions = "permissions"
)

// Path is a change to the tree that the packages make. No link is ever followed: what is changed is what is named.
type Path struct {
	Path      string // relative, clean
	Type      string
	Mode      fs.FileMode // permissions with special bits; the default of the type unless HasMode
	HasMode   bool        // the image file gave permissions
	UID, GID  *uint32     // nil = not given
	Source    string      // of a symlink as written; of a hard link relative, clean
	Recursive bool
}

// MarshalJSON writes the path as an image file has it.
func (p Path) MarshalJSON() ([]byte, error) {
	written := struct {
		Path        string  `json:"path"`
		Type        string  `json:"type"`
		UID         *uint32 `json:"uid,omitempty"`
		GID         *uint32 `json:"gid,omitempty"`
		Permissions string  `json:"permissions,omitempty"`
		Source      string  `json:"source,omitempty"`
		Recursive   bool    `json:"recursive,omitempty"`
	}{"/" + p.Path, p.Type, p.UID, p.GID, "", p.Source, p.Recursive}
	if p.HasMode {
		written.Permissions = fmt.Sprintf("0o%o", filetree.Unix(p.Mode))
	}
	if p.Type == HardLink {
		written.Source = "/" + p.Source
	}
	return json.Marshal(written)
}

// Layering says how the tree is cut into layers. The zero value is one layer.
type Layering struct {
	Strategy string `json:"strategy,omitempty"`
	Budget   int    `json:"budget,omitempty"`
}

// Certificates are added to the bundles of certificate authorities.
type Certificates struct {
	Additional []Text   `json:"additional,omitempty"`
	Providers  []string `json:"providers,omitempty"`
}

// World is what the image's packages are solved for. A service bundle wants its supervisor.
func (c *Config) World() ([]apk.Dependency, error) {
	var world []apk.Dependency
	supervised := c.Entrypoint.Type != ServiceBundle
	for _, s := range c.Contents.Packages {
		d, err := apk.ParseDependency(s)
		if err != nil {
			return nil, err
		}
		supervised = supervised || d.Name == "s6"
		if !slices.Contains(world, d) {
			world = append(world, d)
		}
	}
	if !supervised {
		world = append(world, apk.Dependency{Name: "s6"})
	}
	return world, nil
}

// Command is the entrypoint and the command of the image's configuration.
func (c *Config) Command() (entrypoint, cmd []string, err error) {
	switch {
	case c.Entrypoint.ShellFragment != "":
		entrypoint = []string{"/bin/sh", "-c", c.Entrypoint.ShellFragment}
	case c.Entrypoint.Type == ServiceBundle:
		entrypoint = []string{"/bin/s6-svscan", "/sv"}
	default:
		if entrypoint, err = splitWords(c.Entrypoint.Command); err != nil {
			return nil, nil, fmt.Errorf("entrypoint command: %w", err)
		}
	}
	if cmd, err = splitWords(c.Cmd); err != nil {
		return nil, nil, fmt.Errorf("cmd: %w", err)
	}
	return entrypoint, cmd, nil
}

// Env is the environment of the image's configuration, sorted. What is inherited from a base image goes before what every
// image has, and the image file before both.
func (c *Config) Env(inherited []string) []string {
	env := map[string]string{
		"PATH":          "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin",
		"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
	}
	for _, line := range inherited {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	maps.Copy(env, c.Environment)
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// Source is the repository and revision of the image file itself, empty when it does not say.
func (c *Config) Source() (repository, revision string) {
	i := strings.LastIndexByte(c.VCS, '@')
	if i < 0 {
		return Redact(c.VCS), ""
	}
	return Redact(c.VCS[:i]), c.VCS[i+1:]
}

// Repositories lists every repository that packages are taken from, each once.
func (c *Config) Repositories() []string {
	var list []string
	for _, r := range slices.Concat(c.Contents.BuildRepositories, c.Contents.Repositories) {
		if !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
}

// RuntimeRepositories is what the image's /etc/apk/repositories names: sorted, each once, without credentials.
func (c *Config) RuntimeRepositories() []string {
	var list []string
	for _, r := range slices.Concat(c.Contents.Repositories, c.Contents.RuntimeRepositories) {
		list = append(list, Redact(r))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Redact takes user and password out of a repository: "@tag https://user:secret@host/x" is "@tag https://host/x".
func Redact(repository string) string {
	tag, address := SplitTag(repository)
	if u, err := url.Parse(address); err == nil && u.User != nil {
		u.User = nil
		address = u.String()
	}
	if tag != "" {
		return "@" + tag + " " + address
	}
	return address
}

// SplitTag separates "@tag address".
func SplitTag(repository string) (tag, address string) {
	if rest, ok := strings.CutPrefix(repository, "@"); ok {
		if tag, address, ok := strings.Cut(rest, " "); ok {
			return tag, strings.TrimSpace(address)
		}
	}
	return "", repository
}

// Written is the configuration as JSON with the keys of an image file, without credentials.
func (c *Config) Written() ([]byte, error) {
	clean := *c
	for _, list := range []*[]string{
		&clean.Contents.BuildRepositories, &clean.Contents.RuntimeRepositories, &clean.Contents.Repositories, &clean.Contents.Keyring,
	} {
		redacted := make([]string, len(*list))
		for i, r := range *list {
			redacted[i] = Redact(r)
		}
		*list = redacted
	}
	return json.Marshal(&clean)
}

// Digest covers what the image is made from, apart from the packages themselves: not where packages are fetched from or
// how the file is written. Only a change of it or of a package changes the image.
func (c *Config) Digest() (string, error) {
	semantic := *c
	semantic.Archs = nil
	semantic.Contents = Contents{
		RuntimeRepositories: c.RuntimeRepositories(),
		RuntimeKeyring:      c.Contents.RuntimeKeyring,
		Packages:            c.Contents.Packages,
	}
	for _, key := range c.Contents.Keyring {
		semantic.Contents.Keyring = append(semantic.Contents.Keyring, KeyName(key))
	}
	text, err := json.Marshal(semantic)
	if err != nil {
		return "", fmt.Errorf("encoding image configuration: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// KeyName is the name of a key in /etc/apk/keys: the last part of its path or URL.
func KeyName(key string) string {
	if u, err := url.Parse(key); err == nil && u.Scheme != "" {
		key = u.Path
	}
	return key[strings.LastIndexByte(key, '/')+1:]
}
