package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
	"distro.internal/shared/cas"
	"distro.internal/shared/cas/reapi"
)

func remoteCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "remote",
		Short: "Look after a shared cache",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(remoteCheckCommand(s, o), remoteFillCommand(s, o))
	return c
}

func remoteCheckCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var r remoteFlags
	c := &cobra.Command{
		Use:   "check ADDRESS",
		Short: "Tell what a server is to this machine: what it speaks, whether one may write, whether content comes back",
		Long: `Ask the server that --remote-cache of build and test would name what it is, share
a small result and a large one with it, and look for them as another machine would.
The exit code is 0 also when one may only read there.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r.server.Address = args[0]
			client, err := r.dial(s.access)
			if err != nil {
				return err
			}
			defer client.Close()
			found, err := checkRemote(c.Context(), client)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if o.json {
				return printJSON(s.stdout, found)
			}
			fmt.Fprintf(s.stdout, "speaks     versions %s to %s of the API, digests %v\n", found.API[0], found.API[1], found.Digests)
			if !found.MayWrite {
				fmt.Fprintln(s.stdout, "may write  no: what is made here stays here")
				return nil
			}
			fmt.Fprintln(s.stdout, "may write  yes")
			for _, t := range found.Trips {
				fmt.Fprintf(s.stdout, "came back  %d bytes: shared in %d ms, found and read in %d ms; it is action %s there\n", t.Bytes, t.Shared, t.Found, t.Action)
			}
			return nil
		},
	}
	r.registerServer(c.Flags())
	return c
}

// A remoteFinding is what a server was found to be.
type remoteFinding struct {
	reapi.Capabilities
	MayWrite bool   `json:"may_write"`
	Trips    []trip `json:"trips,omitempty"`
}

// A trip is that of a result to the server and back; times are in milliseconds.
type trip struct {
	Bytes  int    `json:"bytes"`
	Action string `json:"action"`
	Shared int64  `json:"shared_ms"`
	Found  int64  `json:"found_ms"`
}

func checkRemote(ctx context.Context, client *reapi.Client) (remoteFinding, error) {
	var f remoteFinding
	var err error
	if f.Capabilities, err = client.Capabilities(ctx); err != nil {
		return f, err
	}
	for _, size := range []int{1 << 10, 16 << 20} {
		t, err := roundTrip(ctx, client, size)
		if errors.Is(err, cas.ErrReadOnly) {
			return f, nil
		} else if err != nil {
			return f, err
		}
		f.MayWrite, f.Trips = true, append(f.Trips, t)
	}
	return f, nil
}

// roundTrip shares a result that nobody had before.
func roundTrip(ctx context.Context, client *reapi.Client, size int) (t trip, err error) {
	dir, err := os.MkdirTemp("", "remote-check-")
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	content := make([]byte, size)
	rand.Read(content)
	store := cas.Store{Dir: dir}
	output, err := store.PutBytes(content)
	if err != nil {
		return t, err
	}
	key := cas.NewKey("check/1")
	key.Add("content", output.String())
	action, err := reapi.ActionOf(key)
	if err != nil {
		return t, err
	}
	began := time.Now()
	if err := client.Share(ctx, key, &cas.Result{Outputs: []cas.Output{{Name: "content", Digest: output}}}, store); err != nil {
		return t, err
	}
	shared := time.Now()
	var back bytes.Buffer
	if _, err := client.Result(ctx, key); err != nil {
		return t, fmt.Errorf("what was just shared: %w", err)
	}
	if err := client.Fetch(ctx, output, &back); err != nil {
		return t, fmt.Errorf("what was just shared: %w", err)
	}
	if !bytes.Equal(back.Bytes(), content) {
		return t, fmt.Errorf("what was just shared: %w", cas.ErrCorrupt)
	}
	return trip{Bytes: size, Action: action.String(), Shared: shared.Sub(began).Milliseconds(), Found: time.Since(shared).Milliseconds()}, nil
}

func remoteFillCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var r remoteFlags
	c := &cobra.Command{
		Use:   "fill ADDRESS [NODE...]",
		Short: "Share what is made already, of everything or of some nodes and what they need",
		Long: `Share the packages of the workspace that are made already, as they are now: what a
build with --remote-cache hands on when it makes them. It is for the first day of
a server, and for the day after it was not there. What the server has it is not
sent again.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openForReading(c.Context(), s, o)
			if err != nil {
				return err
			}
			r.server.Address = args[0]
			client, err := r.dial(s.access)
			if err != nil {
				return err
			}
			defer client.Close()
			nodes, err := w.find(args[1:])
			if err != nil {
				return err
			}
			shared, left, err := w.fillRemote(c.Context(), client, w.graph.Ancestors(nodes...))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if o.json {
				return printJSON(s.stdout, map[string]int{"shared": shared, "not_made": left})
			}
			fmt.Fprintf(s.stdout, "%d nodes are shared, %d are not made here\n", shared, left)
			return nil
		},
	}
	r.registerServer(c.Flags())
	return c
}

// fillRemote shares what packages nodes have made, and counts those that have made nothing.
func (w *world) fillRemote(ctx context.Context, client *reapi.Client, nodes []*graph.Node) (shared, left int, err error) {
	for _, f := range w.surveyPackages(ctx, nodes) {
		err := fs.ErrNotExist
		if f.verdict == upToDate {
			err = w.shareNode(ctx, client, f.node)
		}
		switch {
		case err == nil:
			shared++
		case errors.Is(err, fs.ErrNotExist):
			left++
		default:
			return shared, left, err
		}
	}
	return shared, left, nil
}

func (w *world) shareNode(ctx context.Context, client *reapi.Client, n *graph.Node) error {
	found, err := w.allot(ctx, n, w.lookup(ctx))
	if err != nil {
		return err
	}
	for _, key := range found.Keys {
		result, err := w.builder.Store.Result(key.Digest())
		if err != nil {
			return err
		}
		if err := client.Share(ctx, key, result, w.builder.Store.Store); err != nil {
			return err
		}
	}
	return nil
}
