// The probe is the only program in the roots of the sandbox's tests: a folder of tiny tools in one static binary.
package main

import (
	"fmt"
	"os"
	"strings"
)

var tools = map[string]func(args []string) error{
	"echo": func(args []string) error { _, err := fmt.Println(strings.Join(args, " ")); return err },
}

func main() {
	tool, ok := tools[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "probe: no tool", os.Args[1])
		os.Exit(127)
	}
	if err := tool(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
