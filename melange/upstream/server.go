package upstream

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"

	"distro.internal/shared/document"
)

// maxAnswer is the longest list of versions, in bytes, that anyone has; maxPages of how many parts.
const (
	maxAnswer = 16 << 20
	maxPages  = 100
)

// get asks a server once, and hands what it answers to read.
func (w *Watch) get(ctx context.Context, address string, header http.Header, read func(*http.Response, io.Reader) error) (err error) {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking %s for versions: %w", u.Redacted(), err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header
	}
	if w.Authorize != nil && req.Header.Get("Authorization") == "" {
		w.Authorize(req)
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
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &refusal{resp.StatusCode, resp.Status, resp.Header.Get("WWW-Authenticate")}
	}
	return read(resp, io.LimitReader(resp.Body, maxAnswer))
}

// A refusal is an answer that is none.
type refusal struct {
	code              int
	status, challenge string
}

func (r *refusal) Error() string { return "the server answers " + r.status }

// pages asks for a list that comes in parts, each of which says where the next is.
func (w *Watch) pages(ctx context.Context, address string, header http.Header, read func(io.Reader) error) error {
	for range maxPages {
		next := ""
		err := w.get(ctx, address, header.Clone(), func(resp *http.Response, r io.Reader) error {
			next = nextPage(resp)
			return read(r)
		})
		if err != nil || next == "" {
			return err
		}
		address = next
	}
	return fmt.Errorf("asking %s for versions: there is no end to them", address)
}

var nextLink = regexp.MustCompile(`<([^>]*)>\s*;[^,]*rel="?next"?`)

// nextPage is where the Link header says that the list goes on: on the same server.
func nextPage(resp *http.Response) string {
	m := nextLink.FindStringSubmatch(resp.Header.Get("Link"))
	if m == nil {
		return ""
	}
	u, err := resp.Request.URL.Parse(m[1])
	if err != nil || u.Host != resp.Request.URL.Host {
		return ""
	}
	return u.String()
}

// project lists the stable versions of a project; all, when none is said to be stable.
func (w *Watch) project(ctx context.Context, address string) (names []name, err error) {
	var said struct {
		Stable []string `json:"stable_versions"`
		All    []string `json:"versions"`
	}
	err = w.get(ctx, address, nil, func(_ *http.Response, r io.Reader) error { return json.NewDecoder(r).Decode(&said) })
	if len(said.Stable) > 0 {
		return named(said.Stable), err
	}
	return named(said.All), err
}

// releases lists what is released in a repository on GitHub. Of one without any release all tags count.
func (w *Watch) releases(repository string) func(context.Context, string) ([]name, error) {
	return func(ctx context.Context, address string) (names []name, err error) {
		err = w.pages(ctx, address, nil, func(r io.Reader) error {
			var said []struct {
				Tag   string `json:"tag_name"`
				Draft bool
				Early bool `json:"prerelease"`
			}
			if err := json.NewDecoder(r).Decode(&said); err != nil {
				return err
			}
			for _, s := range said {
				if !s.Draft {
					names = append(names, name{s.Tag, s.Early})
				}
			}
			return nil
		})
		if err == nil && len(names) == 0 {
			return w.tags(ctx, repository)
		}
		return names, err
	}
}

// feed lists what an Atom or RSS feed tells of: the titles of its entries, and the last word of where they lead.
func (w *Watch) feed(ctx context.Context, address string) (names []name, err error) {
	type link struct {
		Href string `xml:"href,attr"`
		Text string `xml:",chardata"`
	}
	type entry struct {
		Title string `xml:"title"`
		Links []link `xml:"link"`
	}
	var said struct {
		Entries []entry `xml:"entry"`        // Atom: RFC 4287
		Items   []entry `xml:"channel>item"` // RSS 2.0
	}
	err = w.get(ctx, address, nil, func(_ *http.Response, r io.Reader) error { return xml.NewDecoder(r).Decode(&said) })
	for _, e := range append(said.Entries, said.Items...) {
		names = append(names, name{text: strings.TrimSpace(e.Title)})
		for _, l := range e.Links {
			if u, err := url.Parse(strings.TrimSpace(l.Href + l.Text)); err == nil && path.Base(u.Path) != strings.TrimSpace(e.Title) {
				names = append(names, name{text: path.Base(u.Path)})
			}
		}
	}
	return names, err
}

// tagsAddress is where a registry lists the tags of an image: the one that the image's name begins with, or another that
// has them all.
func tagsAddress(registry string, image document.String) (string, error) {
	host, repository, ok := strings.Cut(image.Value, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", &document.Error{Pos: image.Pos, Text: fmt.Sprintf("%q is not the name of an image with its registry", image.Value)}
	}
	if i := strings.LastIndexAny(repository, ":@"); i >= 0 {
		return "", &document.Error{Pos: image.Pos, Text: fmt.Sprintf("%q names one state of the image: its tags are what is looked for", image.Value)}
	}
	if registry == "" {
		registry = "https://" + host
	}
	return strings.TrimSuffix(registry, "/") + "/v2/" + repository + "/tags/list?n=1000", nil
}

// imageTags lists the tags of an image, as the OCI distribution specification has it. A registry that wants a token says
// where it gives them to anybody.
func (w *Watch) imageTags(ctx context.Context, address string) (names []name, err error) {
	read := func(r io.Reader) error {
		var said struct{ Tags []string }
		err := json.NewDecoder(r).Decode(&said)
		names = append(names, named(said.Tags)...)
		return err
	}
	err = w.pages(ctx, address, nil, read)
	var refused *refusal
	if !errors.As(err, &refused) || refused.code != http.StatusUnauthorized || !refused.wantsToken() {
		return names, err
	}
	token, err := w.token(ctx, refused)
	if err != nil {
		return nil, err
	}
	names = nil
	return names, w.pages(ctx, address, http.Header{"Authorization": {"Bearer " + token}}, read)
}

func (r *refusal) wantsToken() bool {
	return strings.HasPrefix(strings.ToLower(r.challenge), "bearer ")
}

var challengeWord = regexp.MustCompile(`(\w+)="([^"]*)"`)

// token asks for what a registry's challenge wants.
func (w *Watch) token(ctx context.Context, r *refusal) (string, error) {
	realm, query := "", url.Values{}
	for _, m := range challengeWord.FindAllStringSubmatch(r.challenge, -1) {
		switch m[1] {
		case "realm":
			realm = m[2]
		case "service", "scope":
			query.Set(m[1], m[2])
		}
	}
	var said struct {
		Token  string
		Access string `json:"access_token"`
	}
	err := w.get(ctx, realm+"?"+query.Encode(), nil, func(_ *http.Response, body io.Reader) error { return json.NewDecoder(body).Decode(&said) })
	if said.Token == "" {
		said.Token = said.Access
	}
	return said.Token, err
}
