package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
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
	GitHub         string       // the server of the repositories that github: names
	ReleaseMonitor string       // the server that knows the projects of release-monitor:
	HTTP           *http.Client // nil: one that goes by the proxies of the environment

	mu    sync.Mutex
	asked map[string]*answer
}

// An answer is what a server had to say.
type answer struct {
	once  sync.Once
	names []string
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
}

// Find looks for what is newer than a recipe. With require-sequential that is the version after the recipe's, else the
// latest of all, in the order of apk.
func (w *Watch) Find(ctx context.Context, r *recipe.Recipe, plan recipe.PlanOptions) (*Finding, error) {
	f := &Finding{Name: r.Package.Name.Value, File: r.File, Current: apk.Version(r.Package.Version.Value)}
	if f.Skipped = skipped(r.Update); f.Skipped != "" {
		return f, nil
	}
	rules, err := rulesOf(r.Update)
	if err != nil {
		return nil, err
	}
	ask := w.tags
	switch u := r.Update; {
	case u.GitHub != nil:
		f.From = strings.TrimSuffix(w.GitHub, "/") + "/" + u.GitHub.Identifier.Value + ".git"
		rules = rules.filter(u.GitHub.TagFilter, u.GitHub.OldFilter)
	case u.Git != nil:
		if f.From, err = ownRepository(r, plan); err != nil {
			return nil, err
		}
		rules = rules.filter(*u.Git, document.String{})
	case u.ReleaseMonitor != nil:
		m := u.ReleaseMonitor
		ask, f.From = w.project, strings.TrimSuffix(w.ReleaseMonitor, "/")+"/api/v2/versions/?project_id="+strconv.FormatUint(m.Identifier, 10)
		rules.prefix, rules.contains = m.VersionFilterPrefix.Value, m.VersionFilterContains.Value
		rules.stripPrefix, rules.stripSuffix = m.StripPrefix.Value, m.StripSuffix.Value
	}
	names, err := w.ask(ctx, f.From, ask)
	if err != nil {
		return nil, err
	}
	best, ignored := choose(names, rules, f.Current, r.Update.RequireSequential)
	f.Ignored = ignored
	if best.Version != "" {
		f.Latest, f.Newer = &best, apk.Compare(best.Version, f.Current) > 0
	}
	return f, nil
}

// skipped is why nobody is asked about a recipe.
func skipped(u recipe.Update) string {
	why := ""
	switch {
	case !u.Enabled:
		why = "updates are disabled"
	case u.Manual:
		why = "updates are made by hand"
	case u.GitHub != nil, u.Git != nil, u.ReleaseMonitor != nil:
		return ""
	case u.OCI != nil:
		return "releases of container images are not looked for"
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

func (w *Watch) ask(ctx context.Context, from string, how func(context.Context, string) ([]string, error)) ([]string, error) {
	w.mu.Lock()
	if w.asked == nil {
		w.asked = map[string]*answer{}
	}
	a := w.asked[from]
	if a == nil {
		a = &answer{}
		w.asked[from] = a
	}
	w.mu.Unlock()
	a.once.Do(func() { a.names, a.err = how(ctx, from) })
	return a.names, a.err
}

func (w *Watch) tags(ctx context.Context, uri string) ([]string, error) {
	refs, err := source.Refs(ctx, uri)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
			names = append(names, tag)
		}
	}
	return names, nil
}

// maxAnswer is the longest list of versions, in bytes, that anyone has.
const maxAnswer = 16 << 20

// project lists the stable versions of a project; all, when none is said to be stable.
func (w *Watch) project(ctx context.Context, address string) (names []string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking %s for versions: %w", u.Redacted(), err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := w.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	var said struct {
		Stable []string `json:"stable_versions"`
		All    []string `json:"versions"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&said); err != nil {
		return nil, err
	}
	if len(said.Stable) > 0 {
		return said.Stable, nil
	}
	return said.All, nil
}
