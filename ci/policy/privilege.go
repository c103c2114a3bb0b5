package policy

import (
	"fmt"
	"io/fs"
)

// privileges finds files that have a property, and had it not.
func (j *judge) privileges(has func(File) bool, what, why, fix string) error {
	return j.each(func(c Changed, old, now *Contents) {
		had := map[string]bool{}
		for _, f := range old.Files {
			had[f.Path] = has(f)
		}
		var paths []string
		for _, f := range now.Files {
			if has(f) && !had[f.Path] {
				paths = append(paths, f.Path)
			}
		}
		if len(paths) > 0 {
			j.report(c, at(c), Finding{What: fmt.Sprintf("%s: %s %s", c.Name, names(paths), what), Why: why, Fix: fix})
		}
	})
}

const exceptIt = "take it away, or except it with a reason"

func (j *judge) setuid() error {
	return j.privileges(func(f File) bool { return f.Mode.IsRegular() && f.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 },
		"runs with the rights of its owner or group", "everybody who can run it has them, as far as it lets them", exceptIt)
}

func (j *judge) worldWritable() error {
	return j.privileges(func(f File) bool {
		return f.Mode&0o002 != 0 && f.Mode.Type() != fs.ModeSymlink && f.Mode&fs.ModeSticky == 0
	}, "can be written by everybody", "everybody can change what others read or run", exceptIt)
}

func (j *judge) capabilities() error {
	return j.privileges(func(f File) bool { return f.Capability },
		"has capabilities", "everybody who can run it has them, as far as it lets them", exceptIt)
}
