package recipe

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/document"
	"distro.internal/shared/sbom"
)

// Output is a package that the build makes.
type Output struct {
	Name        string
	Dir         string // in the sandbox: what is in it is the package's content
	Description string
	URL         string
	Commit      string // of the recipe
	Annotations map[string]string
	Licenses    []License

	Depends, Provides, Replaces        []string // as apk spells them, in the recipe's order
	ProviderPriority, ReplacesPriority string   // decimal; empty when not given

	Options        PackageOptions
	Scriptlets     map[string]string // by apk's names: ".post-install", ".trigger", ...
	Triggers       []string          // paths
	DisabledChecks []string          // names of checks that only warn
	Setcap         []FileCapability

	Pos   document.Pos `json:"-"` // of the name
	Nodes []Node       `json:"-"` // what the plan's steps and sources for this package came of
}

// License is one entry of copyright.
type License struct {
	License           string // an SPDX expression
	Attestation       string
	Path              string // of the licence text, in the workspace
	Paths             []string
	DetectionOverride string
}

// FileCapability is the value that the extended attribute security.capability of a file gets.
type FileCapability struct {
	Path   string // relative to the package's content
	Value  string // raw bytes
	Reason string
}

func (p *planner) output(s subject) Output {
	w, in := s.written, s.scope
	o := Output{
		Name:             s.name,
		Pos:              w.Name.Pos,
		Dir:              outputDir(s.name),
		Description:      p.description(w.Description, in),
		URL:              p.line(w.URL, in),
		Commit:           cmp.Or(p.line(w.Commit, in), p.expand(p.recipe.Package.Commit, p.base), p.options.Commit),
		Licenses:         p.licenses(in),
		Depends:          p.dependencies(w.Dependencies.Runtime, in),
		Provides:         p.provides(w.Dependencies.Provides, in),
		Replaces:         p.dependencies(w.Dependencies.Replaces, in),
		ProviderPriority: p.priority(w.Dependencies.ProviderPriority, in),
		ReplacesPriority: p.priority(w.Dependencies.ReplacesPriority, in),
		Options:          w.Options,
		Scriptlets:       p.scriptlets(w.Scriptlets, in),
		Triggers:         p.triggers(w.Scriptlets.Trigger.Paths, in),
		DisabledChecks:   p.disabled(w.Checks.Disabled, in),
		Setcap:           p.setcap(w.Setcap, in),
	}
	if len(w.Annotations) > 0 {
		o.Annotations = map[string]string{}
		p.merge(o.Annotations, w.Annotations, in)
	}
	return o
}

// line is a text for one line of a package's metadata: folded text may end with a newline, but none can be inside.
func (p *planner) line(t document.String, in *scope) string { return oneLine(p.expand(t, in)) }

// description is a line. What only looks like a reference, such as ${{a || b}}, is text.
func (p *planner) description(t document.String, in *scope) string {
	for at := 0; ; {
		ref, bad, found := nextReference(t.Value, at)
		if !found {
			return p.line(t, in)
		}
		if bad != nil {
			p.warnings.Add(t.At(bad.offset), "", "%s", bad.text)
			return oneLine(t.Value)
		}
		at = ref.end
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (p *planner) dependencies(texts []document.String, in *scope) []string {
	var deps []string
	for _, w := range p.want(texts, in) {
		if _, ok := p.dependency(w); ok && !slices.Contains(deps, w.Text) {
			deps = append(deps, w.Text)
		}
	}
	return deps
}

// provides reads names that the package provides, which have one version or none.
func (p *planner) provides(texts []document.String, in *scope) []string {
	for _, w := range p.want(texts, in) {
		if i := strings.IndexAny(w.Text, "<>~"); i >= 0 {
			p.errs.Add(w.Pos, "write NAME or NAME=VERSION", "%q: what is provided has one version, not a range", w.Text)
		}
	}
	return p.dependencies(texts, in)
}

func (p *planner) priority(t document.String, in *scope) string {
	s, ok := p.try(t, in)
	if s = strings.TrimSpace(s); !ok || s == "" {
		return ""
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		p.errs.Add(t.Pos, "", "%q is not a whole number", s)
		return ""
	}
	return strconv.Itoa(n)
}

func (p *planner) licenses(in *scope) []License {
	var list []License
	for _, c := range p.recipe.Package.Copyright {
		license := p.line(c.License, in)
		p.checkLicense(c.License, license)
		list = append(list, License{
			License:           license,
			Attestation:       p.expand(c.Attestation, in),
			Path:              p.expand(c.LicensePath, in),
			Paths:             p.all(c.Paths, in),
			DetectionOverride: p.expand(c.DetectionOverride, in),
		})
	}
	return list
}

// checkLicense warns of what is not in the language of SPDX: scanners will take it for a licence of its own.
func (p *planner) checkLicense(written document.String, license string) {
	if license == "" || sbom.IsExpression(license) {
		return
	}
	hint := ""
	if better := operators.Replace(license); sbom.IsExpression(better) {
		hint = fmt.Sprintf("did you mean %q?", better)
	}
	warning := &document.Error{Pos: written.Pos, Text: fmt.Sprintf("%q is not an SPDX expression", license), Hint: hint}
	if !slices.ContainsFunc(p.warnings, func(w *document.Error) bool { return *w == *warning }) {
		p.warnings = append(p.warnings, warning) // once, and not for each package
	}
}

var operators = strings.NewReplacer(" and ", " AND ", " or ", " OR ", " with ", " WITH ", " & ", " AND ", "/", " OR ", ", ", " AND ")

func (p *planner) scriptlets(s ScriptletsSection, in *scope) map[string]string {
	if t := s.Trigger; t.Script.Value != "" && len(t.Paths) == 0 {
		p.errs.Add(t.Script.Pos, "", "the trigger has no paths, so that it would never run")
	} else if t.Script.Value == "" && len(t.Paths) > 0 {
		p.errs.Add(t.Paths[0].Pos, "", "the trigger has no script")
	}
	scripts := map[string]string{}
	for _, script := range []struct {
		name string
		text document.String
	}{
		{".pre-install", s.PreInstall},
		{".post-install", s.PostInstall},
		{".pre-deinstall", s.PreDeinstall},
		{".post-deinstall", s.PostDeinstall},
		{".pre-upgrade", s.PreUpgrade},
		{".post-upgrade", s.PostUpgrade},
		{".trigger", s.Trigger.Script},
	} {
		if script.text.Value != "" {
			scripts[script.name] = p.expand(script.text, in)
		}
	}
	if len(scripts) == 0 {
		return nil
	}
	return scripts
}

func (p *planner) triggers(texts []document.String, in *scope) []string {
	paths := p.all(texts, in)
	for i, text := range paths {
		if !strings.HasPrefix(text, "/") && text != "" {
			p.errs.Add(texts[i].Pos, fmt.Sprintf("write /%s", text), "the path of a trigger begins with /, found %q", text)
		}
	}
	return paths
}

// LinterNames are the names of what is looked for in a package, which checks can have as a warning only.
var LinterNames = []string{
	"binaryarch", "cudaruntimelib", "dev", "dll", "documentation", "duplicate", "dylib", "empty", "infodir",
	"lddcheck", "libtool/la-files", "maninfo", "nonlinux", "object", "opt", "pkgconf", "python/docs",
	"python/multiple", "python/test", "sbom", "setuidgid", "srv", "staticarchive", "strip", "tempdir",
	"unsupportedarch", "usrlocal", "usrmerge", "varempty", "worldwrite",
}

// disabled reads names of linters. One that there is not does no harm.
func (p *planner) disabled(texts []document.String, in *scope) []string {
	names := p.all(texts, in)
	for i, name := range names {
		if name != "" && !slices.Contains(LinterNames, name) {
			p.warnings.Add(texts[i].Pos, document.DidYouMean(name, LinterNames), "unknown linter %q", name)
		}
	}
	return names
}

// fileCapabilities are those that a package may give to a file.
var fileCapabilities = []string{"CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_SYS_ADMIN"}

func (p *planner) setcap(sections []SetcapSection, in *scope) []FileCapability {
	var list []FileCapability
	for _, s := range sections {
		file := strings.TrimPrefix(path.Clean("/"+p.expand(s.Path, in)), "/")
		if file == "" {
			p.errs.Add(s.Pos, "", "setcap without a path")
		}
		reason := p.expand(s.Reason, in)
		if strings.TrimSpace(reason) == "" {
			p.errs.Add(s.Pos, "", "setcap on /%s without a reason", file)
		}
		var v vfsCap
		for _, item := range s.Add {
			p.grant(&v, item.Key, item.Value.With(p.expand(item.Value, in)))
		}
		list = append(list, FileCapability{Path: file, Value: v.encode(), Reason: reason})
	}
	return list
}

// grant adds "cap_a,cap_b" with flags such as "+eip".
func (p *planner) grant(v *vfsCap, names, flags document.String) {
	var bits uint32
	for name := range strings.SplitSeq(names.Value, ",") {
		written := strings.ToUpper(strings.TrimSpace(name))
		if !slices.Contains(fileCapabilities, written) {
			p.errs.Add(names.Pos, "", "a package cannot give the capability %q to a file", name)
			continue
		}
		bits |= 1 << slices.Index(capabilities, written)
	}
	for _, c := range strings.TrimLeft(flags.Value, "+=") {
		switch c {
		case 'e':
			v.effective = true
		case 'p':
			v.permitted |= bits
		case 'i':
			v.inheritable |= bits
		default:
			p.errs.Add(flags.Pos, "", "flags of a capability are e, p and i, found %q", flags.Value)
			return
		}
	}
}

// vfsCap is the kernel's struct vfs_ns_cap_data, revision 3, with root id 0. All capabilities that can be given have
// numbers below 32.
type vfsCap struct {
	effective              bool
	permitted, inheritable uint32
}

func (v vfsCap) encode() string {
	magic := uint32(0x03000000)
	if v.effective {
		magic |= 1
	}
	b := make([]byte, 0, 24)
	for _, word := range []uint32{magic, v.permitted, v.inheritable, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return string(b)
}

// Grants is what the attribute says, as a recipe would: flags such as "+ep" by the names of capabilities.
func (c FileCapability) Grants() map[string]string {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32([]byte(c.Value)[4*i:]) }
	grants := map[string]string{}
	for number, name := range capabilities[:32] {
		flags := ""
		if word(0)&1 != 0 {
			flags += "e"
		}
		if word(1)>>number&1 != 0 {
			flags += "p"
		}
		if word(2)>>number&1 != 0 {
			flags += "i"
		}
		if (word(1)|word(2))>>number&1 != 0 {
			grants[strings.ToLower(name)] = "+" + flags
		}
	}
	return grants
}

var cpePart = regexp.MustCompile(`^[a-z0-9][a-z0-9+_.-]*$`)

// cpe makes the formatted string of CPE 2.3. Parts that are not given are "*".
func (p *planner) cpe(c CPE) string {
	if (c.Vendor.Value == "") != (c.Product.Value == "") {
		p.errs.Add(c.Pos, "", "cpe: vendor and product go together")
	}
	part := c.Part
	if part.Value == "" {
		part.Value = "a"
	}
	if part.Value != "a" && part.Value != "o" {
		p.errs.Add(part.Pos, "", `cpe: part is "a" or "o", found %q`, part.Value)
	}
	words := []string{"cpe", "2.3"}
	for _, t := range []document.String{
		part, c.Vendor, c.Product, document.Text(string(p.Version)), {}, c.Edition, c.Language, c.SWEdition, c.TargetSW, c.TargetHW, c.Other,
	} {
		s := p.expand(t, p.base)
		if s != "" && t.Pos.Line > 0 && !cpePart.MatchString(s) {
			p.errs.Add(t.Pos, "", "%q cannot be part of a cpe", s)
		}
		words = append(words, cmp.Or(s, "*"))
	}
	if c.Vendor.Value == "" {
		return ""
	}
	return strings.Join(words, ":")
}
