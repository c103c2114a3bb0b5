package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve"
	"github.com/spf13/cobra"
)

func (m *machine) dot() *cobra.Command {
	var o options
	var tree, web bool
	cmd := &cobra.Command{
		Use:   "dot CONFIG",
		Short: "Print the packages of an image and what they depend on as a graph, for Graphviz",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			graph, err := m.graph(cmd.Context(), &o, args[0], tree)
			if err != nil {
				return err
			}
			if web {
				return m.serveGraph(cmd.Context(), graph)
			}
			_, err = fmt.Fprint(m.out, graph)
			return err
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVarP(&tree, "spanning-tree", "S", false, "only the edge by which each package came in")
	cmd.Flags().BoolVar(&web, "web", false, "serve it to browsers of this machine until interrupted, drawn if there is Graphviz's dot")
	return cmd
}

func (m *machine) graph(ctx context.Context, o *options, config string, tree bool) (string, error) {
	s, err := m.session(ctx, o, config)
	if err != nil {
		return "", err
	}
	solution, err := s.builder.Solve(ctx, s.config, s.archs[0], s.sources)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("digraph image {\n")
	for _, p := range solution.Packages {
		fmt.Fprintf(&b, "  %q [label=%q, tooltip=%q];\n", p.Name, p.Name+"\n"+string(p.Version), p.Description)
		if tree || p.Reason.By == "" {
			by := p.Reason.By
			if by == "" {
				by = "world"
			}
			fmt.Fprintf(&b, "  %q -> %q;\n", by, p.Name)
		}
		if !tree {
			writeEdges(&b, p, solution)
		}
	}
	b.WriteString("}\n")
	return b.String(), nil
}

// serveGraph shows a graph at an address that only this machine can reach. It ends when ctx does.
func (m *machine) serveGraph(ctx context.Context, graph string) error {
	kind, picture, err := draw(ctx, graph)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	pages := http.NewServeMux()
	show := func(pattern, kind string, body []byte) {
		pages.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Write(body)
		})
	}
	show("GET /{$}", kind, picture)
	show("GET /graph.dot", textKind, []byte(graph))
	server := http.Server{Handler: pages, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	fmt.Fprintf(m.err, "the graph is at http://%s/ until this is interrupted\n", l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const textKind = "text/plain; charset=utf-8"

// draw makes a picture of a graph, which is its text where nobody can draw.
func draw(ctx context.Context, graph string) (kind string, picture []byte, err error) {
	program, err := exec.LookPath("dot")
	if err != nil {
		return textKind, []byte(graph), nil
	}
	c := exec.CommandContext(ctx, program, "-Tsvg")
	c.Stdin = strings.NewReader(graph)
	if picture, err = c.Output(); err != nil {
		return "", nil, fmt.Errorf("drawing the graph with %s: %w", program, err)
	}
	return "image/svg+xml", picture, nil
}

// writeEdges draws each dependency of a package to what satisfies it.
func writeEdges(b *strings.Builder, p solve.Chosen, s *solve.Solution) {
	drawn := make(map[string]bool)
	for _, d := range p.Depends {
		if d.Conflict {
			continue
		}
		if to := provider(d, s); to != "" && to != p.Name && !drawn[to] {
			drawn[to] = true
			fmt.Fprintf(b, "  %q -> %q;\n", p.Name, to)
		}
	}
}

func provider(d apk.Dependency, s *solve.Solution) string {
	for _, c := range s.Packages {
		if c.Satisfies(d) {
			return c.Name
		}
	}
	return ""
}
