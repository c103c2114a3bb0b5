package apk

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWorld(t *testing.T) {
	world := deps("a", "!b", "c@edge>=1", "d~2")
	var b bytes.Buffer
	if err := WriteWorld(&b, world); err != nil || b.String() != "a\n!b\nc@edge>=1\nd~2\n" {
		t.Fatalf("%q, %v", &b, err)
	}
	got, err := ParseWorld(&b)
	if err != nil || !slices.Equal(got, world) {
		t.Errorf("%v, %v", got, err)
	}
	if err := WriteWorld(&b, []Dependency{{Name: "a\nb"}}); err == nil {
		t.Error("a line break is written")
	}
}

func TestRepositories(t *testing.T) {
	const text = "https://one.test/os\n@edge /srv/repository\n"
	want := []RepositoryLine{{URL: "https://one.test/os"}, {Tag: "edge", URL: "/srv/repository"}}
	got, err := ParseRepositories(strings.NewReader("# comment\n\n" + text))
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
	var b bytes.Buffer
	if err := WriteRepositories(&b, got); err != nil || b.String() != text {
		t.Errorf("%q, %v", &b, err)
	}
	for _, l := range []RepositoryLine{{}, {URL: "a b"}, {URL: "#x"}, {Tag: "a\n", URL: "x"}} {
		if err := WriteRepositories(&b, []RepositoryLine{l}); err == nil {
			t.Errorf("%+v is written", l)
		}
	}
	if _, err := ParseRepositories(strings.NewReader("a b\n")); !errors.Is(err, ErrFormat) {
		t.Errorf("two words: %v", err)
	}
}
