package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// refusals are the settings by which hosts forbid user namespaces to ordinary users.
var refusals = []struct{ file, forbids, allow string }{
	{"kernel/unprivileged_userns_clone", "0", "1"},
	{"kernel/apparmor_restrict_unprivileged_userns", "1", "0"},
	{"user/max_user_namespaces", "0", "15000"},
	{"user/max_mnt_namespaces", "0", "15000"},
	{"user/max_net_namespaces", "0", "15000"},
	{"user/max_pid_namespaces", "0", "15000"},
}

// explain adds the cure to an error that comes from a host which forbids user namespaces. sys is where its
// settings lie. The error may have crossed a wire: only its text is left.
func explain(err error, sys string) error {
	refused := func(text string) bool { return strings.Contains(err.Error(), text) }
	if !slices.ContainsFunc([]string{"not permitted", "permission denied", "no space left"}, refused) {
		return err
	}
	for _, r := range refusals {
		value, readErr := os.ReadFile(filepath.Join(sys, r.file))
		if readErr == nil && strings.TrimSpace(string(value)) == r.forbids {
			name := strings.ReplaceAll(r.file, "/", ".")
			return fmt.Errorf("%w; this host does not let users make namespaces: set it right with \"sysctl -w %s=%s\"", err, name, r.allow)
		}
	}
	return err
}
