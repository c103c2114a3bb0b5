package apk

import "testing"

func TestArch(t *testing.T) {
	for word, want := range map[string]Arch{
		"x86_64": "x86_64", "amd64": "x86_64", "arm64": "aarch64", "arm/v6": "armhf", "armv7": "armv7", "386": "x86", "s390x": "s390x",
		"noarch": "", "host": "", "": "", "X86_64": "",
	} {
		if got, err := ParseArch(word); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q (%v), want %q", word, got, err, want)
		}
	}
	for _, a := range Archs() {
		if got, err := ParseArch(a.Platform()); got != a || err != nil {
			t.Errorf("%s is called %s, which is %s (%v)", a, a.Platform(), got, err)
		}
	}
	if _, err := ParseArch(string(HostArch())); err != nil {
		t.Error(err)
	}
	if got := Arch("mips").Platform(); got != "mips" {
		t.Errorf("one that is not known is called %q", got)
	}
}
