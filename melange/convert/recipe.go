// Package convert makes recipes of what others say about packages: the build files of Alpine, and the metadata that the
// registries of gems, Python packages and npm have.
//
// What comes out is a beginning. It is a recipe that can be planned, named and wired as Wolfi's are; what could not be
// carried over stands in it as a comment. Nothing of what is read is run.
package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// A draft is a recipe before it is text, in the order of the text.
type draft struct {
	notes                       []string // for whoever goes on from here
	name, version, epoch        string
	description, url            string
	licenses                    []string
	depends, provides, replaces []string
	packages                    []string // of the environment
	transforms                  []pair   // match of the name and the variable that the first group becomes
	vars                        []pair
	steps                       []step
	subpackages                 []subpackage
	update                      []string // lines
}

type pair struct{ key, value string }

// A step is a use of a pipeline, or a script.
type step struct {
	name, uses string
	with       []pair
	runs       string
}

type subpackage struct {
	name, description string
	depends           []string
	steps             []step
}

// text writes the recipe.
func (d *draft) text() []byte {
	w := &writer{}
	for _, n := range d.notes {
		w.line(0, "# %s", oneLine(n))
	}
	w.line(0, "package:")
	w.value(1, "name", d.name)
	w.value(1, "version", d.version)
	w.line(1, "epoch: %s", d.epoch)
	w.value(1, "description", oneLine(d.description))
	if d.url != "" {
		w.value(1, "url", d.url)
	}
	w.line(1, "copyright:")
	for _, l := range d.licenses {
		w.line(2, "- license: %s", document.Quote(oneLine(l)))
	}
	w.dependencies(1, d.depends, d.provides, d.replaces)
	w.blank()
	w.line(0, "environment:")
	w.line(1, "contents:")
	w.list(2, "packages", sorted(d.packages))
	w.blank()
	if len(d.vars) > 0 {
		w.line(0, "vars:")
		for _, v := range d.vars {
			w.value(1, v.key, v.value)
		}
		w.blank()
	}
	for i, t := range d.transforms {
		if i == 0 {
			w.line(0, "var-transforms:")
		}
		w.line(1, "- from: ${{package.name}}")
		w.line(2, "match: %s", document.Quote(t.value))
		w.line(2, "replace: $1")
		w.line(2, "to: %s", t.key)
		w.blank()
	}
	w.line(0, "pipeline:")
	w.steps(1, d.steps)
	if len(d.subpackages) > 0 {
		w.line(0, "subpackages:")
	}
	for _, s := range d.subpackages {
		w.line(1, "- name: %s", document.Quote(s.name))
		w.value(2, "description", s.description)
		w.dependencies(2, s.depends, nil, nil)
		w.line(2, "pipeline:")
		w.steps(3, s.steps)
	}
	w.line(0, "update:")
	for _, line := range d.update {
		w.line(1, "%s", line)
	}
	return []byte(w.b.String())
}

type writer struct{ b strings.Builder }

func (w *writer) blank() { w.b.WriteByte('\n') }

func (w *writer) line(depth int, format string, args ...any) {
	w.b.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(&w.b, format, args...)
	w.blank()
}

func (w *writer) value(depth int, key, value string) {
	w.line(depth, "%s: %s", key, document.Quote(value))
}

func (w *writer) list(depth int, key string, values []string) {
	if len(values) == 0 {
		return
	}
	w.line(depth, "%s:", key)
	for _, v := range values {
		w.line(depth+1, "- %s", document.Quote(v))
	}
}

func (w *writer) dependencies(depth int, runtime, provides, replaces []string) {
	if len(runtime)+len(provides)+len(replaces) == 0 {
		return
	}
	w.line(depth, "dependencies:")
	w.list(depth+1, "runtime", sorted(runtime))
	w.list(depth+1, "provides", sorted(provides))
	w.list(depth+1, "replaces", sorted(replaces))
}

func (w *writer) steps(depth int, steps []step) {
	for _, s := range steps {
		first := "- "
		item := func(format string, args ...any) {
			w.line(depth, "%s%s", first, fmt.Sprintf(format, args...))
			first = "  "
		}
		if s.name != "" {
			item("name: %s", document.Quote(s.name))
		}
		if s.uses != "" {
			item("uses: %s", s.uses)
		}
		if len(s.with) > 0 {
			item("with:")
			for _, p := range s.with {
				w.block(depth+2, p.key, p.value)
			}
		}
		if s.runs != "" {
			item("runs: |")
			w.lines(depth+2, s.runs)
		}
		w.blank()
	}
}

// block is a value that may have lines.
func (w *writer) block(depth int, key, value string) {
	if !strings.Contains(value, "\n") {
		w.value(depth, key, value)
		return
	}
	w.line(depth, "%s: |", key)
	w.lines(depth+1, value)
}

func (w *writer) lines(depth int, text string) {
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			w.blank()
			continue
		}
		w.line(depth, "%s", strings.ReplaceAll(line, "\t", "  "))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// sorted is each once, in order.
func sorted(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

var repository = regexp.MustCompile(`^(?:git\+)?(?:https?|git|ssh)://(?:[^@/]*@)?github\.com/([^/]+/[^/#?]+?)(?:\.git)?(?:[/#?].*)?$`)

// watched is the update: block of what lives in a repository, if one of the addresses is of one.
func watched(addresses ...string) []string {
	for _, a := range addresses {
		if m := repository.FindStringSubmatch(a); m != nil {
			return []string{"enabled: true", "github:", "  identifier: " + document.Quote(m[1]), "  strip-prefix: v"}
		}
	}
	return []string{"enabled: false", "exclude-reason: nobody has said yet where releases are announced"}
}

var notInName = regexp.MustCompile(`[^a-z0-9+.-]+`)

// plainName is a name as packages are called.
func plainName(s string) string {
	return strings.Trim(notInName.ReplaceAllString(strings.ToLower(s), "-"), "-.")
}

// decode reads JSON of a kind, which is told when it is of another.
func decode(metadata []byte, v any, kind string) error {
	err := json.Unmarshal(metadata, v)
	var other *json.UnmarshalTypeError
	if errors.As(err, &other) {
		return notThat(kind)
	}
	return err
}

func notThat(kind string) error { return fmt.Errorf("it is not the metadata of %s", kind) }

// licenseOr is a licence, or the word that says that none is known.
func licenseOr(ids []string) []string {
	if len(ids) == 0 {
		return []string{"NOASSERTION"}
	}
	return ids
}
