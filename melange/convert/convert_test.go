package convert

import (
	"testing"

	"distro.internal/shared/document"
)

// Whatever comes in, what comes out can be read.
func FuzzApkbuild(f *testing.F) {
	for _, text := range []string{
		"pkgname=a\npkgver=1\nsource=\"x::https://a/b.tar.gz c.patch\"\nsubpackages=$pkgname-dev\n",
		"pkgname='a: b'\npkgver=1_rc2\nbuild() {\n\tmake\n}\npackage() {\n\tcat <<-EOF\n\t\tx: |\n\tEOF\n}\n",
		"pkgname=a\npkgver=1.2\npkgver=${pkgver%.*}\ndepends=\"b>1 !c\" license=\"MIT OR X\"\nf() { :; }\nsubpackages=\"b:f\"\n",
		"pkgname=$(x)\npkgver=`y`\n", "if true; then pkgname=a; fi\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		made, err := Apkbuild("APKBUILD", text)
		if err != nil {
			return
		}
		if _, err := document.Parse("recipe", made); err != nil {
			t.Fatalf("%q became\n%s\n%v", text, made, err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"name": "a: b", "version": "1", "sha": "0000000000000000000000000000000000000000000000000000000000000000", "gem_uri": "u # x", "licenses": ["- x"], "info": "\u0000\u2028"}`))
	f.Add([]byte(`{"info": {"name": "- a", "version": "1", "requires_dist": ["a; \n x", "!"]}, "urls": [{"packagetype": "sdist", "url": "&x", "digests": {"sha256": "0000000000000000000000000000000000000000000000000000000000000000"}}]}`))
	f.Add([]byte(`{"name": "@a/b", "version": "1", "license": {"type": "*"}, "repository": "a/b", "dist": {"tarball": "t\n", "integrity": "sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, convert := range []func() ([]byte, error){
			func() ([]byte, error) { return Gem(text, "3.4") },
			func() ([]byte, error) { return Python(text) },
			func() ([]byte, error) { return NPM(text, "") },
		} {
			made, err := convert()
			if err != nil {
				continue
			}
			if _, err := document.Parse("recipe", made); err != nil {
				t.Fatalf("%q became\n%s\n%v", text, made, err)
			}
		}
	})
}
