package recipe

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
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

// Title is what people know the step by.
func (s Step) Title() string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Uses != "":
		return s.Uses
	case s.Module != nil:
		return s.Module.Name
	}
	first, _, _ := strings.Cut(strings.TrimSpace(s.Script), "\n")
	return first
}

// Node is a step as it stands in the recipe or in a pipeline that the recipe uses, decided. The nodes of a pipeline are a
// tree, which has the same steps and sources in it as the plan has in its lists. What a condition excludes is not there.
type Node struct {
	Name    string
	Uses    string            // a pipeline: Nodes are its steps
	With    map[string]string // what it is given, see [planner.given]
	Dir     string            // as written here or further out
	Env     map[string]string // over the environment's; with what is set further out
	Steps   []Step            // of its own, before those of Nodes
	Sources []Source
	Nodes   []Node
}

// run is what a pipeline comes down to.
type run struct {
	steps   []Step
	sources []Source
	needs   []Written
	nodes   []Node
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
	runner  apk.Arch // of the machine that runs the step
	inner   bool     // there is a step around
}

func (p *planner) steps(list []PipelineStep, s subject, network bool, runner apk.Arch) run {
	var r run
	r.nodes = p.nodes(list, frame{scope: s.scope, output: s.name, network: network, runner: runner}, &r)
	return r
}

// nodes plans the steps whose conditions hold.
func (p *planner) nodes(list []PipelineStep, f frame, r *run) []Node {
	var nodes []Node
	for i := range list {
		if n := &list[i]; p.holds(n.If, f.scope) {
			if nodes == nil {
				nodes = make([]Node, 0, len(list)-i)
			}
			nodes = append(nodes, p.node(n, p.enter(n, f), r))
		}
	}
	return nodes
}

// node plans a step with all below it.
func (p *planner) node(n *PipelineStep, f frame, r *run) Node {
	d := Node{Name: p.forPeople(n.Name, f.scope), Dir: f.dir, Env: f.env}
	r.needs = append(r.needs, p.want(n.Needs.Packages, f.scope)...)
	if n.Uses.Value != "" && len(n.Pipeline) == 0 {
		p.use(n, f, r, &d)
		return d
	}
	steps, sources := len(r.steps), len(r.sources)
	switch {
	case n.Source.Value != "":
		p.source(n, f, r)
	case n.Wasm.Value != "":
		p.portable(n, f, r)
	case n.Check.Value != "":
		p.check(n, f, r)
	case strings.TrimSpace(n.Runs.Value) != "":
		leaf := p.leaf(n, f)
		r.sources = append(r.sources, p.asked(leaf, f, r)...)
		r.steps = append(r.steps, leaf)
	}
	d.Steps, d.Sources = slices.Clone(r.steps[steps:]), slices.Clone(r.sources[sources:])
	f.inner = true
	d.Nodes = p.nodes(n.Pipeline, f, r)
	p.required(n, f, len(d.Nodes))
	return d
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
		p.set(f.env, n.Environment, f.scope)
	}
	f.network = f.network || p.permits(n.Options, f)
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

// required looks whether as many of a node's steps are left as it asserts.
func (p *planner) required(n *PipelineStep, f frame, left int) {
	want := n.Assertions.RequiredSteps
	if want.Value == "" {
		return
	}
	count, err := strconv.Atoi(p.expand(want, f.scope))
	switch {
	case err != nil:
		p.errs.Add(want.Pos, "", "%q is not a number of steps", want.Value)
	case count != left && count > 0:
		p.errs.Add(want.Pos, "", "want %d of the %d steps to run, but the conditions leave %d", count, len(n.Pipeline), left)
	}
}

// use plans the pipeline that the node names, into d.
func (p *planner) use(n *PipelineStep, f frame, r *run, d *Node) {
	name := p.expand(n.Uses, f.scope)
	if slices.Contains(f.uses, name) {
		p.errs.Add(n.Uses.Pos, "", "pipeline %s uses itself: %s", name, strings.Join(append(slices.Clone(f.uses), name), " -> "))
		return
	}
	def, err := p.options.Library.pipeline(name)
	switch {
	case errors.Is(err, errNoPipeline):
		hint := document.DidYouMean(name, p.options.Library.Names())
		if hint == "" {
			hint = "a folder that has it is named by --pipeline-dir, for world under pipelines: in its configuration"
		}
		p.errs.Add(n.Uses.Pos, hint, "unknown pipeline %q", name)
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
	root := def
	if n.Name.Value != "" {
		named := *def
		named.Name = n.Name
		root = &named
	}
	d.Uses, d.With = name, p.given(n, def, f)
	if !p.holds(root.If, f.scope) {
		return
	}
	in := p.node(root, p.enter(root, f), r)
	d.Dir, d.Env, d.Steps, d.Sources, d.Nodes = in.Dir, in.Env, in.Steps, in.Sources, in.Nodes
}

// given lists a pipeline's inputs, without those that have their defaults as they are written. An outermost step that
// gives nothing has no list.
func (p *planner) given(n, def *PipelineStep, f frame) map[string]string {
	if len(n.With) == 0 && !f.inner {
		return nil
	}
	var with map[string]string
	for _, in := range def.Inputs {
		value, ok := p.value(in.Value.name, f.scope, in.Value.Default, 0)
		if !ok || value == in.Value.Default.Value {
			continue
		}
		if with == nil {
			with = map[string]string{}
		}
		with[in.Key.Value] = value
	}
	return with
}

// inputs makes the scope of a pipeline's body: the caller's, with the inputs on top. A value that is given may use the
// caller's names, then those of other inputs; a default uses the body's.
// It says whether all that are required are there.
func (p *planner) inputs(n, def *PipelineStep, caller *scope) (body *scope, ok bool) {
	body, ok = child(caller), true
	given := &scope{parent: caller, fallback: body}
	definitions := make([]definition, len(def.Inputs))
	for i := range def.Inputs {
		in := &def.Inputs[i]
		d := &definitions[i]
		*d = definition{name: in.Value.name, text: &in.Value.Default, in: body}
		if value := n.with(in.Key.Value); value != nil && value.Value != "" {
			d.text, d.in = value, given
		} else if in.Value.Required && d.text.Value == "" {
			p.errs.Add(n.Uses.Pos, "", "pipeline %s wants the input %q", n.Uses.Value, in.Key.Value)
			ok = false
		}
		body.names[d.name] = d
	}
	for _, w := range n.With {
		if _, ok := def.Inputs.Lookup(w.Key.Value); !ok {
			p.errs.Add(w.Key.Pos, document.DidYouMean(w.Key.Value, def.inputNames()), "pipeline %s has no input %q", n.Uses.Value, w.Key.Value)
		}
	}
	for i := range def.Inputs {
		p.value(def.Inputs[i].Value.name, body, n.Uses, 0)
	}
	return body, ok
}

// with is the text that a step gives for an input; nil for none.
func (s *PipelineStep) with(input string) *document.String {
	for i := range s.With {
		if s.With[i].Key.Value == input {
			return &s.With[i].Value
		}
	}
	return nil
}

func (s *PipelineStep) inputNames() []string {
	names := make([]string, len(s.Inputs))
	for i, in := range s.Inputs {
		names[i] = in.Key.Value
	}
	return names
}
