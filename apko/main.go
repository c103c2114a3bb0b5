// Command apko makes container images from apk packages, as an image file describes them.
package main

import (
	"context"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"distro.internal/shared/console"
	"distro.internal/shared/document"
)

// version is what this release is called. Registries are told; no image is.
const version = "0.1.0"

func main() {
	debug.SetGCPercent(400) // most commands are over before a collection would pay
	m := machine{out: os.Stdout, err: os.Stderr, env: os.Getenv}
	os.Exit(m.program().Run(context.Background()))
}

// machine is the world outside: everything that commands read and write beyond their arguments.
type machine struct {
	out, err io.Writer
	env      func(string) string
}

func (m *machine) program(args ...string) console.Program {
	var dir string
	root := &cobra.Command{
		Use:     "apko",
		Short:   "Make container images from apk packages",
		Version: version,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if dir != "" {
				return os.Chdir(dir)
			}
			return nil
		},
	}
	root.PersistentFlags().StringVarP(&dir, "workdir", "C", "", "work in this folder")
	root.AddCommand(
		m.build(), m.publish(), m.verify(), m.buildMinirootfs(), m.buildCPIO(), m.lock(),
		m.showPackages(), m.showConfig(), m.dot(), m.why(), m.login(), m.clean(),
	)
	return console.Program{Root: root, Args: args, Out: m.out, Err: m.err, Suggest: document.DidYouMean}
}
