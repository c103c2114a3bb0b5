//go:build judge

// These tests ask the real apk-tools 3. They need its binary, named by the
// environment variable APK, and root, since packages have owners.

package repository

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"distro.internal/shared/apk"
)

// install lets apk install a package into a new root, and returns the content of its file.
func install(t *testing.T, url string, arch apk.Arch, name string) string {
	t.Helper()
	root := t.TempDir()
	_, keyring := testKeys()
	for keyName, key := range keyring {
		pem, err := apk.EncodePublicKey(key)
		if err == nil {
			err = writeFile(filepath.Join(root, "keys", keyName), pem)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(os.Getenv("APK"), "add", "--root", filepath.Join(root, "root"), "--initdb", "--arch", string(arch),
		"--keys-dir", filepath.Join(root, "keys"), "--repository", url, name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(root, "root", "usr", "share", name))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestJudgeInstalls(t *testing.T) {
	signer, _ := testKeys()
	r := &Repository{Dir: t.TempDir(), Signer: signer}
	web := httptest.NewServer(&server{repository: r})
	defer web.Close()
	publish(t, r, Change{Add: map[apk.Arch][]Addition{
		"x86_64":  {add(t, "a", "1-r0", "x86_64", "A1"), add(t, "b", "1-r0", "x86_64", "B1")},
		"aarch64": {add(t, "a", "1-r0", "aarch64", "A1arm")},
	}})
	check := func(arch apk.Arch, name, want string) {
		t.Helper()
		for _, url := range []string{r.Dir, web.URL} {
			if got := install(t, url, arch, name); got != want {
				t.Errorf("%s for %s from %s: %s, want %s", name, arch, url, got, want)
			}
		}
	}
	check("x86_64", "a", "A1")
	check("aarch64", "a", "A1arm")
	publish(t, r, Change{Add: map[apk.Arch][]Addition{"x86_64": {add(t, "a", "2-r0", "x86_64", "A2")}}})
	check("x86_64", "a", "A2")
	check("x86_64", "b", "B1")
	if _, err := r.Rollback(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	check("x86_64", "a", "A1")
}
