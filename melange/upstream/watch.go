package upstream

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// A Watch asks for releases. Who has been asked once is not asked again: many recipes are of one upstream. It may be used
// by many goroutines.
type Watch struct {
	GitHub         string // the server of the repositories that github: names
	GitHubAPI      string // the server that knows their releases; empty: all their tags count, as with use-tag
	ReleaseMonitor string // the server that knows the projects of release-monitor:
	Registry       string // the server of the images that oci: names; empty: the one that each names
	Feed           string // asked in place of whom the recipe names; empty: none
	Sources        *source.Store

	HTTP      *http.Client        // nil: one that goes by the proxies of the environment
	Authorize func(*http.Request) // adds what a server wants to know of who asks; may be nil

	mu    sync.Mutex
	asked map[string]*answer
}

// A name is what upstream calls one of its states.
type name struct {
	text  string
	early bool // upstream says that it is no release yet
}

func named(texts []string) []name {
	list := make([]name, len(texts))
	for i, t := range texts {
		list[i].text = t
	}
	return list
}

// An answer is what a server had to say.
type answer struct {
	once  sync.Once
	names []name
	err   error
}

// A Finding is what upstream has for a recipe.
type Finding struct {
	Name    string         `json:"name"`
	File    string         `json:"file"`
	Current apk.Version    `json:"current"`
	Latest  *Release       `json:"latest,omitempty"`
	Newer   bool           `json:"newer"`             // the latest is not what the recipe has
	From    string         `json:"from,omitempty"`    // who was asked
	Ignored map[string]int `json:"ignored,omitempty"` // how many names were no releases, by why
	Skipped string         `json:"skipped,omitempty"` // why nobody was asked
	Period  string         `json:"period,omitempty"`  // how often the recipe wants it: daily, weekly, monthly
	Shared  bool           `json:"shared,omitempty"`  // others are to be built again with it
}

// Find looks for what is newer than a recipe. With require-sequential that is the version after the recipe's, else the
// latest of all, in the order of apk.
func (w *Watch) Find(ctx context.Context, r *recipe.Recipe, plan recipe.PlanOptions) (*Finding, error) {
	f := &Finding{Name: r.Package.Name.Value, File: r.File, Current: apk.Version(r.Package.Version.Value), Shared: r.Update.Shared}
	if r.Update.Schedule != nil {
		f.Period = r.Update.Schedule.Period.Value
	}
	if f.Skipped = w.skipped(r.Update); f.Skipped != "" {
		return f, nil
	}
	if pin, ok := snapshot(r, plan); ok && w.Feed == "" {
		return f, w.findSnapshot(ctx, f, pin)
	}
	q, err := w.question(r, plan)
	if err != nil {
		return nil, err
	}
	f.From = q.from
	names, err := w.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	best, ignored := choose(names, q.rules, f.Current, r.Update.RequireSequential)
	f.Ignored = ignored
	if best.Version != "" {
		f.Latest, f.Newer = &best, apk.Compare(best.Version, f.Current) > 0
	}
	return f, nil
}

// A question is who is asked, how, and which of the answers count.
type question struct {
	from  string
	how   func(context.Context, string) ([]name, error)
	rules rules
}

func (w *Watch) question(r *recipe.Recipe, plan recipe.PlanOptions) (q question, err error) {
	if q.rules, err = rulesOf(r.Update); err != nil {
		return q, err
	}
	q.how = w.tags
	switch u := r.Update; {
	case u.GitHub != nil:
		id := u.GitHub.Identifier.Value
		q.from = strings.TrimSuffix(w.GitHub, "/") + "/" + id + ".git"
		if w.GitHubAPI != "" && !u.GitHub.UseTag {
			q.from, q.how = strings.TrimSuffix(w.GitHubAPI, "/")+"/repos/"+id+"/releases?per_page=100", w.releases(q.from)
		}
		q.rules = q.rules.filter(u.GitHub.TagFilter, u.GitHub.OldFilter)
	case u.Git != nil:
		if q.from, err = ownRepository(r, plan); err != nil && w.Feed == "" {
			return q, err
		}
		q.rules = q.rules.filter(*u.Git, document.String{})
	case u.ReleaseMonitor != nil:
		m := u.ReleaseMonitor
		q.from, q.how = strings.TrimSuffix(w.ReleaseMonitor, "/")+"/api/v2/versions/?project_id="+strconv.FormatUint(m.Identifier, 10), w.project
		q.rules.prefix, q.rules.contains = m.VersionFilterPrefix.Value, m.VersionFilterContains.Value
		q.rules.stripPrefix, q.rules.stripSuffix = m.StripPrefix.Value, m.StripSuffix.Value
	case u.OCI != nil:
		q.how, q.rules = w.imageTags, q.rules.filter(u.OCI.TagFilter, document.String{})
		if q.from, err = tagsAddress(w.Registry, u.OCI.Identifier); err != nil {
			return q, err
		}
	}
	if w.Feed != "" {
		q.from, q.how = w.Feed, w.feed
	}
	return q, nil
}

// skipped is why nobody is asked about a recipe.
func (w *Watch) skipped(u recipe.Update) string {
	why := ""
	switch {
	case !u.Enabled:
		why = "updates are disabled"
	case u.Manual:
		why = "updates are made by hand"
	case w.Feed != "", u.GitHub != nil, u.Git != nil, u.ReleaseMonitor != nil, u.OCI != nil:
		return ""
	case u.VersionData != nil:
		return "version_data is known to a service of its own only; --feed names another that is asked"
	default:
		return "update: does not say who knows of releases"
	}
	if reason := strings.Join(strings.Fields(u.ExcludeReason.Value), " "); reason != "" {
		why += ": " + reason
	}
	return why
}

// ownRepository is that of the recipe's first checkout.
func ownRepository(r *recipe.Recipe, plan recipe.PlanOptions) (string, error) {
	pins, err := r.Pins(plan)
	if err != nil {
		return "", err
	}
	for _, p := range pins {
		if p.Kind == recipe.SourceGit && p.Err == nil {
			return p.URI, nil
		}
	}
	return "", &document.Error{Pos: document.Pos{File: r.File}, Text: "update: is by the tags of the git repository, and no step checks one out"}
}

func (w *Watch) ask(ctx context.Context, q question) ([]name, error) {
	w.mu.Lock()
	if w.asked == nil {
		w.asked = map[string]*answer{}
	}
	a := w.asked[q.from]
	if a == nil {
		a = &answer{}
		w.asked[q.from] = a
	}
	w.mu.Unlock()
	a.once.Do(func() { a.names, a.err = q.how(ctx, q.from) })
	return a.names, a.err
}

func (w *Watch) tags(ctx context.Context, uri string) ([]name, error) {
	refs, err := source.Refs(ctx, uri)
	if err != nil {
		return nil, err
	}
	var names []name
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
			names = append(names, name{text: tag})
		}
	}
	return names, nil
}
