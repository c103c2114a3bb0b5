package solve

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

// Each story is a few packages and what comes of wanting some of them.
//
//	name-version: depends | provides ... | if ... | priority n | arch a | size n
//	repository @tag     the packages below are in another repository
//	installed           the packages below are installed; their tag: | tag t
//	world ...           is wanted already
//	COMMAND ...: steps  add, del or upgrade, and what is done:
//	                    name-version, -name (removed), or "refused" and a part of the reason
//
// An add with nothing installed is what apk does too: with -apk it is asked.
const stories = `
# what a package depends on comes first, and of each name the newest
a-1: b
a-2: b
b-1:
b-2:
add a: b-2 a-2
add a<2: b-2 a-1
add a b<2: b-1 a-2

# all operators
a-1.9:
a-1.10:
a-1.10.1:
a-2_rc1:
a-2:
a-2-r1:
add a: a-2-r1
add a=1.9: a-1.9
add a<1.10: a-1.9
add a<=1.10: a-1.10
add a>2: a-2-r1
add a>=2 b: refused no such package
add a~1.10: a-1.10.1
add a<~1.10: a-1.10.1
add a>~1.10: a-2-r1
add a=2: a-2
add a>3: refused a-2-r1: the world wants a>3
add a=x: refused "x" is not a version

# a constraint found later closes what was open before
a-1: b c
b-1: d>1
c-1: d<3
d-1:
d-2:
d-3:
add a: d-2 b-1 c-1 a-1
add d: d-3
add a d=3: refused d-3: c-1 wants d<3

# that something does not exist at all is found too late to fall back
a-1: b
a-2: b gone
b-1:
add a: refused gone: no such package
add a<2: b-1 a-1

# a version gives way to an older one when somebody closes what it needs
a-1: b
a-2: b>1
b-1:
b-2:
c-1: b<2
add a: b-2 a-2
add a c: b-1 a-1 c-1
add a>1 c: refused b-2: c-1 wants b<2

# decisions are not taken back: both fit alone, the newest of one is taken first
a-1: c=1
a-2: c=2
b-1: c=1
b-2: c=2
c-1:
c-2:
add a b: c-2 a-2 b-2
add a b=1: c-1 a-1 b-1

# circles
a-1: b
b-1: c
c-1: a
add b: a-1 c-1 b-1

# what is provided in a version is as good as a package of that name
lib-1: | provides so:lib.so.1=1.5
a-1: so:lib.so.1
b-1: so:lib.so.1>1.5
add a: lib-1 a-1
add b: refused
add so:lib.so.1: lib-1

# of those that provide it in a version the newest is taken
lib-1: | provides so:x=1
lib-2: | provides so:x=2
other-9: | provides so:x=1.5
a-1: so:x
add a: lib-2 a-1
add a other: other-9 a-1

# nothing that is provided without a version is taken unasked
mta-a-1: | provides mta
mta-b-1: | provides mta
a-1: mta
add a: refused add one of these to the world: mta-a, mta-b
add a mta-b: mta-b-1 a-1
add mta: refused

# not even if there is only one
mta-a-1: | provides mta
add mta: refused add one of these to the world: mta-a

# unless it has a priority; the highest wins
mta-a-1: | provides mta | priority 10
mta-b-1: | provides mta | priority 20
mta-c-1: | provides mta
a-1: mta
add a: mta-b-1 a-1
add a mta-c: mta-c-1 a-1
add a !mta-b: mta-a-1 a-1

# a real package is preferred over one that provides the name without a version
sh-1:
bash-5: | provides sh
a-1: sh
add a: sh-1 a-1
add a bash: bash-5 a-1
add a bash sh: bash-5 a-1

# two packages may provide the same without a version, not in a version
a-1: | provides x
b-1: | provides x
c-1: | provides y=1
d-1: | provides y=2
add a b: a-1 b-1
add c d: refused both c-1 and d-1 are y

# a package does not go by its own name twice
a-1: | provides a=2
b-1: | provides x=1 x=2
c-1: | provides b
add a: refused conflicts with itself
add b: refused conflicts with itself
add c: c-1

# conflicts of packages
a-1: !b
b-1:
c-1: b
d-1: !b>1
b-2:
add a b: refused
add a c: refused
add d b: b-1 d-1
add d b>1: refused

# a package does not conflict with itself
exim-1: !mta | provides mta
postfix-1: !mta | provides mta
add exim: exim-1
add exim postfix: refused

# conflicts of the world
a-1: x
x1-1: | provides x=1
x2-1: | provides x=2
add a: x2-1 a-1
add a !x2: x1-1 a-1
add a !x: refused there is a solution without !x in the world
add !a: 

# what all candidates depend on is wanted before one of them is chosen
a-1: b
a-2: b
b-1: d=1
b-2: d=2
d-1:
d-2:
add a: d-2 b-2 a-2
add a d<2: d-1 b-1 a-2

# who gets one name gets the other too
kit-1: | provides pc:kit=1
kit-dev-1: kit=1 | provides pc:kit-1=1
kit2-1: | provides kit=2
base-1: kit
add base kit-dev: kit-1 base-1 kit-dev-1

# an install_if comes along once all its conditions hold, across the world
a-1:
docs-1:
a-docs-1: | if a docs
add a: a-1
add docs: docs-1
add a docs: a-1 docs-1 a-docs-1
add a docs !a-docs: a-1 docs-1

# to the fixpoint: one that came along may complete another one
a-1:
b-1: | if a
c-1: | if a b
d-1: x | if c
x-1:
add a: a-1 b-1 c-1 x-1 d-1

# a condition in a version
a-1:
a-2:
x-1: | if a=1
y-1: | if a>1
add a: a-2 y-1
add a=1: a-1 x-1

# a condition may be something provided
a-1: | provides cmd:a=1
b-1: | if cmd:a
add a: a-1 b-1

# a condition may be the absence of something
a-1:
b-1: | if a !c
c-1:
add a: a-1 b-1
add a c: a-1 c-1

# what comes along must have what it depends on
a-1:
b-1: gone | if a
add a: refused gone: no such package

# other architectures are not for us
a-1: | arch armhf
b-1: | arch noarch
c-1: b a
add b: b-1
add a: refused it is built for armhf
add c: refused it is built for armhf

# dependencies that can not be read make a package uninstallable
a-1: b@edge
b-1:
add a: refused can not be read

# the first repository wins between equals
a-1: | provides x=1
repository
b-1: | provides x=1
add x: a-1

# a repository with a tag has to be asked for
a-1: b
b-1:
repository @edge
a-2: b
b-2:
c-2: b
add a: b-1 a-1
add a@edge: b-1 a-2@edge
add a@edge b@edge: b-2@edge a-2@edge
add c: refused ask for c@edge
add c@edge: b-1 c-2@edge
add a@none: refused no repository has the tag @none

# what a tagged package needs may come from its repository when it must
a-1:
repository @edge
a-2: | size 1
b-1: a>1
add b@edge: a-2@edge b-1@edge
add b@edge a: a-2@edge b-1@edge

# a tag is preferred even over something newer
a-3:
repository @old
a-2:
add a@old: a-2@old

# what is installed stays, what is new fits in
a-1: b
a-2: b
b-1:
b-2:
c-1: b>1
installed
a-1: b
b-1:
world a
add: 
add c: b-2 c-1
upgrade: b-2 a-2
add a>1: a-2
del a: -a -b

# what nobody needs any more goes
a-1: old
a-2: new
old-1:
new-1:
installed
a-1: old
old-1:
world a
upgrade: new-1 a-2 -old

# what came along goes with what it came for
a-1:
b-1:
c-1: | if a b
installed
a-1:
b-1:
c-1: | if a b
world a b
del b: -c -b

# one provider makes room for another
mta-a-1: | provides mta
mta-b-1: | provides mta
installed
mta-a-1: | provides mta
world mta
add mta-b: -mta-a mta-b-1

# a package that is only installed is kept, unless another is available
b-1:
a-1:
installed
a-2:
world a b
add: b-1
upgrade: b-1
upgrade --available: a-1 b-1

# the latest or nothing
a-1:
a-2: b>1
b-1:
b-2:
installed
a-1:
b-1:
world a b<2
upgrade: 
upgrade --latest: refused b-2: the world wants b<2

# an older version from where it is to come
a-1:
repository @edge
a-2:
installed
a-2: | tag edge
world a@edge
add: 
add a: a-1
`

func TestStories(t *testing.T) {
	for text := range strings.SplitSeq(strings.TrimSpace(stories), "\n\n") {
		s := story{repositories: []Repository{{Index: &apk.Index{}}}, tags: map[string]string{}}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if title, ok := strings.CutPrefix(line, "# "); ok {
				s.title = title
				continue
			}
			t.Run(s.title+"/"+line, func(t *testing.T) {
				if err := s.tell(t, line); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			})
		}
	}
}

type story struct {
	title        string
	repositories []Repository
	installed    []*apk.Package
	tags         map[string]string
	inInstalled  bool
	world        []apk.Dependency
}

func (s *story) tell(t *testing.T, line string) (err error) {
	switch word, rest, _ := strings.Cut(line, " "); strings.TrimSuffix(word, ":") {
	case "repository":
		s.repositories = append(s.repositories, Repository{Tag: strings.TrimPrefix(rest, "@"), Index: &apk.Index{}})
	case "installed":
		s.inInstalled = true
	case "world":
		s.world, err = parseWorld(strings.Fields(rest)...)
	case "add", "del", "upgrade":
		return s.command(t, line)
	default:
		return s.addPackage(line)
	}
	return err
}

func (s *story) addPackage(line string) error {
	p, tag, err := parsePackage(line)
	if err != nil {
		return err
	}
	if s.inInstalled {
		s.installed = append(s.installed, p)
		s.tags[p.Name] = tag
		return nil
	}
	x := s.repositories[len(s.repositories)-1].Index
	x.Packages = append(x.Packages, p)
	return nil
}

// parsePackage reads "name-version: depends | provides ... | ...".
func parsePackage(line string) (p *apk.Package, tag string, err error) {
	id, rest, _ := strings.Cut(line, ": ")
	id = strings.TrimSuffix(id, ":")
	at := strings.LastIndex(id, "-")
	if i := strings.LastIndex(id, "-r"); i == at && i > 0 {
		at = strings.LastIndex(id[:i], "-")
	}
	if at < 0 {
		return nil, "", errors.New("not a package")
	}
	p = &apk.Package{
		Name: id[:at], Version: apk.Version(id[at+1:]), Size: 1, InstalledSize: 1,
		Checksum: sha1.Sum([]byte(strings.SplitN(line, " | tag", 2)[0])),
	}
	for i, clause := range strings.Split(rest, "|") {
		word, value, _ := strings.Cut(strings.TrimSpace(clause), " ")
		switch {
		case i == 0:
			p.Depends, err = apk.ParseDependencies(clause)
		case word == "provides":
			p.Provides, err = apk.ParseDependencies(value)
		case word == "if":
			p.InstallIf, err = apk.ParseDependencies(value)
		case word == "priority":
			p.ProviderPriority, err = strconv.Atoi(value)
		case word == "size":
			p.InstalledSize, err = strconv.ParseInt(value, 10, 64)
		case word == "arch":
			p.Arch = apk.Arch(value)
		case word == "tag":
			tag = value
		default:
			err = fmt.Errorf("unknown clause %q", clause)
		}
		if err != nil {
			return nil, "", err
		}
	}
	return p, tag, nil
}

func (s *story) command(t *testing.T, line string) error {
	words, want, ok := strings.Cut(line+" ", ": ")
	if !ok {
		return errors.New("what comes of it?")
	}
	args := strings.Fields(words)
	c := solverCase{
		args: args, repositories: s.repositories, installed: s.installed,
		tags: s.tags, world: slices.Clone(s.world),
	}
	for i, a := range c.args {
		c.args[i] = strings.Replace(a, "--available", "-a", 1)
	}
	got, err := c.changes()
	if reason, refused := strings.CutPrefix(strings.TrimSpace(want), "refused"); refused {
		if err == nil {
			return fmt.Errorf("not refused, got %s", steps(got))
		}
		if !strings.Contains(err.Error(), strings.TrimSpace(reason)) {
			return fmt.Errorf("refused for another reason: %w", err)
		}
	} else if err != nil {
		return err
	} else if steps(got) != strings.TrimSpace(want) {
		return fmt.Errorf("got %s", steps(got))
	}
	if *judge != "" && args[0] == "add" && len(s.installed) == 0 {
		return s.judged(t, args[1:], got, err)
	}
	return nil
}

// judged compares an answer with that of apk.
func (s *story) judged(t *testing.T, words []string, got []Change, refusal error) error {
	want, err := newCourt(t, "x86_64", s.repositories...).add(words)
	switch {
	case (err == nil) != (refusal == nil):
		return fmt.Errorf("apk: %v, here: %v", err, refusal)
	case err == nil && !slices.Equal(want, verbs(got)):
		return fmt.Errorf("apk does %q", want)
	}
	return nil
}

// steps renders changes as the stories do.
func steps(changes []Change) string {
	var words []string
	for _, c := range changes {
		switch {
		case c.New == nil:
			words = append(words, "-"+c.Old.Name)
		case c.NewTag != "":
			words = append(words, full(c.New)+"@"+c.NewTag)
		default:
			words = append(words, full(c.New))
		}
	}
	return strings.Join(words, " ")
}
