package recipe

// Pinned says whether a source names what it yields: by digest, commit or sum, or, as a go.sum does, by what other
// sources hold.
func (s Source) Pinned() bool {
	switch s.Kind {
	case SourceFetch:
		return s.SHA256 != "" || s.SHA512 != ""
	case SourceGit:
		return s.Commit != ""
	case SourceModule:
		return s.Sum != ""
	}
	return true
}

// Pin returns a plan in which every source is pinned: those that were not are what pin makes of them, which is the
// source with a digest, commit or sum. The plan itself stays as it is.
func (p *Plan) Pin(pin func(Source) (Source, error)) (*Plan, error) {
	pinned := *p
	var err error
	if pinned.Sources, err = pinSources(p.Sources, pin); err != nil {
		return nil, err
	}
	pinned.Tests = append([]Test(nil), p.Tests...)
	for i, t := range p.Tests {
		if pinned.Tests[i].Sources, err = pinSources(t.Sources, pin); err != nil {
			return nil, err
		}
	}
	return &pinned, nil
}

func pinSources(sources []Source, pin func(Source) (Source, error)) ([]Source, error) {
	pinned := append([]Source(nil), sources...)
	for i, s := range sources {
		if s.Pinned() {
			continue
		}
		var err error
		if pinned[i], err = pin(s); err != nil {
			return nil, err
		}
	}
	return pinned, nil
}
