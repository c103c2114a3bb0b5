package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"distro.internal/shared/document"
)

// TestImageTags: a list that comes in parts, from a registry that wants a token and gives it to anybody; the exchange is
// that of the OCI distribution specification and of the token documentation of the registries that follow it.
func TestImageTags(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"token": "for %s of %s"}`, r.FormValue("scope"), r.FormValue("service"))
	})
	mux.HandleFunc("/v2/some/image/tags/list", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer for repository:some/image:pull of here" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+server.URL+`/token",service="here",scope="repository:some/image:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.FormValue("last") == "" {
			w.Header().Set("Link", `</v2/some/image/tags/list?last=1.1&n=1000>; rel="next"`)
			fmt.Fprint(w, `{"tags": ["1.0", "1.1"]}`)
			return
		}
		fmt.Fprint(w, `{"tags": ["1.2"]}`)
	})
	mux.HandleFunc("/v2/closed/tags/list", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="closed"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	mux.HandleFunc("/v2/endless/tags/list", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "<"+r.URL.String()+`>; rel="next"`)
		fmt.Fprint(w, `{"tags": []}`)
	})
	for image, want := range map[string]string{
		"some/image": "1.0 1.1 1.2", "closed": "for versions: the server answers 401", "endless": "there is no end to them",
	} {
		address, err := tagsAddress(server.URL, document.String{Value: "registry.example/" + image})
		if err != nil {
			t.Fatal(err)
		}
		names, err := new(Watch).imageTags(context.Background(), address)
		var got []string
		for _, n := range names {
			got = append(got, n.text)
		}
		if said := strings.Join(got, " ") + fmt.Sprint(err); !strings.Contains(said, want) || slices.Contains(got, "") {
			t.Errorf("%s: %s, want %s", image, said, want)
		}
	}
}
