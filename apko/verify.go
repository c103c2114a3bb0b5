package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"distro.internal/apko/oci"
	"distro.internal/shared/attest"
	"github.com/spf13/cobra"
)

func (m *machine) verify() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Check who signed an image, and list what is attached to it",
		Long: `Check that IMAGE, a reference in a registry or a folder with an OCI layout, was signed with the key, as were the
images of all its architectures. Prints of each what was signed about it, and what is attached without a signature.`,
		Example: "  apko verify --key cosign.pub registry.example/nginx:1.27",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runVerify(cmd.Context(), key, args[0])
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the public key, in PEM")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

func (m *machine) runVerify(ctx context.Context, keyFile, image string) error {
	key, err := attest.LoadKey(keyFile)
	if err != nil {
		return err
	}
	var p *oci.Placed
	if info, statErr := os.Stat(image); statErr == nil && info.IsDir() {
		p, err = oci.OpenLayout(image)
	} else {
		p, err = oci.Registry{UserAgent: "apko/" + version}.Open(ctx, image)
	}
	if err != nil {
		return err
	}
	var unsigned []error
	for _, subject := range p.Subjects {
		documents, err := p.Documents(subject)
		if err != nil {
			return err
		}
		says := said(key, subject.Digest, documents)
		fmt.Fprintln(m.out, subject.Digest+platform(subject))
		for _, line := range says.lines {
			fmt.Fprintln(m.out, "  "+line)
		}
		if !says.signed {
			unsigned = append(unsigned, fmt.Errorf("%s%s is not signed with the key", subject.Digest, platform(subject)))
		}
	}
	return errors.Join(unsigned...)
}

func platform(d oci.Descriptor) string {
	if d.Platform == nil {
		return ""
	}
	return " " + d.Platform.OS + "/" + d.Platform.String()
}

// sayings is what is attached to one image.
type sayings struct {
	signed bool // with the key, in either form
	lines  []string
}

// said tells of the documents which the key signed. Those of other signers are not looked at: anyone may attach something.
func said(key attest.Key, digest string, documents []oci.Document) (s sayings) {
	for _, d := range documents {
		switch d.MediaType {
		case attest.MediaTypeSimpleSigning:
			if key.CheckSimpleSigning(d.Content, d.Annotations[signatureAnnotation], digest) == nil {
				s.signed = true
				s.lines = append(s.lines, "signed (simple signing)")
			}
		case attest.MediaTypeBundle:
			st, err := key.OpenBundle(d.Content)
			if err != nil || !st.About(digest) {
				continue
			}
			if st.PredicateType == attest.Signed {
				s.signed = true
				s.lines = append(s.lines, "signed")
			} else {
				s.lines = append(s.lines, "signed "+st.PredicateType+" "+d.Digest)
			}
		default:
			s.lines = append(s.lines, "attached "+d.MediaType+" "+d.Digest)
		}
	}
	slices.Sort(s.lines)
	return s
}
