package main

import (
	"encoding/json"

	"distro.internal/apko/image"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
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
	text, err := c.Written()
	if err != nil {
		return err
	}
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	enc := yaml.NewEncoder(m.out)
	enc.SetIndent(2)
	if err := enc.Encode(values); err != nil {
		return err
	}
	return enc.Close()
}
