package lint

import (
	"os"
	"testing"
)

// FuzzCatalog: no bytes crash the reader, and a catalogue that lost its end is none.
func FuzzCatalog(f *testing.F) {
	for _, name := range []string{"testdata/de.mo", "testdata/de-big.mo"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkCatalog(data) == nil && checkCatalog(data[:20]) == nil {
			t.Fatal("a part of its header is enough")
		}
	})
}
