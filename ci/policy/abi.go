package policy

import (
	"fmt"
	"slices"
	"strings"

	"distro.internal/shared/apk"
)

// What programs were linked with is known by two names: the soname, which says
// which library, and the symbols that were asked of it. A soname that goes away
// shows in dependencies. That a symbol goes away while the soname stays shows
// nowhere: everything can be installed, and does not start.
//
// It counts who of the repository uses it. What nobody here uses somebody
// elsewhere may: that is only a warning.

// provided are the names of a kind that a package gives, without the kind: "so:libz.so.1" is libz.so.1 of "so:".
func provided(p *apk.Package, kind string) []string {
	var list []string
	if p != nil {
		for _, d := range p.Provides {
			if name, ok := strings.CutPrefix(d.Name, kind); ok {
				list = append(list, name)
			}
		}
	}
	return list
}

// vanished yields the names of a kind that a package gave and that nobody gives any more, with those who depend on them.
func (j *judge) vanished(kind string, tell func(c Changed, name string, users []string)) {
	for _, c := range j.Packages {
		for _, name := range provided(c.Old, kind) {
			if len(j.After.Providers(apk.Dependency{Name: kind + name})) > 0 {
				continue
			}
			var users []string
			for _, p := range j.After.Dependents(kind + name) {
				users = append(users, p.Name)
			}
			tell(c, name, users)
		}
	}
}

func (j *judge) sonames() error {
	j.vanished("so:", func(c Changed, name string, users []string) {
		f := Finding{
			What: fmt.Sprintf("%s had the library %s, and nobody has it any more", c.Name, name),
			Why:  "needed by " + names(users),
			Fix:  "build what needs it against the new one in the same branch, or keep the old one in a package of its own",
		}
		if len(users) == 0 {
			f.Severity, f.Why, f.Fix = Warning, "nothing in the repository needs it; what others have linked with it will not start", ""
		}
		j.report(c, at(c), f)
	})
	return nil
}

func (j *judge) commands() error { return j.missed("cmd:", "command") }

func (j *judge) modules() error { return j.missed("pc:", "pkg-config module") }

// missed tells what nobody provides any more, which need not harm anybody.
func (j *judge) missed(kind, noun string) error {
	j.vanished(kind, func(c Changed, name string, users []string) {
		f := Finding{What: fmt.Sprintf("%s had the %s %s, and nobody has it any more", c.Name, noun, name)}
		if len(users) > 0 {
			f.Why = "needed by " + names(users)
		}
		j.report(c, at(c), f)
	})
	return nil
}

// A difference is what became of a symbol that a library exports.
type difference struct {
	symbol Symbol
	how    string // "" when it is gone
}

// differences lists what programs that were linked with a library may miss in another of the same soname.
func differences(old, now []Symbol) []difference {
	var list []difference
	for _, s := range old {
		i, found := slices.BinarySearchFunc(now, s, compareSymbols)
		switch {
		case !found:
			list = append(list, difference{symbol: s})
		case s.Data != now[i].Data:
			list = append(list, difference{s, "is a function and was a variable, or the other way round"})
		case s.Data && s.Size != now[i].Size:
			list = append(list, difference{s, fmt.Sprintf("is a variable of %d bytes and was of %d", now[i].Size, s.Size)})
		}
	}
	return list
}

func (j *judge) symbols() error {
	now := map[string][]Symbol{} // by soname
	type library struct {
		Changed
		Object
	}
	var were []library
	if err := j.each(func(p Changed, old, new *Contents) {
		for _, o := range old.Objects {
			if o.Soname != "" && slices.Contains(provided(p.Old, "so:"), o.Soname) {
				were = append(were, library{p, o})
			}
		}
		for _, o := range new.Objects {
			if o.Soname != "" && slices.Contains(provided(p.New, "so:"), o.Soname) {
				now[o.Soname] = o.Exports
			}
		}
	}); err != nil {
		return err
	}
	for _, l := range were {
		exports, ok := now[l.Soname]
		if !ok {
			continue // of another soname, or gone
		}
		list := differences(l.Exports, exports)
		if len(list) == 0 {
			continue
		}
		users, err := j.users(l.Soname, list)
		if err != nil {
			return err
		}
		j.tellSymbols(l.Changed, l.Soname, list, users)
	}
	return nil
}

// users tells for each difference who needs the symbol: "PATH of PACKAGE".
func (j *judge) users(soname string, list []difference) ([][]string, error) {
	users := make([][]string, len(list))
	for _, p := range j.After.Dependents("so:" + soname) {
		if !j.isPresent(p) {
			continue // another repository's: it is not read for this
		}
		c, err := j.Contents(p)
		if err != nil {
			return nil, err
		}
		for _, o := range c.Objects {
			if !slices.Contains(o.Needed, soname) {
				continue
			}
			for i, d := range list {
				if imports(o.Imports, d.symbol) {
					users[i] = append(users[i], o.Path+" of "+p.Name)
				}
			}
		}
	}
	return users, nil
}

// isPresent tells whether a package is the repository's own.
func (j *judge) isPresent(p *apk.Package) bool {
	i, ok := slices.BinarySearchFunc(j.Present, p.Name, func(q *apk.Package, name string) int { return strings.Compare(q.Name, name) })
	return ok && j.Present[i].Checksum == p.Checksum
}

// imports tells whether a symbol of a library is among what an object needs. What asks for no version gets the default.
func imports(list []Symbol, s Symbol) bool {
	_, found := slices.BinarySearchFunc(list, s, compareSymbols)
	if !found && s.Default {
		_, found = slices.BinarySearchFunc(list, Symbol{Name: s.Name}, compareSymbols)
	}
	return found
}

// tellSymbols makes one finding of what is used and one of what is not.
func (j *judge) tellSymbols(c Changed, soname string, list []difference, users [][]string) {
	var used, unused, who []string
	for i, d := range list {
		text := d.symbol.String() + " is gone"
		if d.how != "" {
			text = d.symbol.String() + " " + d.how
		}
		if len(users[i]) == 0 {
			unused = append(unused, text)
			continue
		}
		used, who = append(used, text), append(who, users[i]...)
	}
	if len(used) > 0 {
		slices.Sort(who)
		j.report(c, at(c), Finding{
			What: fmt.Sprintf("%s is not what programs were linked with: %s", soname, names(used)),
			Why:  "used by " + names(slices.Compact(who)),
			Fix:  "give the library another soname, or keep the symbols; what is built again in the same branch does not use them any more",
		})
	}
	if len(unused) > 0 {
		j.report(c, at(c), Finding{
			Severity: Warning,
			What:     fmt.Sprintf("%s is not what programs were linked with: %s", soname, names(unused)),
			Why:      "nothing in the repository uses it; what others have linked with it may not start",
		})
	}
}
