package solve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"slices"

	"distro.internal/shared/apk"
)

// A builder fills an empty table with packages, in the order in which apk
// would read them.
type builder struct {
	*table
	arch   apk.Arch
	known  checksums
	before []version // by name: the last one
}

// A version of a package has much in common with the next.
type version struct {
	common  span
	outline int32 // plus one
}

func newBuilder(base *table, arch apk.Arch, packages int) *builder {
	t := &table{base: base}
	if base != nil {
		t.firstName, t.firstEntry = base.nameCount(), base.entryCount()
	}
	t.outlineOf = make([]int32, 0, packages)
	t.details = make([]detail, 0, packages)
	t.origins = make([]origin, 0, packages)
	if packages > largePackages { // room that is not needed is never touched
		t.mentions = make([]int32, 0, mentionsEach*packages)
		t.terms = make([]term, 0, mentionsEach*packages)
	}
	t.versions.add("", hashOf(""))
	b := &builder{table: t, arch: arch}
	b.known.grow(1 << bits.Len(uint(packages+packages/3)))
	return b
}

// What packages of a distribution mention, generously; and how many make one.
const (
	mentionsEach  = 10
	largePackages = 10000
)

// done ends the table. One without a base also gets to know who goes by a name.
func (b *builder) done() *table {
	t := b.table
	if t.base == nil {
		t.candidates = newLists(t.nameCount(), func(yield func(int32, ref)) {
			for i := range t.details {
				entry{t, int32(i)}.goesBy(int32(i), yield)
			}
		})
	}
	return t
}

// addEntries takes in entries of the text of an index, and keeps none of it.
func (b *builder) addEntries(list []apk.Entry, from detail) error {
	for i := range list {
		e := &list[i]
		if !b.add(&e.Package, from, origin{}) {
			continue
		}
		own := e.Own
		if slices.ContainsFunc(e.InstallIf, unreadable) { // the only thing that the arrays do not have
			own = append(own, "i:"...)
			for _, d := range e.InstallIf {
				own = append(append(own, d.String()...), ' ')
			}
			own = append(own, '\n')
		}
		o := &b.origins[len(b.origins)-1]
		o.own = b.texts.add(own)
		o.common = b.common(b.outlines[b.outlineOf[len(b.origins)-1]].name, e.Common)
	}
	if b.texts.length > math.MaxUint32 {
		return errors.New("more text than can be kept")
	}
	return nil
}

// addTable takes in the entries of a table that was made of texts. Names get the
// numbers that reading the texts would give them.
func (b *builder) addTable(t *table, from detail) error {
	if t.base != nil || len(t.made) > 0 {
		return errors.New("merging a universe that was not compiled from texts")
	}
	text, err := t.texts.all()
	if err != nil {
		return err
	}
	start := b.texts.add(text).at
	if b.texts.length > math.MaxUint32 {
		return errors.New("more text than can be kept")
	}
	names := numbers(t.names.count(), func(i int32) int32 { return b.firstName + b.names.add(t.names.at(i), t.names.hashes[i]) })
	versions := numbers(int32(len(t.versions.starts))-1, func(i int32) int32 { return b.version(apk.Version(t.versions.at(i))) })
	for i := range t.details {
		o := t.origins[i]
		if !o.checksum.IsZero() {
			if i, known := b.known.add(b.origins, &o.checksum); known {
				b.details[i].merge(&from)
				continue
			}
		}
		o.common.at += start
		o.own.at += start
		e, d := entry{t, int32(i)}, from
		name := names(e.nameID())
		d.version, d.priority = versions(t.details[i].version), t.details[i].priority
		d.facts |= t.details[i].facts & (installable | hollow)
		d.terms = int32(len(b.terms))
		out := *e.outline()
		shift := int32(len(b.mentions)) - out.from
		for j, m := range e.terms() {
			b.mentions = append(b.mentions, names(t.mentions[int(out.from)+j]))
			b.terms = append(b.terms, newTerm(versions(m.version()), m.op(), m.conflict()))
		}
		out = outline{name, out.from + shift, out.dependsEnd + shift, out.provideEnd + shift, out.end + shift, out.plain}
		b.outlineOf = append(b.outlineOf, b.outline(out))
		b.details = append(b.details, d)
		b.origins = append(b.origins, o)
	}
	return nil
}

// numbers remembers the new number of each old one.
func numbers(n int32, renumber func(int32) int32) func(int32) int32 {
	known := make([]int32, n) // plus one
	return func(i int32) int32 {
		if known[i] == 0 {
			known[i] = renumber(i) + 1
		}
		return known[i] - 1
	}
}

// last returns what the last version of a package had that may be had again.
func (b *builder) last(name int32) *version {
	if name < b.firstName {
		return &version{}
	}
	for int(name-b.firstName) >= len(b.before) {
		b.before = append(b.before, make([]version, 1+len(b.before))...)
	}
	return &b.before[name-b.firstName]
}

// common keeps a text that another version of the package often has brought
// already.
func (b *builder) common(name int32, text []byte) span {
	last := b.last(name)
	if int(last.common.length) != len(text) || !bytes.Equal(b.texts.piece(last.common), text) {
		last.common = b.texts.add(text)
	}
	return last.common
}

// outline keeps o, whose names were mentioned just now, unless the last version of the package had the same.
func (b *builder) outline(o outline) int32 {
	last := b.last(o.name)
	if last.outline > 0 {
		l := b.outlines[last.outline-1]
		same := o.dependsEnd-o.from == l.dependsEnd-l.from && o.provideEnd-o.from == l.provideEnd-l.from
		if same && o.plain == l.plain && slices.Equal(b.mentions[o.from:o.end], b.mentions[l.from:l.end]) {
			b.mentions = b.mentions[:o.from]
			return last.outline - 1
		}
	}
	b.outlines = append(b.outlines, o)
	last.outline = int32(len(b.outlines))
	return last.outline - 1
}

// addPackage takes in a package whose fields nobody changes any more.
func (b *builder) addPackage(p *apk.Package, from detail) {
	if b.add(p, from, origin{common: wasMade, own: span{at: uint32(len(b.made))}}) {
		b.made = append(b.made, p)
	}
}

// add takes in a package, of which d and from tell whence it comes. A package with the
// checksum of an earlier one is the same package; then add reports false.
func (b *builder) add(p *apk.Package, d detail, from origin) bool {
	if !p.Checksum.IsZero() {
		if i, known := b.known.add(b.origins, &p.Checksum); known {
			b.details[i].merge(&d)
			return false
		}
	}
	d.version = b.version(p.Version)
	d.priority = int32(p.ProviderPriority)
	from.checksum = p.Checksum
	if fitFor(p, b.arch) {
		d.facts |= installable
	}
	if p.InstalledSize == 0 {
		d.facts |= hollow
	}
	d.terms = int32(len(b.terms))
	o := outline{name: b.mention(p.Name), from: int32(len(b.mentions))}
	o.dependsEnd = b.mentionAll(p.Depends)
	o.provideEnd = b.mentionAll(p.Provides)
	if !slices.ContainsFunc(p.InstallIf, unreadable) {
		b.mentionAll(p.InstallIf)
		o.plain = plainConditions(p.InstallIf)
	}
	o.end = int32(len(b.mentions))
	b.outlineOf = append(b.outlineOf, b.outline(o))
	b.details = append(b.details, d)
	b.origins = append(b.origins, from)
	return true
}

// plainConditions is what an outline says of an install_if.
func plainConditions(list []apk.Dependency) int32 {
	if slices.ContainsFunc(list, func(d apk.Dependency) bool { return d.Conflict }) {
		return -1
	}
	i := slices.IndexFunc(list, func(d apk.Dependency) bool { return d.Op != apk.Any })
	if i < 0 {
		i = len(list)
	}
	return int32(i)
}

// merge takes in another appearance of the same package.
func (d *detail) merge(o *detail) {
	d.tags |= o.tags
	d.facts |= o.facts & available
	if d.repository < 0 {
		d.repository, d.standing = o.repository, o.standing
	}
}

// fitFor reports whether apk would consider the package at all.
func fitFor(p *apk.Package, arch apk.Arch) bool {
	if p.Arch != "" && p.Arch != "noarch" && p.Arch != arch {
		return false
	}
	return !slices.ContainsFunc(p.Depends, unreadable)
}

// unreadable dependencies make a package uninstallable, and an install_if void.
func unreadable(d apk.Dependency) bool {
	return d.Op != apk.Any && !d.Valid() || d.Tag != ""
}

// mentionAll returns where the mentions end then.
func (b *builder) mentionAll(list []apk.Dependency) int32 {
	for i := range list {
		d := &list[i]
		b.mentions = append(b.mentions, b.mention(d.Name))
		b.terms = append(b.terms, newTerm(b.version(d.Version), operator(d.Op), d.Conflict))
	}
	return int32(len(b.mentions))
}

// operator returns the number of an operator in whatever spelling.
func operator(op apk.Op) uint8 {
	i := slices.Index(operators[:], op)
	if i < 0 {
		d, _ := apk.ParseDependency("x" + string(op) + "0")
		i = max(0, slices.Index(operators[:], d.Op))
	}
	return uint8(i)
}

// mention returns the number of a name, making one for a name not met before.
func (b *builder) mention(name string) int32 {
	hash := hashOf(name)
	if b.base != nil {
		if id, ok := b.base.idHashed(name, hash); ok {
			return id
		}
	}
	return b.firstName + b.names.add(name, hash)
}

func (b *builder) version(v apk.Version) int32 {
	if v == "" {
		return 0
	}
	return b.versions.add(string(v), hashOf(string(v)))
}

// checksums finds the number of an entry by its checksum.
type checksums struct {
	slots []sumSlot // a hash table; its length is a power of two
	count int
}

// A sumSlot has the beginning of a checksum, so that the entry itself is
// seldom looked at, and the entry's number plus one.
type sumSlot struct {
	begin uint32
	entry int32
}

// add returns the number of the entry that has the checksum, or notes that the
// next one will have it.
func (c *checksums) add(entries []origin, sum *apk.Checksum) (i int32, known bool) {
	if 4*c.count >= 3*len(c.slots) {
		c.grow(2 * len(c.slots))
	}
	begin := binary.LittleEndian.Uint32(sum[:])
	mask := uint32(len(c.slots) - 1)
	for at := begin & mask; ; at = (at + 1) & mask {
		switch s := &c.slots[at]; {
		case s.entry == 0:
			*s = sumSlot{begin, int32(len(entries)) + 1}
			c.count++
			return 0, false
		case s.begin == begin && entries[s.entry-1].checksum == *sum:
			return s.entry - 1, true
		}
	}
}

func (c *checksums) grow(n int) {
	old := c.slots
	c.slots = make([]sumSlot, max(1024, n))
	mask := uint32(len(c.slots) - 1)
	for _, s := range old {
		at := s.begin & mask
		for s.entry != 0 && c.slots[at].entry != 0 {
			at = (at + 1) & mask
		}
		if s.entry != 0 {
			c.slots[at] = s
		}
	}
}
