package solve

// discover finds all that the world can lead to, depth first, and gives each
// name its place in the order of decisions. That order is part of the law:
// among names that wait for a decision the marked come before the rest, names
// of packages before names that are only provided, and those discovered later
// before those discovered earlier, where a name counts as discovered when all
// that its candidates depend on is.
//
// This is most of the work of solving a small world over a large index, and
// therefore runs over the bare numbers of the table.
func (p *problem) discover() {
	d := discovery{
		table:  p.table,
		news:   make([]news, p.nameCount()),
		order:  make([]int32, p.nameCount()),
		packs:  make([]progress, p.entryCount()),
		marked: p.marked(),
	}
	for _, w := range p.world {
		if id, ok := p.id(w.Name); ok && !w.broken {
			d.visit(id)
		}
	}
	p.places, p.news = d.order, d.news
}

// marked returns the names that are to be decided first.
func (p *problem) marked() map[int32]bool {
	marked := map[int32]bool{}
	if p.options.Marks == nil {
		for _, w := range p.world {
			if id, ok := p.id(w.Name); ok {
				marked[id] = true
			}
		}
	}
	for text := range p.options.Marks {
		if id, ok := p.id(text); ok {
			marked[id] = true
		}
	}
	return marked
}

// The order of a name is its number in the order of discovery, and these.
const (
	orderReal   = 1 << 29
	orderMarked = 1 << 30
)

type discovery struct {
	*table
	news   []news
	order  []int32
	packs  []progress
	marked map[int32]bool
	number int32
}

// progress is how far discovery is with a package.
type progress uint8

const (
	entered progress = 1 << iota // what it depends on is discovered, or being so
	spread                       // what it provides is discovered
)

func (d *discovery) visit(n int32) {
	if d.news[n] != 0 {
		return
	}
	d.news[n] = isReached
	candidates := d.candidates.of(n)
	order, conditional := int32(0), false
	var done *outline // versions mention the same names
	for _, r := range candidates {
		e := d.entry(r.entry)
		o := e.outline()
		if d.packs[r.entry]&entered == 0 {
			d.packs[r.entry] |= entered
			if o != done {
				d.visitAll(e.depends())
				done = o
			}
		}
		if o.name == n {
			order = orderReal
		}
		conditional = conditional || o.conditional()
	}
	d.visitAll(d.waiting.of(n))
	done = nil
	for _, r := range candidates {
		if d.packs[r.entry]&spread != 0 {
			continue
		}
		if e := d.entry(r.entry); e.outline() != done {
			done = e.outline()
			d.visitAll(d.waiting.of(done.name))
			d.visitAll(e.provides())
		}
		d.packs[r.entry] |= spread
	}
	d.number++
	order |= d.number
	if d.marked[n] {
		order |= orderMarked
	}
	d.order[n] = order
	if conditional {
		for _, r := range candidates {
			d.visitAll(d.entry(r.entry).installIf())
		}
	}
}

func (d *discovery) visitAll(names []int32) {
	for _, n := range names {
		if d.news[n] == 0 {
			d.visit(n)
		}
	}
}
