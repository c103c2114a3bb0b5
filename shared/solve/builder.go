package solve

import (
	"encoding/binary"
	"slices"

	"distro.internal/shared/apk"
)

// A builder fills an empty table with packages, in the order in which apk
// would read them.
type builder struct {
	*table
	arch  apk.Arch
	known checksums
}

func newBuilder(base *table, arch apk.Arch, packages int) *builder {
	t := &table{base: base}
	if base != nil {
		t.firstName, t.firstEntry = base.nameCount(), base.entryCount()
	}
	t.nodes = make([]node, 0, packages+1)
	t.details = make([]detail, 0, packages)
	t.origins = make([]origin, 0, packages)
	t.versions.add("", hashOf(""))
	return &builder{table: t, arch: arch}
}

// done ends the table. One without a base also gets to know who goes by a name.
func (b *builder) done() *table {
	t := b.table
	t.nodes = append(t.nodes, node{mentions: int32(len(t.mentions))})
	if t.base == nil {
		t.candidates = newLists(t.nameCount(), func(yield func(int32, ref)) {
			for i := range t.details {
				entry{t, int32(i)}.goesBy(int32(i), yield)
			}
		})
	}
	return t
}

// addText takes in the packages of an index, as they are told apart by their
// place in its text.
func (b *builder) addText(text string, from detail) error {
	start := b.texts.length()
	b.texts.list = append(b.texts.list, text)
	return apk.ReadEntries(text, func(at, length int, p *apk.Package) {
		b.add(p, from, origin{at: start + uint64(at), length: uint32(length)})
	})
}

// addPackage takes in a package whose fields nobody changes any more.
func (b *builder) addPackage(p *apk.Package, from detail) {
	if b.add(p, from, origin{at: uint64(len(b.made))}) {
		b.made = append(b.made, p)
	}
}

// add takes in a package, of which d and o tell whence it comes. A package with the
// checksum of an earlier one is the same package; then add reports false.
func (b *builder) add(p *apk.Package, d detail, o origin) bool {
	if !p.Checksum.IsZero() {
		if i, known := b.known.add(b.origins, &p.Checksum); known {
			b.details[i].merge(&d)
			return false
		}
	}
	d.version = b.version(p.Version)
	d.priority = int32(p.ProviderPriority)
	o.checksum = p.Checksum
	if fitFor(p, b.arch) {
		d.facts |= installable
	}
	if p.InstalledSize == 0 {
		d.facts |= hollow
	}
	n := node{name: b.mention(p.Name), mentions: int32(len(b.mentions))}
	b.mentionAll(p.Depends)
	n.dependsEnd = int32(len(b.mentions))
	b.mentionAll(p.Provides)
	n.provideEnd = int32(len(b.mentions))
	if !slices.ContainsFunc(p.InstallIf, unreadable) {
		b.mentionAll(p.InstallIf)
	}
	b.nodes = append(b.nodes, n)
	b.details = append(b.details, d)
	b.origins = append(b.origins, o)
	return true
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

func (b *builder) mentionAll(list []apk.Dependency) {
	for i := range list {
		d := &list[i]
		b.mentions = append(b.mentions, b.mention(d.Name))
		b.terms = append(b.terms, newTerm(b.version(d.Version), operator(d.Op), d.Conflict))
	}
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
	slots []int32 // a hash table of numbers plus one; its length is a power of two
	count int
}

// add returns the number of the entry that has the checksum, or notes that the
// next one will have it.
func (c *checksums) add(entries []origin, sum *apk.Checksum) (i int32, known bool) {
	if 2*c.count >= len(c.slots) {
		c.grow(entries)
	}
	slot, i := c.find(entries, sum)
	if i >= 0 {
		return i, true
	}
	c.slots[slot] = int32(len(entries)) + 1
	c.count++
	return 0, false
}

func (c *checksums) find(entries []origin, sum *apk.Checksum) (slot int, i int32) {
	mask := len(c.slots) - 1
	slot = int(binary.LittleEndian.Uint32(sum[:])) & mask
	for ; ; slot = (slot + 1) & mask {
		if i = c.slots[slot] - 1; i < 0 || entries[i].checksum == *sum {
			return slot, i
		}
	}
}

func (c *checksums) grow(entries []origin) {
	c.slots = make([]int32, max(1024, 2*len(c.slots)))
	for i := range entries {
		if sum := &entries[i].checksum; !sum.IsZero() {
			slot, _ := c.find(entries, sum)
			c.slots[slot] = int32(i) + 1
		}
	}
}
