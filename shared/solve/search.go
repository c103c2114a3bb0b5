package solve

import (
	"container/heap"
	"slices"

	"distro.internal/shared/apk"
)

// The search decides one name after another and never takes a decision back.
// What saves it from most wrong turns is that it looks before it decides:
//
//   - A constraint on a name closes every package under that name that does
//     not fit (constrain, closePack).
//   - A closed package may leave others without what they need; the names of
//     those are looked at again, and they are closed in turn (review).
//   - What all open candidates of a wanted name have in common holds whichever
//     is chosen: names that they all depend on are wanted, and another name
//     that they all provide can only go to someone who also provides this one.
//   - A name with one open candidate left, and with no undecided name that
//     could still constrain it, is decided at once (forced). Only then come
//     those that need a choice, in the order that discovery gave them.
//
// A package with an install_if waits until all its conditions are decided and
// hold. Then its name is due for a decision even though nobody wants it.
//
// Where the search runs into a wall it goes on, for the sake of the explanation:
// it takes the best of the closed candidates and counts a failure.

type search struct {
	*problem
	dirty    []int32 // names to be reviewed, first come first served
	forced   []*name
	queues   [2]queue // ready and stuck: names to be decided when none is forced
	failures int
	unmet    []*name // wanted names that went to nobody
}

// News is what has happened to a name since it was reviewed. Most names that something happens to are never looked at,
// and are no more than this.
type news uint8

const (
	isReached         news = 1 << iota // discovery came by: others do not count
	isOpen                             // wanted and not decided: any news is to be looked at
	isDirty                            // it will be
	dependsChanged                     // a dependency of a candidate may have become impossible
	conditionsChanged                  // a condition of a candidate may have become true or false
)

// What the search knows about a name.
type nameState struct {
	demand   int   // how many want it
	wantedBy *pack // the first of them; nil: the world
	decided  bool
	chosen   candidate // no pack: it went to nobody

	queued    queueKind
	triggered bool // a candidate's install_if holds
	dead      bool // no candidate has an install_if that could still come true
	choice    bool // more than one open candidate, or one not allowed by its tag
	ready     bool // some candidate may be chosen without being named
	settled   bool // all that could still constrain it are decided
	probed    bool // an install_if hangs on its absence: decide it even if nobody wants it

	commonDepends  int // see review
	commonProvides int
	commonVirtual  bool

	commitState
}

// What the search knows about a package.
type packState struct {
	open      bool // can still be chosen
	conflicts int  // constraints that it does not fit
	usable    bool // took part in the last merging of its name's candidates
	merging   bool
	triggered bool // its install_if holds
	barred    bool // it has none, or one that can not come true any more

	had          uint64 // the tags that it can be had under, that of its installation among them
	tagsAllowed  uint64
	tagOK        bool // may be chosen, as far as tags go
	tagPreferred bool
	flags        Flags
	inherit      Flags // for what it depends on

	committed bool
	rejected  int32    // why it was closed: its number in rejections, plus one
	failed    *failure // what is wrong with having chosen it
}

func (s *search) run() {
	s.applyMarks()
	for i := range s.world {
		if w := &s.world[i]; !w.broken {
			s.constrain(nil, &w.dep, w.tags)
		}
	}
	for {
		s.reviewDirty()
		n := s.next()
		if n == nil {
			return
		}
		s.decide(n)
	}
}

func (s *search) applyMarks() {
	for text, m := range s.options.Marks { // in any order: flags only add up
		id, ok := s.id(text)
		if !ok {
			continue
		}
		for _, c := range s.candidatesOf(s.nameOf(id)) {
			c.flags |= m.Flags
			c.inherit |= m.Inherit
		}
	}
}

// fits reports whether c is what d asks for. by is the package with the
// dependency: it does not conflict with itself.
func fits(d dep, by *pack, c candidate) bool {
	if c.pack == nil || d.conflict && c.pack == by {
		return d.conflict
	}
	switch op := operators[d.op]; op {
	case apk.Any:
		return !d.conflict
	case apk.SameChecksum:
		return d.dependency().SatisfiedBy(c.version, c.origin().checksum)
	default:
		return op.Match(c.version, d.version) != d.conflict // SatisfiedBy without the copies
	}
}

// possible reports whether something that satisfies d can still be chosen.
func (s *search) possible(d dep, by *pack) bool {
	n := d.name
	if n.decided {
		return fits(d, by, n.chosen)
	}
	if n.demand == 0 && fits(d, by, candidate{}) {
		return true
	}
	for _, c := range s.candidatesOf(n) {
		if c.open && fits(d, by, c) {
			return true
		}
	}
	return false
}

// constrain applies a dependency: of the world, under tags, when by is nil.
func (s *search) constrain(by *pack, d *dep, tags uint64) {
	n := d.name
	if !d.conflict {
		if n.demand++; n.demand == 1 {
			s.wantedNow(n, by)
		}
	}
	for _, c := range s.candidatesOf(n) {
		fit := fits(*d, by, c)
		if !fit {
			c.conflicts++
		}
		if c.conflicts > 0 && c.open {
			s.closePack(c.pack, rejection{kind: byConstraint, by: by, dependency: d})
		}
		switch {
		case fit && by != nil:
			c.inheritFrom(by)
		case fit:
			c.inheritFromWorld(s.options.Flags, tags)
		}
	}
}

func (s *search) wantedNow(n *name, by *pack) {
	n.wantedBy = by
	s.enqueue(n, false)
	s.recheckWaiting(n.id)
	if n.id >= 0 && !n.decided {
		s.tell(n.id, isOpen)
	}
}

// inheritFrom hands on what a package demands of what it depends on.
func (k *pack) inheritFrom(by *pack) {
	k.flags |= by.inherit
	k.inherit |= by.inherit
	k.tagsAllowed |= by.tagsAllowed
	k.tagOK = k.tagOK || k.had&k.tagsAllowed != 0
}

func (k *pack) inheritFromWorld(f Flags, tags uint64) {
	k.flags |= f
	k.inherit |= f
	k.tagsAllowed |= tags
	k.tagPreferred = k.had&tags != 0
	k.tagOK = k.tagOK || k.had&k.tagsAllowed != 0
}

// closePack takes a package out of the choice, and has everybody look again
// who counted on it.
func (s *search) closePack(k *pack, why rejection) {
	if k.open {
		s.rejections = append(s.rejections, why)
		k.rejected = int32(len(s.rejections))
	}
	k.open = false
	s.recheckDependents(k.name.id)
	for _, id := range k.entry.provides() {
		s.recheckDependents(id)
	}
	s.recheckWaitingFor(k)
}

func (s *search) recheckDependents(on int32) {
	for _, id := range s.dependents.of(on) {
		switch was := s.news[id]; {
		case was&(isReached|dependsChanged) == isReached:
			s.tell(id, dependsChanged)
		case was&(isReached|isOpen|isDirty) == isReached|isOpen:
			s.tell(id, 0)
		}
	}
}

func (s *search) recheckWaiting(on int32) {
	for _, id := range s.waiting.of(on) {
		if n := s.values[id]; s.news[id]&isReached != 0 && (n == nil || !n.decided && !s.isDead(n)) {
			s.tell(id, conditionsChanged)
		}
	}
}

// isDead reports whether no candidate of the name has an install_if that could still come true.
func (s *search) isDead(n *name) bool {
	s.candidatesOf(n)
	return n.dead
}

func (s *search) recheckWaitingFor(k *pack) {
	s.recheckWaiting(k.name.id)
	for _, id := range k.entry.provides() {
		s.recheckWaiting(id)
	}
}

// tell notes what happened to a name, which is not decided.
func (s *search) tell(id int32, what news) {
	now := s.news[id] | what
	if now&(isOpen|conditionsChanged) != 0 && now&isDirty == 0 {
		now |= isDirty
		s.dirty = append(s.dirty, id)
	}
	s.news[id] = now
}

func (s *search) reviewDirty() {
	for len(s.dirty) > 0 {
		id := s.dirty[0]
		s.dirty = s.dirty[1:]
		s.news[id] &^= isDirty
		if s.values[id] == nil && s.idle(id) {
			s.news[id] &^= conditionsChanged
			continue
		}
		if n := s.nameOf(id); !n.decided && (s.news[id]&isOpen != 0 || !s.isDead(n)) {
			s.review(n)
		}
	}
}

// idle reports whether nothing can come of a name that was never looked at and has no other news than of conditions:
// each candidate has one that is not decided, and none before it that could have failed. So most packages that come along
// with something common, such as those with manuals, are never looked at.
func (s *search) idle(id int32) bool {
	if s.news[id]&(isOpen|dependsChanged) != 0 {
		return false
	}
	var done *outline
	for _, r := range s.candidates.of(id) {
		e := s.entry(r.entry)
		o := e.outline()
		if o != done && o.conditional() && !s.pending(e.installIf(), o.plain) {
			return false
		}
		done = o
	}
	return true
}

// pending reports whether the first condition that does not hold is not decided, if that can be told from the names: of
// those that take any version.
func (s *search) pending(conditions []int32, plain int32) bool {
	for i, id := range conditions {
		switch n := s.values[id]; {
		case int32(i) > plain:
			return false
		case n == nil || !n.decided:
			return true
		case n.chosen.pack == nil:
			return false
		}
	}
	return false
}

// review looks at a name again: which candidates are still open, and what all
// of them have in common.
func (s *search) review(n *name) {
	wasReady := n.ready
	first, options := s.survey(n)
	if first != nil {
		for _, c := range n.candidates {
			c.usable = c.merging
		}
		s.propagate(n, first, options)
	}
	n.settled = !slices.ContainsFunc(s.dependents.of(n.id), s.undecided)
	s.enqueue(n, n.ready != wasReady)
}

// survey checks the candidates of a name anew. If the name is wanted it
// returns the first open one and how many there are.
func (s *search) survey(n *name) (first *pack, options int) {
	news := s.news[n.id]
	s.news[n.id] &^= dependsChanged | conditionsChanged
	n.triggered, n.dead, n.ready = false, true, false
	foreign := 0
	for _, c := range s.candidatesOf(n) {
		c.merging = false
		if c.open && news&dependsChanged != 0 {
			s.checkDepends(c.pack)
		}
		if !c.open {
			continue
		}
		if news&conditionsChanged != 0 {
			s.checkInstallIf(c.pack)
		}
		n.triggered = n.triggered || c.triggered
		n.dead = n.dead && c.barred
		n.ready = n.ready || c.triggered
		if n.demand == 0 {
			continue
		}
		if first == nil {
			first = c.pack
		}
		c.merging = true
		c.tally(options)
		options++
		if !c.tagOK {
			foreign++
		}
		n.ready = n.ready || c.selectable()
	}
	n.choice = options > 1 || foreign > 0
	return first, options
}

// undecided reports whether the search can still decide the name.
func (s *search) undecided(id int32) bool {
	n := s.values[id]
	return s.news[id]&isReached != 0 && (n == nil || !n.decided)
}

// selectable reports whether the candidate may be chosen without being named:
// something provided without a version needs a priority, or somebody who wants
// its package.
func (c candidate) selectable() bool {
	return c.version != "" || c.priority != 0 || c.name.demand > 0
}

func (s *search) checkDepends(k *pack) {
	for i := range k.depends() {
		d := &k.depends()[i]
		if !s.possible(*d, k) {
			s.closePack(k, rejection{kind: byDependency, dependency: d})
			return
		}
	}
}

// checkInstallIf finds out whether k's install_if holds by now.
func (s *search) checkInstallIf(k *pack) {
	if !k.triggered && !k.barred {
		k.triggered = s.holds(k)
	}
	if !k.triggered {
		return
	}
	for _, d := range k.installIf() {
		if by := d.name.chosen.pack; by != nil {
			k.inheritFrom(by)
		} else {
			k.tagPreferred = false // the absence of something prefers no tag
		}
	}
}

func (s *search) holds(k *pack) bool {
	for _, d := range k.installIf() {
		if !d.name.decided {
			if d.conflict {
				d.name.probed = true
				s.enqueue(d.name, false)
			}
			return false
		}
		if !fits(d, k, d.name.chosen) {
			k.barred = true
			return false
		}
	}
	return true
}

// tally counts the candidate into the names that all candidates so far, of
// which there are n, depend on or provide. Only those are raised to n+1 which
// stand at n, so what stands at the number of candidates in the end is common
// to all.
func (c candidate) tally(n int) {
	for _, d := range c.depends() {
		if !d.conflict && d.name.commonDepends == n {
			d.name.commonDepends = n + 1
		}
	}
	c.name.tallyProvided(n, c.version)
	for _, d := range c.provides() {
		d.name.tallyProvided(n, d.version)
	}
}

func (n *name) tallyProvided(count int, v apk.Version) {
	if n.commonProvides == count {
		n.commonProvides = count + 1
		n.commonVirtual = n.commonVirtual || v == ""
	}
}

// propagate applies what all open candidates of n have in common, given one of
// them and how many they are.
func (s *search) propagate(n *name, first *pack, options int) {
	for i := range first.depends() {
		d := &first.depends()[i]
		common := d.name.commonDepends == options
		d.name.commonDepends = 0
		switch {
		case !common:
		case options == 1:
			s.constrain(first, d, 0)
		case d.name.demand == 0:
			d.name.demand++
			s.wantedNow(d.name, first)
			for _, c := range s.candidatesOf(d.name) {
				c.inheritFrom(first)
			}
		}
	}
	s.claim(first.name, n, options)
	for _, d := range first.provides() {
		s.claim(d.name, n, options)
	}
	first.name.commonVirtual = false
	for _, d := range first.provides() {
		d.name.commonVirtual = false
	}
}

// claim closes the candidates of a name that all candidates of n provide too:
// whoever gets n gets it as well. Those that can stand beside it stay.
func (s *search) claim(claimed, n *name, options int) {
	common := claimed.commonProvides == options
	claimed.commonProvides = 0
	if !common || claimed == n {
		return
	}
	virtual := claimed.commonVirtual
	for _, c := range s.candidatesOf(claimed) {
		if c.open && c.name != n && !(virtual && c.version == "") && !c.goesWith(n, virtual) {
			s.closePack(c.pack, rejection{kind: byClaim, name: claimed, claimant: n})
		}
	}
}

func (c candidate) goesWith(n *name, virtual bool) bool {
	for _, d := range c.provides() {
		if d.name == n || virtual && d.version == "" {
			return true
		}
	}
	return false
}

// decide gives a name to the best of its candidates, or to nobody.
func (s *search) decide(n *name) {
	best := s.best(n)
	if best.pack == nil {
		s.assign(n, candidate{})
		if n.demand > 0 {
			s.failures++
			s.unmet = append(s.unmet, n)
		}
		return
	}
	k := best.pack
	switch {
	case !k.open:
		s.fail(k, failure{kind: chosenClosed})
	case !k.tagOK:
		s.fail(k, failure{kind: chosenUntagged})
	}
	s.assign(k.name, candidate{k, k.entry.version()})
	for _, d := range k.provides() {
		s.assign(d.name, candidate{k, d.version})
	}
	for i := range k.depends() {
		s.constrain(k, &k.depends()[i], 0)
	}
}

func (s *search) best(n *name) candidate {
	var best candidate
	if n.demand == 0 && !n.triggered {
		return best
	}
	for _, c := range s.candidatesOf(n) {
		if n.demand == 0 && !(c.triggered && c.tagOK && c.open) || !c.selectable() {
			continue
		}
		if best.pack == nil || s.prefer(c, best) > 0 {
			best = c
		}
	}
	return best
}

// assign gives a name away for good. Who else goes by it is out, unless both
// do so without a version.
func (s *search) assign(n *name, c candidate) {
	if n.decided {
		if c.version != "" || n.chosen.version != "" {
			s.fail(c.pack, failure{kind: providedTwice, name: n, other: n.chosen.pack})
			s.fail(n.chosen.pack, failure{kind: providedTwice, name: n, other: c.pack})
		}
		return
	}
	n.decided, n.chosen = true, c
	if n.id >= 0 {
		s.news[n.id] &= isReached
	}
	if c.pack != nil && n.demand == 0 && c.triggered {
		for i := range c.installIf() {
			if d := &c.installIf()[i]; !d.name.decided {
				s.constrain(c.pack, d, 0)
			}
		}
	}
	for _, o := range s.candidatesOf(n) {
		if o.pack != c.pack && (c.version != "" || o.version != "") {
			s.closePack(o.pack, rejection{kind: byRival, name: n, by: c.pack})
		}
	}
	s.recheckDependents(n.id)
	if c.pack != nil {
		s.recheckWaitingFor(c.pack)
	} else {
		s.recheckWaiting(n.id)
	}
}

// fail counts a failure of k; only its first counts.
func (s *search) fail(k *pack, why failure) {
	if k != nil && k.failed == nil {
		k.failed = &why
		s.failures++
	}
}

type queueKind int8

const (
	notQueued queueKind = iota
	inReady             // queues[0]: some candidate can be chosen
	inStuck             // queues[1]: none can, yet
	inForced
)

// enqueue puts a name where it belongs among those to be decided; again says
// that it may belong elsewhere than when it was put there.
func (s *search) enqueue(n *name, again bool) {
	if n.decided {
		return
	}
	forced := n.settled && n.demand > 0 && n.ready && !n.choice
	switch {
	case n.queued == inForced:
		return
	case n.queued == notQueued:
		if n.demand == 0 && !n.triggered && !n.probed {
			return
		}
	case !forced && !again:
		return
	}
	if forced {
		n.queued = inForced
		s.forced = append(s.forced, n)
		return
	}
	n.queued = inStuck
	if n.ready {
		n.queued = inReady
	}
	heap.Push(&s.queues[n.queued-inReady], n)
}

// next takes the name to decide now out of the queues. A name that has been
// decided meanwhile, or moved to another queue, is passed over.
func (s *search) next() *name {
	for len(s.forced) > 0 {
		n := s.forced[0]
		s.forced = s.forced[1:]
		if !n.decided {
			return n
		}
	}
	for i := range s.queues {
		for q := &s.queues[i]; q.Len() > 0; {
			n := heap.Pop(q).(*name)
			if !n.decided && n.queued == inReady+queueKind(i) {
				return n
			}
		}
	}
	return nil
}

// A queue is a heap of names, the one with the highest order on top.
type queue []*name

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].order > q[j].order }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*name)) }
func (q *queue) Pop() any {
	old := *q
	n := old[len(old)-1]
	*q = old[:len(old)-1]
	return n
}
