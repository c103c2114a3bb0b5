package sandbox

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func capabilityMask(capabilities ...int) string {
	m := uint64(0)
	for _, c := range capabilities {
		m |= 1 << c
	}
	return fmt.Sprintf("%016x", m)
}

// TestIdentity is who commands are, and what they may do for it.
func TestIdentity(t *testing.T) {
	const none = "0000000000000000"
	usual := Capabilities{}
	network := Capabilities{Add: []int{unix.CAP_NET_ADMIN}, Drop: []int{unix.CAP_KILL}}
	for _, tc := range []struct {
		name    string
		sandbox Sandbox
		want    map[string]string // of /proc/self/status
	}{
		{"root", Sandbox{}, map[string]string{"Uid": "0", "CapEff": capabilityMask(usual.kept()...), "CapBnd": capabilityMask(usual.kept()...), "CapAmb": none}},
		{"somebody", Sandbox{UID: 1000, GID: 100}, map[string]string{"Uid": "1000", "Gid": "100", "CapEff": none, "CapAmb": none}},
		{"root with other rights", Sandbox{Capabilities: network}, map[string]string{"CapEff": capabilityMask(network.kept()...), "CapAmb": none}},
		{"somebody with rights", Sandbox{UID: 1000, GID: 1000, Capabilities: network}, map[string]string{
			"Uid": "1000", "CapEff": capabilityMask(unix.CAP_NET_ADMIN), "CapAmb": capabilityMask(unix.CAP_NET_ADMIN)}},
		{"dropping wins", Sandbox{UID: 1, Capabilities: Capabilities{Add: network.Add, Drop: network.Add}}, map[string]string{"Uid": "1", "Gid": "0", "CapEff": none}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := start(t, tc.sandbox)
			for key, want := range tc.want {
				if got, _, _ := strings.Cut(expect(t, a, "status", key), "\t"); got != want {
					t.Errorf("%s is %s, want %s", key, got, want)
				}
			}
		})
	}
}

// TestOwn: what is given to commands that are not root is theirs to write, and what is not is not.
func TestOwn(t *testing.T) {
	mine := layer(t, map[string]string{"folder/file": "x", "link": ">/etc/passwd"})
	a := start(t, Sandbox{UID: 1000, GID: 1000, Mounts: []Mount{{Source: mine, Target: "/mine"}}})
	must(t, a.Own("/mine"))
	for _, file := range []string{"/mine/new", "/mine/folder/new", "/mine/folder/file", "/tmp/new"} {
		expect(t, a, "write", file, "x")
	}
	if out, err := probe(t, a, "write", "/new", "x"); idCount() > 1 && (err == nil || !strings.Contains(out, "permission denied")) {
		t.Errorf("another one's folder: %s, %v", out, err)
	}
	if out, err := probeAs(t.Context(), a, Command{Args: []string{"write", "/new", "x"}, Root: true}); err != nil {
		t.Errorf("root in the same place: %s, %v", out, err)
	}
	if err := a.Own("/nothing"); err == nil || !strings.Contains(err.Error(), "/nothing in the sandbox") {
		t.Errorf("what is not there: %v", err)
	}
}

// TestAdministration: who may mount does it in a place of their own, and takes no cover away.
func TestAdministration(t *testing.T) {
	for _, s := range []Sandbox{{}, {UID: 1000, GID: 1000}} {
		s.Capabilities.Add = []int{unix.CAP_SYS_ADMIN}
		t.Run(fmt.Sprint(s.UID), func(t *testing.T) {
			a := start(t, s)
			expect(t, a, "mount")
			expect(t, a, "unshare", fmt.Sprint(unix.CLONE_NEWNS))
			expect(t, a, "unshare", fmt.Sprint(unix.CLONE_NEWUTS))
			for _, tc := range []struct{ command, want string }{
				{"umount", "invalid argument"}, // what covers /proc/sys is locked
				{"append /proc/sys/kernel/core_pattern", "read-only file system|permission denied"},
				{"write /sys/x x", "read-only file system"},
				{"mknod /tmp/null", "operation not permitted"},
				{"bpf", "operation not permitted"},
				{"settime", "operation not permitted"},
			} {
				if out, err := probe(t, a, strings.Fields(tc.command)...); err == nil || !oneOf(out, tc.want) {
					t.Errorf("%s: got %q, %v", tc.command, out, err)
				}
			}
		})
	}
}

// TestNoSuchID: ids that packages cannot own either.
func TestNoSuchID(t *testing.T) {
	if idCount() == 1 {
		return // it is the only one, under any number
	}
	s := Sandbox{Layers: []string{probeLayer(native)}, UID: idRange}
	a, err := s.Start(t.Context())
	if err == nil {
		a.Close()
		t.Fatal("it was made")
	}
	if !strings.Contains(err.Error(), "no id 65536:0") {
		t.Error(err)
	}
}
