package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestProgram(t *testing.T) {
	told := errors.New("told")
	outcomes := map[string]error{
		"well":    nil,
		"badly":   errors.New("it went badly"),
		"told":    fmt.Errorf("two of them: %w", told),
		"ended":   fmt.Errorf("a shell: %w", &Ended{Code: 7}),
		"failed":  &Ended{Code: 3, Err: errors.New("exit status 3")},
		"stopped": fmt.Errorf("waiting: %w", context.Canceled),
	}
	for _, c := range []struct {
		args      string
		code      int
		out, said string
	}{
		{"do well", 0, "did\n", ""},
		{"do badly", 1, "did\n", "prog: it went badly\n"},
		{"do told", 2, "did\n", ""},
		{"do ended", 7, "did\n", ""},
		{"do failed", 3, "did\n", "prog: exit status 3\n"},
		{"do stopped", 1, "did\n", "prog: interrupted; but kept\n"},
		{"do well --log-level loud", 1, "", "prog: log level \"loud\": one of debug, info, warn, error\n"},
		{"version", 0, "prog 7\n", ""},
		{"vresion", 1, "", "prog: unknown command \"vresion\" for \"prog\"\n\nDid you mean this?\n\tversion\n\n"},
	} {
		var out, said strings.Builder
		root := &cobra.Command{Use: "prog", Version: "7"}
		root.AddCommand(&cobra.Command{Use: "do", RunE: func(_ *cobra.Command, args []string) error {
			fmt.Fprintln(&out, "did")
			return outcomes[args[0]]
		}})
		p := Program{Root: root, Args: strings.Fields(c.args), Out: &out, Err: &said, Interrupted: "interrupted; but kept", Told: told}
		if code := p.Run(t.Context()); code != c.code || out.String() != c.out || said.String() != c.said {
			t.Errorf("%s: exit code %d, %q, %q", c.args, code, out.String(), said.String())
		}
	}
}
