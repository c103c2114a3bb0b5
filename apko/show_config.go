package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"distro.internal/apko/image"
	"github.com/spf13/cobra"
)

func (m *machine) showConfig() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "show-config CONFIG",
		Short: "Print the image file with its includes merged",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return m.runShowConfig(&o, args[0])
		},
	}
	o.register(cmd)
	return cmd
}

func (m *machine) runShowConfig(o *options, file string) error {
	written, err := image.Load(file, o.includePaths...)
	if err != nil {
		return err
	}
	c, err := o.complement(written)
	if err != nil {
		return err
	}
	if c, err = o.annotate(c); err != nil {
		return err
	}
	text, err := c.Written()
	if err != nil {
		return err
	}
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	_, err = io.WriteString(m.out, strings.TrimPrefix(yamlOf(values, "\n"), "\n"))
	return err
}

// yamlOf writes what JSON can hold as YAML in its block form. Each line begins with start: a line end and the indentation.
func yamlOf(value any, start string) string {
	var b strings.Builder
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(start + scalar(key) + ":" + yamlOf(v[key], start+"  "))
		}
		if start == "\n" {
			b.WriteByte('\n')
		}
	case []any:
		for _, item := range v {
			b.WriteString(start + "- " + strings.TrimLeft(yamlOf(item, start+"  "), " \n"))
		}
	default:
		if text, ok := v.(string); ok {
			return " " + scalar(text)
		}
		return fmt.Sprintf(" %v", v)
	}
	return b.String()
}

// plain is text that YAML takes for text without quotes.
var plain = regexp.MustCompile(`^(\./|[A-Za-z/])([A-Za-z0-9_./@=~+:-]*[A-Za-z0-9_/])?$`)

// octal is how permissions are written: a number, which other apkos do not take for one in quotes.
var octal = regexp.MustCompile(`^0o[0-7]+$`)

func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return strconv.Quote(s)
	}
	if plain.MatchString(s) || octal.MatchString(s) {
		return s
	}
	quoted, _ := json.Marshal(s) // a JSON string is a YAML string
	return string(quoted)
}
