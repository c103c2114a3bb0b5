package upstream

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
)

// What is never released is packaged from a branch: its recipe names a commit of it and, under schedule:, how often to look
// whether the branch has moved. The version then tells of the day, as in 1.2_git20260822; one that does not stays, and the
// recipe gets the next epoch.

// snapshot is the checkout of a recipe that follows a branch.
func snapshot(r *recipe.Recipe, plan recipe.PlanOptions) (recipe.Pin, bool) {
	if r.Update.Schedule == nil || r.Update.Git == nil && r.Update.GitHub == nil {
		return recipe.Pin{}, false
	}
	pins, err := r.Pins(plan)
	if err != nil {
		return recipe.Pin{}, false
	}
	for _, p := range pins {
		if p.Kind == recipe.SourceGit {
			return p, p.Err == nil && p.Tag == "" && p.Branch != "" && p.Commit.Value != ""
		}
	}
	return recipe.Pin{}, false
}

var dayOf = regexp.MustCompile(`_git[0-9]{8}$`)

// findSnapshot looks where the branch is.
func (w *Watch) findSnapshot(ctx context.Context, f *Finding, pin recipe.Pin) error {
	f.From = pin.URI
	refs, err := source.Refs(ctx, pin.URI)
	if err != nil {
		return err
	}
	head, ok := refs["refs/heads/"+pin.Branch]
	if !ok {
		return fmt.Errorf("%s has no branch %s", pin.URI, pin.Branch)
	}
	f.Latest = &Release{Version: f.Current, Name: pin.Branch, Commit: head}
	if f.Newer = head != strings.ToLower(pin.Commit.Value); !f.Newer || !dayOf.MatchString(string(f.Current)) {
		return nil
	}
	when, err := w.Sources.CommitTime(ctx, recipe.Source{Kind: recipe.SourceGit, URI: pin.URI, Branch: pin.Branch, Commit: head})
	if err != nil {
		return err
	}
	f.Latest.Version = apk.Version(dayOf.ReplaceAllString(string(f.Current), "_git"+when.UTC().Format("20060102")))
	if apk.Compare(f.Latest.Version, f.Current) < 0 { // the recipe has the day when somebody looked
		f.Latest.Version = f.Current
	}
	return nil
}
