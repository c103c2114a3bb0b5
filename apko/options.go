package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"distro.internal/apko/build"
	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"github.com/chainguard-dev/clog"
	"github.com/spf13/cobra"
)

// options are the flags that commands have in common.
type options struct {
	archs, repositories, buildRepositories, keys, packages, annotations, includePaths []string

	cacheDir, lockFile, buildDate string
	offline, ignoreSignatures     bool
	allowOlder                    bool
	vcs                           bool
	limits                        repository.Limits
}

func (o *options) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.archs, "arch", nil, "architectures (x86_64, aarch64, ..., host, all); those of the image file, or the host's, by default")
	f.StringSliceVarP(&o.repositories, "repository-append", "r", nil, "more repositories, which the image will name too")
	f.StringSliceVarP(&o.buildRepositories, "build-repository-append", "b", nil, "more repositories, which the image will not name")
	f.StringSliceVarP(&o.keys, "keyring-append", "k", nil, "more trusted keys: files or https URLs")
	f.StringSliceVarP(&o.packages, "package-append", "p", nil, "more packages")
	f.StringSliceVar(&o.annotations, "annotations", nil, "annotations to set, as key:value")
	f.StringSliceVar(&o.includePaths, "include-paths", nil, "more folders in which to look for image files")
	f.StringVar(&o.cacheDir, "cache-dir", "", "folder for what was fetched and made before")
	f.StringVar(&o.buildDate, "build-date", "", "date of the image, RFC 3339; SOURCE_DATE_EPOCH goes before it")
	f.BoolVar(&o.offline, "offline", false, "use only what was fetched before")
	f.BoolVar(&o.ignoreSignatures, "ignore-signatures", false, "trust indexes that nobody signed")
	f.BoolVar(&o.allowOlder, "allow-older-index", false, "take the index of a repository though a newer one was seen")
}

// registerLimits registers the flags of the commands that read packages.
func (o *options) registerLimits(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&o.limits.Control, "max-apk-control-size", 0, "bytes of a package's signature and control section, uncompressed; 0 is 64 MiB, -1 no limit")
	f.Int64Var(&o.limits.Data, "max-apk-data-size", 0, "bytes of a package's files, uncompressed; 0 is 64 GiB, -1 no limit")
	f.Int64Var(&o.limits.Index, "max-apkindex-decompressed-size", 0, "bytes of an index, uncompressed; 0 is 1 GiB, -1 no limit")
	f.Int64Var(&o.limits.Response, "max-http-response-size", 0, "bytes that a server may send at once; 0 is 256 MiB of an index and 64 GiB of a package, -1 no limit")
}

// limited are the limits of the flags.
func (o *options) limited() (repository.Limits, error) {
	const none = 1 << 60
	l := o.limits
	for _, n := range []*int64{&l.Control, &l.Data, &l.Index, &l.Response} {
		switch {
		case *n == -1:
			*n = none
		case *n < 0:
			return l, fmt.Errorf("a limit of %d bytes: -1 is none, 0 the default", *n)
		}
	}
	return l, nil
}

func (o *options) registerLock(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.lockFile, "lockfile", "", "take exactly the packages of this lock file")
}

// session is what a command works with: the image file, read and complemented by the flags.
type session struct {
	config  *image.Config
	digest  string // of the configuration without the annotations of flags, which a lock has nothing to say about
	archs   []apk.Arch
	sources []repository.Source
	builder *build.Builder

	complemented bool // flags add something to the image file that a lock has to do with
}

func (m *machine) session(ctx context.Context, o *options, file string) (*session, error) {
	written, err := image.Load(file, o.includePaths...)
	if err != nil {
		return nil, err
	}
	s := &session{complemented: len(o.repositories)+len(o.buildRepositories)+len(o.keys)+len(o.packages) > 0}
	if s.config, err = o.complement(written); err != nil {
		return nil, err
	}
	if s.digest, err = s.config.Digest(); err != nil {
		return nil, err
	}
	if s.config, err = o.annotate(s.config); err != nil {
		return nil, err
	}
	if o.vcs && s.config.VCS == "" {
		named := *s.config
		if named.VCS, err = probeVCS(file); err != nil {
			return nil, fmt.Errorf("looking for the git repository of %s: %w", file, err)
		}
		s.config = &named
	}
	if s.archs, err = o.architectures(s.config); err != nil {
		return nil, err
	}
	if s.builder, err = m.builder(o); err != nil {
		return nil, err
	}
	s.sources, err = o.sources(ctx, s.config, s.builder.Client)
	return s, err
}

// complement is the image file with the repositories, keys and packages of the flags.
func (o *options) complement(c *image.Config) (*image.Config, error) {
	more := *c
	more.Contents.Repositories = slices.Concat(c.Contents.Repositories, o.repositories)
	more.Contents.BuildRepositories = slices.Concat(c.Contents.BuildRepositories, o.buildRepositories)
	more.Contents.Keyring = slices.Concat(c.Contents.Keyring, o.keys)
	more.Contents.Packages = slices.Concat(c.Contents.Packages, o.packages)
	if _, err := more.World(); err != nil {
		return nil, fmt.Errorf("--package-append: %w", err)
	}
	return &more, nil
}

// annotate adds the annotations of the flags.
func (o *options) annotate(c *image.Config) (*image.Config, error) {
	if len(o.annotations) == 0 {
		return c, nil
	}
	more := *c
	more.Annotations = make(map[string]string)
	for key, value := range c.Annotations {
		more.Annotations[key] = value
	}
	given := make(map[string]bool)
	for _, a := range o.annotations {
		key, value, ok := strings.Cut(a, ":")
		if !ok || given[key] {
			return nil, fmt.Errorf("--annotations %s: want key:value, each key once", a)
		}
		if err := image.CheckAnnotation(key); err != nil {
			return nil, fmt.Errorf("--annotations %s: %w", a, err)
		}
		more.Annotations[key], given[key] = value, true
	}
	return &more, nil
}

func (o *options) architectures(c *image.Config) ([]apk.Arch, error) {
	if len(o.archs) == 0 && len(c.Archs) > 0 {
		return c.Archs, nil
	}
	var list []apk.Arch
	for _, name := range o.archs {
		if name == "all" {
			list = append(list, apk.Archs()...)
			continue
		}
		if name == "host" {
			list = append(list, apk.HostArch())
			continue
		}
		a, err := image.ParseArch(name)
		if err != nil {
			return nil, fmt.Errorf("--arch: %w", err)
		}
		list = append(list, a)
	}
	if len(list) == 0 {
		return []apk.Arch{apk.HostArch()}, nil
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func (m *machine) builder(o *options) (*build.Builder, error) {
	cache, err := m.cacheDir(o.cacheDir)
	if err != nil {
		return nil, err
	}
	access, err := repository.AccessFrom(m.env)
	if err != nil {
		return nil, err
	}
	limits, err := o.limited()
	if err != nil {
		return nil, err
	}
	b := &build.Builder{
		CAS:    cas.Layered{Store: cas.Store{Dir: filepath.Join(cache, "cas")}},
		Client: &repository.Client{Cache: filepath.Join(cache, "apk"), Access: access, Offline: o.offline, AllowOlder: o.allowOlder, Limits: limits},
		Tool:   "apko", // no version: a release of the tool alone changes no image
	}
	b.Created, err = m.created(o.buildDate)
	return b, err
}

func (m *machine) cacheDir(flag string) (string, error) {
	if flag != "" {
		return filepath.Abs(flag)
	}
	if dir := m.env("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "distro"), nil
	}
	if home := m.env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "distro"), nil
	}
	return "", fmt.Errorf("no folder for the cache: set HOME or give --cache-dir")
}

// created is the image's date; the zero time leaves it to the packages.
func (m *machine) created(flag string) (time.Time, error) {
	if epoch := m.env("SOURCE_DATE_EPOCH"); epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: not a number of seconds", epoch)
		}
		return time.Unix(n, 0).UTC(), nil
	}
	if flag == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, flag)
	if err != nil {
		return time.Time{}, fmt.Errorf("--build-date: %w", err)
	}
	return t.UTC(), nil
}

// sources are the repositories of the image file, each with all its keys.
func (o *options) sources(ctx context.Context, c *image.Config, client *repository.Client) ([]repository.Source, error) {
	keyring, err := client.Keyring(ctx, c.Contents.Keyring...)
	if err != nil {
		return nil, err
	}
	if len(c.Repositories()) == 0 {
		return nil, fmt.Errorf("no repositories: name some in the image file or with --repository-append")
	}
	var sources []repository.Source
	for _, r := range c.Repositories() {
		tag, address := image.SplitTag(r)
		sources = append(sources, repository.Source{URL: address, Tag: tag, Keyring: keyring, Insecure: o.ignoreSignatures})
	}
	return sources, nil
}

// locked is the lock that the flags name, or a new one.
func (s *session) locked(ctx context.Context, o *options) (*image.Lock, error) {
	if o.lockFile == "" {
		return s.builder.Lock(ctx, s.config, s.archs, s.sources)
	}
	lock, err := image.ReadLock(o.lockFile)
	if err != nil {
		return nil, err
	}
	if err := s.madeFor(ctx, lock); err != nil {
		return nil, fmt.Errorf("the lock %s %w", o.lockFile, err)
	}
	if err := s.completeKeys(lock); err != nil {
		return nil, fmt.Errorf("the lock %s: %w", o.lockFile, err)
	}
	return lock.Only(s.archs)
}

// madeFor refuses the lock of something else.
func (s *session) madeFor(ctx context.Context, lock *image.Lock) error {
	have := lock.Config
	switch {
	case have.Digest != "" && have.Digest != s.digest:
		return errors.New("was made for another image file or other flags: lock it again")
	case have.Digest != "":
	case have.Files == "":
		clog.FromContext(ctx).Warnf("the lock does not tell which image file it was made for")
	case have.Files != s.config.Files:
		return errors.New("was made for an image file with another text: lock it again")
	case s.complemented:
		clog.FromContext(ctx).Warnf("the lock does not tell whether it was made with the repositories, keys and packages of the flags")
	}
	return nil
}

// completeKeys fills in the keys that a lock only names.
func (s *session) completeKeys(lock *image.Lock) error {
	for i := range lock.Contents.Keyring {
		key := &lock.Contents.Keyring[i]
		for _, source := range s.sources {
			if public, ok := source.Keyring[key.Name]; ok && key.Content == "" {
				text, err := apk.EncodePublicKey(public)
				if err != nil {
					return err
				}
				key.Content = string(text)
			}
		}
		if key.Content == "" {
			return fmt.Errorf("it names the key %s without its content, and the image file has none of that name", key.Name)
		}
	}
	return nil
}
