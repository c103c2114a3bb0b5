package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		{"do well --jobs many", 1, "", "prog: --jobs wants a whole number, found \"many\"\n"},
		{"do well --every 5", 1, "", "prog: --every wants a time like 90s or 2h30m, found \"5\"\n"},
		{"do well --jbos 5", 1, "", "prog: prog do has no --jbos (it could be jobs)\n"},
		{"done --jobs 5", 1, "", "prog: prog done has no --jobs (it is one of prog do)\n"},
		{"done --runner docker", 1, "", "prog: prog done has no --runner: leave it out\n"},
		{"do", 1, "", "prog: found no argument, want prog do WHAT [flags]\n"},
		{"do well badly", 1, "", "prog: found 2 arguments, want prog do WHAT [flags]\n"},
		{"version", 0, "prog 7\n", ""},
		{"vresion", 1, "", "prog: unknown command \"vresion\" for \"prog\"\n\nDid you mean this?\n\tversion\n\n"},
	} {
		var out, said strings.Builder
		root := &cobra.Command{Use: "prog", Version: "7"}
		do := &cobra.Command{Use: "do WHAT", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			fmt.Fprintln(&out, "did")
			return outcomes[args[0]]
		}}
		do.Flags().Int("jobs", 1, "")
		do.Flags().Duration("every", 0, "")
		root.AddCommand(do, &cobra.Command{Use: "done", Run: func(*cobra.Command, []string) {}})
		p := Program{
			Root: root, Args: strings.Fields(c.args), Out: &out, Err: &said, Interrupted: "interrupted; but kept", Told: told,
			Suggest: func(word string, known []string) string {
				if word == "jbos" && slices.Contains(known, "jobs") {
					return "it could be jobs"
				}
				return ""
			},
			Elsewhere: map[string]string{"runner": "leave it out"},
		}
		if code := p.Run(t.Context()); code != c.code || out.String() != c.out || said.String() != c.said {
			t.Errorf("%s: exit code %d, %q, %q", c.args, code, out.String(), said.String())
		}
	}
}
