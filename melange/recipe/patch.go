package recipe

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/document"
)

// A PatchStep is a step of the origin's own that applies patches.
type PatchStep struct {
	Pos         document.Pos
	Dir         string   // where it does, relative to the workspace
	Patches     []string // relative to the workspace; empty when Series names them
	Series      string   // relative to the workspace
	Strip, Fuzz int
	List        document.String // where Patches are written; empty when Series is
}

// patchPipelines apply what patches: names.
var patchPipelines = []string{"patch", "git-am"}

// PatchSteps lists the steps of the origin's pipeline that apply patches, in order.
func (r *Recipe) PatchSteps(o PlanOptions) ([]PatchStep, error) {
	o.BuildArch = o.Arch
	p, err := r.named(o)
	if err != nil {
		return nil, err
	}
	steps := p.patchSteps(nil, r.Pipeline, frame{scope: p.packages[0].scope})
	return steps, p.errs.Err()
}

func (p *planner) patchSteps(list []PatchStep, steps []PipelineStep, f frame) []PatchStep {
	for i := range steps {
		n := &steps[i]
		if !p.holds(n.If, f.scope) {
			continue
		}
		inner := p.enter(n, f)
		if slices.Contains(patchPipelines, n.Uses.Value) {
			list = append(list, p.patchStep(n, inner))
		}
		list = p.patchSteps(list, n.Pipeline, inner)
	}
	return list
}

func (p *planner) patchStep(n *PipelineStep, f frame) PatchStep {
	text := func(name string) (document.String, string) {
		t, _ := n.With.Lookup(name)
		return t, strings.TrimSpace(p.expand(t, f.scope))
	}
	number := func(name string, otherwise int) int {
		t, s := text(name)
		if s == "" {
			return otherwise
		}
		v, err := strconv.Atoi(s)
		if err != nil {
			p.errs.Add(t.Pos, "", "%s: want a number, found %q", name, s)
		}
		return v
	}
	s := PatchStep{Pos: n.Pos, Strip: number("strip-components", 1), Fuzz: number("fuzz", 2)}
	inWorkspace := func(name string, pos document.Pos) string {
		name = path.Join(f.absolute(), name)
		rest, ok := strings.CutPrefix(name+"/", Workspace+"/")
		if !ok {
			p.errs.Add(pos, "", "%s is not in the workspace", name)
		}
		return path.Clean(strings.TrimSuffix(rest, "/"))
	}
	s.Dir = inWorkspace(".", n.Pos)
	if t, series := text("series"); series != "" {
		s.Series = inWorkspace(series, t.Pos)
		return s
	}
	t, names := text("patches")
	s.List = literal(t, f.scope)
	for name := range strings.FieldsSeq(names) {
		s.Patches = append(s.Patches, inWorkspace(name, t.Pos))
	}
	return s
}
