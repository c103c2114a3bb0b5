package scan

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"path"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/elfobject"
	"distro.internal/shared/filetree"
)

func isELF(f *file) bool {
	b, err := f.head(4)
	return err == nil && bytes.Equal(b, []byte(elf.ELFMAG))
}

// driverObjects come with the host's graphics driver, never from a package.
var driverObjects = regexp.MustCompile(`^lib(cuda|cudadebugger|nvcuvid|nvoptix|vdpau_nvidia|nvidia-[a-z0-9-]+|(EGL|GLX|GLESv1_CM|GLESv2)_nvidia)\.so\.[0-9.]+$`)

// object records what an ELF file at the given path needs and offers. A file
// that starts like an ELF file and is none (a test fixture, say) says nothing.
func (s *scanner) object(name string, f *file) error {
	o, err := elfobject.Open(f)
	if err != nil {
		return nil
	}
	interp := interpreter(o)
	if interp != "" {
		s.depend("so:%s", interpreterName(interp))
	}
	needed, err := o.ImportedLibraries()
	if err != nil {
		return nil // no dynamic section that can be read: it links with nothing
	}
	for _, lib := range needed {
		if strings.Contains(lib, ".so.") && !driverObjects.MatchString(lib) {
			s.depend("so:%s", lib)
		}
	}
	base := path.Base(name)
	if interp == "" || strings.Contains(base, ".so.") || strings.HasSuffix(base, ".so") {
		if err := s.soname(name, o); err != nil {
			return err
		}
	}
	s.goBinary(f)
	return nil
}

// soname offers the names an object is linked by, if it lies where the loader
// looks; else they are vendored.
func (s *scanner) soname(name string, o *elf.File) error {
	sonames, err := o.DynString(elf.DT_SONAME)
	if err != nil {
		return nil
	}
	for _, soname := range sonames {
		if driverObjects.MatchString(soname) {
			continue
		}
		say := s.vendor
		if slices.Contains(s.libDirs, path.Dir(name)) {
			say = s.provide
		}
		say("so:%s=%s", soname, objectVersion(soname))
		say("so-ver:%s=%s", soname, s.in.Version)
	}
	return nil
}

// objectVersion is the numeric part after ".so.", else 0.
func objectVersion(soname string) string {
	_, v, ok := strings.Cut(soname, ".so.")
	if !ok || v == "" || strings.Trim(v, "0123456789.") != "" {
		return "0"
	}
	return v
}

// interpreter is the loader that an object asks for. Debug information and test fixtures may say that they ask, and
// not have the name.
func interpreter(o *elf.File) string {
	for _, p := range o.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(b, 0); err != nil || uint64(len(b)) < p.Filesz {
			return ""
		}
		return string(bytes.TrimRight(b, "\x00"))
	}
	return ""
}

// interpreterName is what the loader is known by. musl's loader is its libc,
// which packages know as libc.musl-ARCH.so.1.
func interpreterName(interp string) string {
	base := path.Base(interp)
	if rest, ok := strings.CutPrefix(base, "ld-musl-"); ok {
		return "libc.musl-" + rest
	}
	return base
}

func sonamesOf(t *filetree.Tree, e *filetree.Entry) ([]string, error) {
	s := scanner{in: Input{Package: Package{Tree: t}}}
	f, err := s.open(e)
	if err != nil || f == nil {
		return nil, err
	}
	defer f.Close()
	o, err := elfobject.Open(f)
	if err != nil {
		return nil, nil
	}
	names, err := o.DynString(elf.DT_SONAME)
	if err != nil {
		return nil, nil
	}
	return names, nil
}

// goBinary finds Go programs whose cryptography is OpenSSL's: they load the
// library by name at run time, which no ELF header shows.
func (s *scanner) goBinary(f *file) {
	info, err := buildinfo.Read(f)
	if err != nil {
		return
	}
	var cgo, fips bool
	for _, setting := range info.Settings {
		switch setting.Key {
		case "CGO_ENABLED":
			cgo = setting.Value == "1"
		case "GOEXPERIMENT":
			for _, x := range []string{"boringcrypto", "systemcrypto", "opensslcrypto"} {
				fips = fips || slices.Contains(strings.Split(setting.Value, ","), x)
			}
		case "microsoft_systemcrypto":
			fips = fips || setting.Value == "1"
		}
	}
	if cgo && fips {
		s.depend("openssl-config-fipshardened")
		s.depend("so:libcrypto.so.3")
	}
}
