package solve

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve/synthetic"
)

// A lottery draws small repositories in which every rule has a chance to
// matter, and worlds over them.
type lottery struct{ *rand.Rand }

func draw(seed uint64) lottery { return lottery{rand.New(rand.NewPCG(seed, 4))} }

var lotteryNames = strings.Fields("a b c d e f g h lib dev doc sh")

func (l lottery) name() string { return lotteryNames[l.IntN(len(lotteryNames))] }

// virtual is a name that no package has of its own.
func (l lottery) virtual() string { return fmt.Sprintf("v%d", l.IntN(4)) }

func (l lottery) dependency() apk.Dependency {
	d := apk.Dependency{Name: l.name()}
	if l.IntN(4) == 0 {
		d.Name = l.virtual()
	}
	if l.IntN(3) == 0 {
		d.Op = []apk.Op{apk.Equal, apk.Less, apk.Greater, apk.GreaterOrEqual, apk.LessOrEqual, apk.Fuzzy}[l.IntN(6)]
		d.Version = l.version()
	}
	d.Conflict = l.IntN(8) == 0
	return d
}

func (l lottery) version() apk.Version {
	return apk.Version(fmt.Sprintf("%d.%d", 1+l.IntN(3), l.IntN(2)))
}

func (l lottery) several(n int) []apk.Dependency {
	var list []apk.Dependency
	for range l.IntN(n) {
		list = append(list, l.dependency())
	}
	return list
}

func (l lottery) pkg() *apk.Package {
	p := &apk.Package{Name: l.name(), Version: l.version(), Size: 1, InstalledSize: 1, Depends: l.several(3)}
	for range l.IntN(3) {
		d := apk.Dependency{Name: l.virtual()}
		if l.IntN(6) == 0 {
			d.Name = l.name()
		}
		if l.IntN(2) == 0 {
			d.Op, d.Version = apk.Equal, l.version()
		}
		p.Provides = append(p.Provides, d)
	}
	if l.IntN(4) == 0 {
		p.InstallIf = append(l.several(2), apk.Dependency{Name: l.name()})
	}
	if l.IntN(3) == 0 {
		p.ProviderPriority = l.IntN(3) * 10
	}
	if l.IntN(20) == 0 {
		p.Arch = "armhf"
	}
	p.Checksum = sha1.Sum(fmt.Appendf(nil, "%v", p))
	return p
}

func (l lottery) repositories() []Repository {
	list := []Repository{{Index: l.index()}}
	if l.IntN(3) == 0 {
		list = append(list, Repository{Index: l.index()})
	}
	if l.IntN(3) == 0 {
		list = append(list, Repository{Tag: "edge", Index: l.index()})
	}
	return list
}

func (l lottery) index() *apk.Index {
	x := &apk.Index{}
	taken := map[string]bool{}
	for range 1 + l.IntN(25) {
		if p := l.pkg(); !taken[full(p)] {
			taken[full(p)] = true
			x.Packages = append(x.Packages, p)
		}
	}
	return x
}

func (l lottery) world(repositories []Repository) []apk.Dependency {
	var world []apk.Dependency
	for range 1 + l.IntN(4) {
		d := l.dependency()
		if len(repositories) > 1 && repositories[len(repositories)-1].Tag != "" && !d.Conflict && l.IntN(3) == 0 {
			d.Tag = "edge"
		}
		world = setWorld(world, d)
	}
	return world
}

// FuzzSolve checks every answer against the rules.
func FuzzSolve(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		l := draw(seed)
		repositories := l.repositories()
		world := l.world(repositories)
		u := Compile(repositories, "x86_64")
		s, err := u.Solve(world, Options{})
		again, err2 := Compile(repositories, "x86_64").Solve(world, Options{})
		if fmt.Sprint(err) != fmt.Sprint(err2) || err == nil && steps(s.Changes) != steps(again.Changes) {
			t.Fatal("two answers to one question")
		}
		if err != nil {
			checkConflict(t, err)
			return
		}
		if err := checkSolution(s, world, repositories); err != nil {
			t.Fatalf("world %v: %s: %v", world, steps(s.Changes), err)
		}
		upgraded(t, u, world, s)
	})
}

func checkConflict(t *testing.T, err error) {
	c := (*Conflict)(nil)
	if !errors.As(err, &c) || len(c.Problems) == 0 {
		t.Fatalf("refused without a reason: %v", err)
	}
	for _, p := range c.Problems {
		if p.Name == "" || p.What == "" || len(p.Wanted) == 0 {
			t.Fatalf("a problem that nobody has: %+v\n%v", p, err)
		}
	}
}

// checkSolution checks a set of packages by the rules alone, knowing nothing
// of how it was found.
func checkSolution(s *Solution, world []apk.Dependency, repositories []Repository) error {
	owner := map[string]*apk.Package{}
	for _, c := range s.Packages {
		if owner[c.Name] != nil {
			return fmt.Errorf("%s twice", c.Name)
		}
		owner[c.Name] = c.Package
	}
	for _, c := range s.Packages {
		if err := checkChosen(s, c, repositories); err != nil {
			return fmt.Errorf("%s: %w", full(c.Package), err)
		}
		for _, v := range c.Provides {
			if o := owner[v.Name]; o != nil && o != c.Package && v.Version != "" {
				return fmt.Errorf("both %s and %s are %s", full(o), full(c.Package), v.Name)
			}
			if v.Version != "" {
				owner[v.Name] = c.Package
			}
		}
	}
	for _, d := range world {
		if !satisfied(s, nil, d) {
			return fmt.Errorf("%s of the world is not satisfied", d)
		}
	}
	return nil
}

func checkChosen(s *Solution, c Chosen, repositories []Repository) error {
	if c.Arch != "" && c.Arch != "x86_64" {
		return errors.New("wrong architecture")
	}
	if !slices.Contains(repositories[c.Repository].Index.Packages, c.Package) {
		return errors.New("not from its repository")
	}
	for _, d := range c.Depends {
		if !satisfied(s, c.Package, d) {
			return fmt.Errorf("%s is not satisfied", d)
		}
	}
	chain := s.Why(c.Name)
	if len(chain) == 0 || chain[len(chain)-1].Package != c.Package {
		return errors.New("no reason")
	}
	if first := chain[0].Reason; first.By != "" || first.Dependency.Name == "" && !first.InstallIf {
		return fmt.Errorf("the reasons do not begin in the world but with %+v", first)
	}
	return nil
}

// satisfied reports whether d, a dependency of by, holds in the solution.
func satisfied(s *Solution, by *apk.Package, d apk.Dependency) bool {
	for _, c := range s.Packages {
		goes := c.Name == d.Name || slices.ContainsFunc(c.Provides, func(v apk.Dependency) bool { return v.Name == d.Name })
		switch {
		case !goes, d.Conflict && c.Package == by:
		case d.Conflict && !c.Satisfies(d):
			return false
		case !d.Conflict && c.Satisfies(d):
			return true
		}
	}
	return d.Conflict
}

// upgraded checks that what has been installed is left alone the next time.
func upgraded(t *testing.T, u *Universe, world []apk.Dependency, s *Solution) {
	o := Options{Tags: map[string]string{}}
	for _, c := range s.Packages {
		o.Installed = append(o.Installed, c.Package)
		o.Tags[c.Name] = c.Tag
	}
	again, err := u.Solve(world, o)
	if err != nil {
		t.Fatalf("world %v: %s is a solution, but then: %v", world, steps(s.Changes), err)
	}
	if len(again.Changes) > 0 {
		t.Fatalf("world %v: %s and then %s", world, steps(s.Changes), steps(again.Changes))
	}
}

// TestLotteryAgainstAPK asks the real apk about small random repositories, if
// told where it is (see TestAgainstAPK).
func TestLotteryAgainstAPK(t *testing.T) {
	if *judge == "" {
		return
	}
	solved, refused := 0, 0
	for seed := range uint64(*judgeRuns) {
		l := draw(seed + *judgeSeed<<32)
		repositories := l.repositories()
		world := l.world(repositories)
		words := make([]string, len(world))
		for i, d := range world {
			words[i] = d.String()
		}
		want, verdict := newCourt(t, "x86_64", repositories...).add(words)
		s, err := Compile(repositories, "x86_64").Solve(world, Options{})
		switch {
		case err != nil && verdict != nil:
			refused++
		case err == nil && verdict == nil && slices.Equal(verbs(s.Changes), want):
			solved++
		default:
			t.Errorf("seed %d, add %q:\napk: %v\n%s\nhere: %v", seed, words, verdict, strings.Join(want, "\n"), err)
			if err == nil {
				t.Error(steps(s.Changes))
			}
		}
	}
	t.Logf("%d worlds: %d solved alike, %d refused by both", *judgeRuns, solved, refused)
}

// TestConcurrent solves over one universe from many goroutines.
func TestConcurrent(t *testing.T) {
	u := Compile([]Repository{{Index: synthetic.Index(2000, 1)}}, "x86_64")
	world := []apk.Dependency{{Name: "origin3"}, {Name: "docs"}}
	want, err := u.Solve(world, Options{})
	if err != nil {
		t.Fatal(err)
	}
	u = Compile([]Repository{{Index: synthetic.Index(2000, 1)}}, "x86_64")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if s, err := u.Solve(world, Options{}); err != nil || steps(s.Changes) != steps(want.Changes) {
				t.Errorf("%v %v", s, err)
			}
		})
	}
	group.Wait()
}
