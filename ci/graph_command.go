package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
)

func graphCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var dot, seeds bool
	c := &cobra.Command{
		Use:   "graph [NODE...]",
		Short: "Print nodes and edges, of everything or of what some nodes need",
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			if seeds {
				return w.printSeeds(s.stdout, o.json)
			}
			if err := w.load(c.Context()); err != nil {
				return err
			}
			nodes, err := w.find(args)
			if err != nil {
				return err
			}
			nodes = w.graph.Ancestors(nodes...)
			switch {
			case o.json:
				return printJSON(s.stdout, graphObjects(w.graph, nodes))
			case dot:
				printDot(s.stdout, w.graph, nodes)
			default:
				printGraph(s.stdout, w.graph, nodes)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&dot, "dot", false, "print in Graphviz' language")
	c.Flags().BoolVar(&seeds, "seeds", false, "print which recipes need each other, and seeds that open all cycles")
	return c
}

type seedsObject struct {
	Cycles [][]string `json:"cycles"`
	Seeds  []string   `json:"seeds"`
}

// printSeeds prints what the workspace file can take.
func (w *world) printSeeds(to io.Writer, asJSON bool) error {
	nodes, err := graph.Read(w.dir, w.config)
	if err != nil {
		return err
	}
	cycles, proposal, err := graph.Seeds(nodes, w.config.Seeds)
	if err != nil {
		return err
	}
	object := seedsObject{Cycles: [][]string{}, Seeds: proposal}
	for _, c := range cycles {
		var ids []string
		for _, n := range c {
			ids = append(ids, n.ID)
		}
		object.Cycles = append(object.Cycles, ids)
	}
	if asJSON {
		return printJSON(to, object)
	}
	for _, c := range object.Cycles {
		fmt.Fprintf(to, "# %d need each other: %s\n", len(c), list(c, 8))
	}
	fmt.Fprintln(to, "seeds:")
	for _, s := range proposal {
		fmt.Fprintf(to, "  - %s\n", s)
	}
	return nil
}

type nodeObject struct {
	ID    string       `json:"id"`
	Kind  graph.Kind   `json:"kind"`
	File  string       `json:"file"`
	Needs []edgeObject `json:"needs,omitempty"`
	Seeds []edgeObject `json:"seeds,omitempty"`
}

type edgeObject struct {
	To    string      `json:"to"`
	Class graph.Class `json:"class"`
	Via   string      `json:"via"`
}

func graphObjects(g *graph.Graph, nodes []*graph.Node) []nodeObject {
	objects := []nodeObject{}
	for _, n := range nodes {
		object := nodeObject{ID: n.ID, Kind: n.Kind, File: n.File}
		needs, seeds := g.Edges(n)
		for _, e := range needs {
			object.Needs = append(object.Needs, edgeObject(e))
		}
		for _, e := range seeds {
			object.Seeds = append(object.Seeds, edgeObject(e))
		}
		objects = append(objects, object)
	}
	return objects
}

func printGraph(w io.Writer, g *graph.Graph, nodes []*graph.Node) {
	for _, n := range nodes {
		fmt.Fprintln(w, n.ID)
		needs, seeds := g.Edges(n)
		for _, e := range needs {
			fmt.Fprintf(w, "  %-28s %-8s %s\n", e.To, e.Class, e.Via)
		}
		for _, e := range seeds {
			fmt.Fprintf(w, "  %-28s %-8s %s, of an older build\n", e.To, e.Class, e.Via)
		}
	}
}

func printDot(w io.Writer, g *graph.Graph, nodes []*graph.Node) {
	fmt.Fprintln(w, "digraph world {\n  rankdir=LR")
	for _, n := range nodes {
		shape := "box"
		if n.Kind == graph.Image {
			shape = "folder"
		}
		fmt.Fprintf(w, "  %q [shape=%s]\n", n.ID, shape)
		last := ""
		needs, _ := g.Edges(n)
		for _, e := range needs {
			if e.To != last {
				fmt.Fprintf(w, "  %q -> %q [label=%q]\n", n.ID, e.To, e.Class)
			}
			last = e.To
		}
	}
	fmt.Fprintln(w, "}")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
