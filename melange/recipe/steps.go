package recipe

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/document"
)

// Step is one run of /bin/sh, or of a portable program.
type Step struct {
	Name      string            // for people; may be empty
	Uses      string            // the pipelines that it comes from, "/"-less path joined by " > "; empty for the recipe's own
	Script    string            // shell text
	Module    *Module           `json:",omitempty"` // in place of a script
	Check     *Check            `json:",omitempty"` // in place of a script
	Dir       string            // absolute; made when it is missing
	Env       map[string]string // over the environment's; nil for none
	Output    string            // the package that the step works for
	Network   bool              // it may talk to the network
	Pos       document.Pos      // the step in the recipe
	ScriptPos document.Pos      // the text, in the recipe or in a pipeline file
}

// run is what a pipeline comes down to.
type run struct {
	steps   []Step
	sources []Source
	needs   []wanted
}

// A frame is what a step inherits from those around it.
type frame struct {
	scope   *scope
	dir     string
	env     map[string]string
	uses    []string     // the pipelines that are open, outermost first
	pos     document.Pos // the step in the recipe; zero while still there
	output  string
	network bool
}

func (p *planner) steps(list []PipelineStep, s subject) run {
	var r run
	f := frame{scope: s.scope, output: s.name}
	for i := range list {
		p.node(&list[i], f, &r)
	}
	return r
}

// node plans a step with all below it and says whether its condition held.
func (p *planner) node(n *PipelineStep, f frame, r *run) bool {
	if !p.holds(n.If, f.scope) {
		return false
	}
	f = p.enter(n, f)
	r.needs = append(r.needs, p.want(n.Needs.Packages, f.scope)...)
	switch {
	case n.Uses.Value != "" && len(n.Pipeline) == 0:
		p.use(n, f, r)
	case n.Source.Value != "":
		p.source(n, f, r)
	case n.Wasm.Value != "":
		p.portable(n, f, r)
	case n.Check.Value != "":
		p.check(n, f, r)
	case strings.TrimSpace(n.Runs.Value) != "":
		r.steps = append(r.steps, p.leaf(n, f))
	}
	p.children(n, f, r)
	return true
}

// enter is the frame for what is in the node.
func (p *planner) enter(n *PipelineStep, f frame) frame {
	if len(f.uses) == 0 {
		f.pos = n.Pos
	}
	if n.WorkingDirectory.Value != "" {
		f.dir = p.expand(n.WorkingDirectory, f.scope)
	}
	if len(n.Environment) > 0 {
		f.env = maps.Clone(f.env)
		if f.env == nil {
			f.env = map[string]string{}
		}
		p.merge(f.env, n.Environment, f.scope)
	}
	for _, o := range n.Options {
		f.network = f.network || o.Value == optionNetwork
	}
	return f
}

func (p *planner) leaf(n *PipelineStep, f frame) Step {
	script, ok := p.try(n.Runs, f.scope)
	if ok && p.options.CheckShell {
		p.checkShell(n.Runs, script)
	}
	s := p.step(n, f)
	s.Script, s.Network, s.ScriptPos = script, f.network, n.Runs.Pos
	return s
}

// step is what a step is, whatever it runs.
func (p *planner) step(n *PipelineStep, f frame) Step {
	return Step{
		Name:   p.forPeople(n.Name, f.scope),
		Uses:   strings.Join(f.uses, " > "),
		Dir:    f.absolute(),
		Env:    f.env,
		Output: f.output,
		Pos:    f.pos,
	}
}

func (f frame) absolute() string {
	if path.IsAbs(f.dir) {
		return path.Clean(f.dir)
	}
	return path.Join(Workspace, f.dir)
}

func (p *planner) children(n *PipelineStep, f frame, r *run) {
	ran := 0
	for i := range n.Pipeline {
		if p.node(&n.Pipeline[i], f, r) {
			ran++
		}
	}
	want := n.Assertions.RequiredSteps
	if want.Value == "" {
		return
	}
	count, err := strconv.Atoi(p.expand(want, f.scope))
	switch {
	case err != nil:
		p.errs.Add(want.Pos, "", "%q is not a number of steps", want.Value)
	case count != ran && count > 0:
		p.errs.Add(want.Pos, "", "want %d of the %d steps to run, but the conditions leave %d", count, len(n.Pipeline), ran)
	}
}

// use plans the pipeline that the node names.
func (p *planner) use(n *PipelineStep, f frame, r *run) {
	name := p.expand(n.Uses, f.scope)
	if slices.Contains(f.uses, name) {
		p.errs.Add(n.Uses.Pos, "", "pipeline %s uses itself: %s", name, strings.Join(append(slices.Clone(f.uses), name), " -> "))
		return
	}
	def, err := p.options.Library.pipeline(name)
	switch {
	case errors.Is(err, errNoPipeline):
		p.errs.Add(n.Uses.Pos, document.DidYouMean(name, p.options.Library.Names()), "unknown pipeline %q", name)
		return
	case err != nil:
		p.errs.AddError(n.Uses.Pos, err)
		return
	}
	body, ok := p.inputs(n, def, f.scope)
	if !ok {
		return
	}
	f.scope = body
	f.uses = append(slices.Clip(f.uses), name)
	root := *def
	if n.Name.Value != "" {
		root.Name = n.Name
	}
	p.node(&root, f, r)
}

// inputs makes the scope of a pipeline's body: the caller's, with the inputs on top. A value that is given may use the
// caller's names, then those of other inputs; a default uses the body's.
// It says whether all that are required are there.
func (p *planner) inputs(n, def *PipelineStep, caller *scope) (body *scope, ok bool) {
	body, ok = child(caller), true
	given := &scope{parent: caller, fallback: body}
	var names []string
	for _, in := range def.Inputs {
		names = append(names, in.Key.Value)
		d := &definition{name: "inputs." + in.Key.Value, text: in.Value.Default, in: body}
		if value, ok := n.With.Lookup(in.Key.Value); ok && value.Value != "" {
			d.text, d.in = value, given
		} else if in.Value.Required && d.text.Value == "" {
			p.errs.Add(n.Uses.Pos, "", "pipeline %s wants the input %q", n.Uses.Value, in.Key.Value)
			ok = false
		}
		body.names[d.name] = d
	}
	for _, w := range n.With {
		if !slices.Contains(names, w.Key.Value) {
			p.errs.Add(w.Key.Pos, document.DidYouMean(w.Key.Value, names), "pipeline %s has no input %q", n.Uses.Value, w.Key.Value)
		}
	}
	for _, in := range def.Inputs {
		p.value("inputs."+in.Key.Value, body, n.Uses.At, 0)
	}
	return body, ok
}
