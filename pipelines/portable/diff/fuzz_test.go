package diff

import (
	"errors"
	"testing"
)

// FuzzPatch: no patch is too broken to be read or refused, and a mistake has its line.
func FuzzPatch(f *testing.F) {
	f.Add("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n", "a\nb\n")
	f.Add("diff --git a/x b/y\nrename from x\nrename to y\n--- a/x\n+++ b/y\n@@ -1 +1,2 @@\n+new\n a\n\\ No newline at end of file\n", "a")
	f.Add("--- a/x\r\n+++ b/x\r\n@@ -2,0 +3 @@\r\n+c\r\n@@ -9 +9 @@\n\n", "a\nb\n\n\n\n")
	f.Fuzz(func(t *testing.T, patch, text string) {
		files, err := Parse([]byte(patch))
		if err != nil {
			var mistake *Error
			if !errors.As(err, &mistake) || mistake.Line < 1 {
				t.Errorf("a mistake without its line: %v", err)
			}
			return
		}
		for _, file := range files {
			if _, _, err := Apply(text, file.Hunks, 2); err != nil {
				var rejected *Rejected
				if !errors.As(err, &rejected) {
					t.Errorf("%v", err)
				}
			}
		}
	})
}
