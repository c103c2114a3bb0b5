package solve

import (
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

// The whole text of a refusal: what was wanted by whom, who was rejected and
// why, what would help.
const refusals = `
a-1: b d<3
b-1: c
c-1: d>1
d-1:
d-2:
d-3:
add a d=3:
no solution:
  d: nothing that goes by this name fits
    wanted: d=3 by the world
    wanted: d>1 by c-1 (world -> a-1 -> b-1 -> c-1)
    wanted: d<3 by a-1 (world -> a-1)
    rejected: d-3: a-1 wants d<3
    rejected: d-2: the world wants d=3
    rejected: d-1: the world wants d=3
    fix: there is a solution with d in place of d=3 in the world

nginx-1:
add ngnix:
no solution:
  ngnix: no such package
    wanted: ngnix by the world
    fix: did you mean nginx?

postfix-1: | provides mta
exim-1: | provides mta
app-1: mta
add app:
no solution:
  mta: it is only provided, and by nobody who may be chosen unasked
    wanted: mta by app-1 (world -> app-1)
    fix: add one of these to the world: postfix, exim

postfix-1: | provides mta=1
exim-1: | provides mta=1
add exim postfix:
no solution:
  mta: both exim-1 and postfix-1 are mta
    wanted: exim by the world
    wanted: postfix by the world
    fix: there is a solution without exim in the world

a-1:
repository @edge
a-2:
add a>1:
no solution:
  a: a-2 is only in a repository that has to be asked for
    wanted: a>1 by the world
    fix: ask for a@edge

a-1: b
b-1: | arch riscv64
add a:
no solution:
  b: nothing that goes by this name fits
    wanted: b by a-1 (world -> a-1)
    rejected: b-1: it is built for riscv64
`

func TestRefusals(t *testing.T) {
	for text := range strings.SplitSeq(strings.TrimSpace(refusals), "\n\n") {
		head, want, _ := strings.Cut(text, ":\nno solution:")
		lines := strings.Split(head, "\n")
		command := strings.Fields(lines[len(lines)-1])[1:]
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			s := story{repositories: []Repository{{Index: &apk.Index{}}}, tags: map[string]string{}}
			for _, line := range lines[:len(lines)-1] {
				if err := s.tell(t, line); err != nil {
					t.Fatal(err)
				}
			}
			world, err := parseWorld(command...)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Solve(Request{World: world, Repositories: s.repositories, Arch: "x86_64"})
			if err == nil || err.Error() != "no solution:"+want {
				t.Errorf("got\n%v\nwant\nno solution:%s", err, want)
			}
		})
	}
}

func TestWhy(t *testing.T) {
	s := story{repositories: []Repository{{Index: &apk.Index{}}}, tags: map[string]string{}}
	for _, line := range []string{"a-1: b", "b-1: c", "c-1:", "docs-1:", "c-doc-1: | if c docs"} {
		if err := s.tell(t, line); err != nil {
			t.Fatal(err)
		}
	}
	solution, err := Solve(Request{
		World:        []apk.Dependency{{Name: "docs"}, {Name: "a"}},
		Repositories: s.repositories,
		Arch:         "x86_64",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": "a", "c": "a b c", "c-doc": "docs c-doc", "x": "",
	} {
		var chain []string
		for _, c := range solution.Why(name) {
			chain = append(chain, c.Name)
		}
		if got := strings.Join(chain, " "); got != want {
			t.Errorf("why %s: %s, want %s", name, got, want)
		}
	}
	if c, _ := solution.Package("c-doc"); !c.Reason.InstallIf || c.Reason.Dependency.Name != "docs" {
		t.Errorf("c-doc came along because of %+v", c.Reason)
	}
}

func TestDropBroken(t *testing.T) {
	u := Compile([]Repository{{Index: &apk.Index{Packages: []*apk.Package{
		{Name: "a", Version: "1"}, {Name: "b", Version: "1", Depends: []apk.Dependency{{Name: "gone"}}},
	}}}}, "x86_64")
	world := []apk.Dependency{{Name: "a"}, {Name: "b"}, {Name: "c", Op: apk.Equal, Version: "x"}}
	s, err := u.Solve(world, Options{DropBroken: true})
	if err != nil {
		t.Fatal(err)
	}
	if steps(s.Changes) != "a-1" || len(s.Dropped) != 2 || s.Dropped[0].Name != "b" || s.Dropped[1].Name != "c" {
		t.Errorf("%s without %v", steps(s.Changes), s.Dropped)
	}
}

// The places of names in apk's table, as it computes them.
func TestBucket(t *testing.T) {
	for name, want := range map[string]uint32{"": 4750, "a": 12779, "musl": 2905, "so:libc.musl-x86_64.so.1": 5189} {
		if got := hashOf(name) % buckets; got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}
