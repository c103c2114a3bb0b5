package catalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
	"distro.internal/shared/solve/synthetic"
)

var (
	judgeAPK  = flag.String("apk", "", "`program` apk of apk-tools 3, to be measured beside this package")
	judgeAPKO = flag.String("apko", "", "`program` apko of others, likewise")
	ownAPKO   = flag.String("own-apko", "", "`program` apko of this workspace, likewise")
	entries   = flag.Int("entries", 150000, "`number` of entries of the index")
	wanted    = flag.Int("wanted", 50, "`number` of packages to solve")
	runs      = flag.Int("runs", 7, "`number` of runs, of which the median counts")
)

// child names the environment variable that makes a process of this test do one
// thing and end: what is measured is a whole process.
const child = "CATALOG_TEST_CHILD"

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	switch os.Getenv(child) {
	case "":
		os.Exit(m.Run())
	case "make":
		err = makeScene(scene(flag.Arg(0)))
	case "solve":
		err = solveScene(scene(flag.Arg(0)), flag.Arg(1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A scene is a folder with a repository, a key, and a world.
type scene string

func (s scene) file(name string) string { return filepath.Join(string(s), name) }

func makeScene(s scene) error {
	key, err := apk.GenerateKey(4096)
	if err != nil {
		return err
	}
	signer, err := apk.NewSigner("scene.rsa.pub", key)
	if err != nil {
		return err
	}
	pem, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	index := synthetic.Index(*entries, 1)
	var packed bytes.Buffer
	if err := apk.WriteIndex(&packed, index, signer); err != nil {
		return err
	}
	world, n, err := solvable(index, *wanted)
	if err != nil {
		return err
	}
	list, err := json.Marshal(world)
	if err != nil {
		return err
	}
	config := fmt.Sprintf("contents:\n  repositories: [%q]\n  keyring: [%q]\n  packages: %s\narchs: [x86_64]\n",
		s.file("repository"), s.file("keys/scene.rsa.pub"), list)
	for name, content := range map[string][]byte{
		"repository/x86_64/APKINDEX.tar.gz": packed.Bytes(), "keys/scene.rsa.pub": []byte(pem), "world": []byte(strings.Join(world, " ")), "apko.yaml": []byte(config),
		"root/etc/apk/world": nil, "root/lib/apk/db/installed": nil, "root/etc/apk/repositories": []byte(s.file("repository") + "\n"),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(s.file(name)), 0o755), os.WriteFile(s.file(name), content, 0o644)); err != nil {
			return err
		}
	}
	fmt.Printf("%d entries, index of %d bytes, %d packages wanted, %d to install\n", len(index.Packages), packed.Len(), len(world), n)
	return nil
}

// solvable makes a world that has a solution, and tells of how many packages.
func solvable(index *apk.Index, size int) (world []string, packages int, err error) {
	u := solve.Compile([]solve.Repository{{Index: index}}, "x86_64")
	g := rand.New(rand.NewPCG(3, uint64(size)))
	var deps []apk.Dependency
	for len(deps) < size {
		more := append(slices.Clip(deps), apk.Dependency{Name: index.Packages[g.IntN(len(index.Packages))].Name})
		if s, err := u.Solve(more, solve.Options{}); err == nil {
			deps, packages = more, len(s.Packages)
		}
	}
	for _, d := range deps {
		world = append(world, d.Name)
	}
	return world, packages, u.Err()
}

// solveScene is what a program does that wants to know what to install.
func solveScene(s scene, cache string) error {
	debug.SetGCPercent(400) // as apko has it
	ring, err := apk.LoadKeyring(s.file("keys/scene.rsa.pub"))
	if err != nil {
		return err
	}
	b, err := os.ReadFile(s.file("world"))
	if err != nil {
		return err
	}
	world, err := apk.ParseDependencies(string(b))
	if err != nil {
		return err
	}
	start := time.Now()
	u, err := Open(context.Background(), &repository.Client{Cache: cache}, "x86_64", Source{Source: repository.Source{URL: s.file("repository"), Keyring: ring}})
	if err != nil {
		return err
	}
	opened := time.Now()
	solution, err := u.Solve(world, solve.Options{})
	if err != nil {
		return err
	}
	for _, p := range solution.Packages {
		fmt.Println(p.Name + "-" + string(p.Version))
	}
	fmt.Fprintf(os.Stderr, "opened in %v, solved in %v\n", opened.Sub(start), time.Since(opened))
	return nil
}

// A cost is what a process took.
type cost struct {
	wall, cpu time.Duration
	memory    int64 // KiB, at the most
}

// measure runs a program.
func measure(t *testing.T, cmd *exec.Cmd) (cost, string, error) {
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	start := time.Now()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	c := cost{time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), used.Maxrss}
	if problem.Len() > 0 && testing.Verbose() && cmd.Env != nil {
		io.Copy(os.Stderr, &problem)
	}
	if err != nil {
		err = fmt.Errorf("%v\n%.2000s%.2000s", err, &out, &problem)
	}
	return c, out.String(), err
}

// self runs this test as another process.
func self(t *testing.T, what string, args ...string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{fmt.Sprint("-entries=", *entries), fmt.Sprint("-wanted=", *wanted)}, args...)
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), child+"="+what)
	return cmd
}

// TestCost measures opening and solving, cold and warm, beside those who do the
// same, if told where they are; all in turns, so that a busy machine is
// unkind to all alike:
//
//	go test -v -run TestCost ./catalog -apk PROGRAM -apko PROGRAM -own-apko PROGRAM
//
// This process stays small, because the kernel counts its memory as its children's.
func TestCost(t *testing.T) {
	if *judgeAPK == "" && *judgeAPKO == "" && *ownAPKO == "" {
		*entries, *wanted, *runs = 3000, 5, 1 // to see that it works
	}
	s := scene(t.TempDir())
	_, about, err := measure(t, self(t, "make", string(s)))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(strings.TrimSpace(about))
	runtime.GC()
	time.Sleep(2100 * time.Millisecond) // an index that was just written is read again each time
	world, err := os.ReadFile(s.file("world"))
	if err != nil {
		t.Fatal(err)
	}
	cold := 0
	freshCache := func() string { cold++; return s.file(fmt.Sprint("cache", cold)) }
	type contender struct {
		name      string
		run       func() *exec.Cmd
		mayRefuse bool // its solver gives up where apk does not
	}
	apko := func(program string, cache func() string) func() *exec.Cmd {
		return func() *exec.Cmd {
			return exec.Command(program, "show-packages", "--cache-dir", cache(), s.file("apko.yaml"))
		}
	}
	warm := func() string { return s.file("warm") }
	list := []contender{
		{"open and solve, cold", func() *exec.Cmd { return self(t, "solve", string(s), freshCache()) }, false},
		{"open and solve, warm", func() *exec.Cmd { return self(t, "solve", string(s), warm()) }, false},
	}
	if *judgeAPK != "" {
		list = append(list, contender{"apk add --simulate", func() *exec.Cmd {
			args := []string{"--root", s.file("root"), "--arch", "x86_64", "--keys-dir", s.file("keys"), "--root-tmpfs=no", "--no-cache", "--simulate", "add"}
			return exec.Command(*judgeAPK, append(args, strings.Fields(string(world))...)...)
		}, false})
	}
	if *judgeAPKO != "" {
		list = append(list, contender{"apko of others, cold", apko(*judgeAPKO, freshCache), true}, contender{"apko of others, warm", apko(*judgeAPKO, func() string { return s.file("warm-others") }), true})
	}
	if *ownAPKO != "" {
		list = append(list, contender{"apko, cold", apko(*ownAPKO, freshCache), false}, contender{"apko, warm", apko(*ownAPKO, func() string { return s.file("warm-own") }), false})
	}
	costs := make([][]cost, len(list))
	for round := range *runs + 1 { // the first warms up
		for i, c := range list {
			k, out, err := measure(t, c.run())
			if err == nil && strings.Count(out, "\n") < len(strings.Fields(string(world))) {
				err = fmt.Errorf("next to nothing was chosen:\n%s", out)
			}
			switch {
			case err != nil && !c.mayRefuse:
				t.Fatalf("%s: %v", c.name, err)
			case err != nil && round == 0:
				t.Logf("%s refuses, which is measured all the same: %.300v", c.name, err)
			}
			if round > 0 {
				costs[i] = append(costs[i], k)
			}
		}
	}
	medians := make([]cost, len(list))
	for i := range list {
		medians[i] = median(costs[i])
	}
	for i, c := range list {
		b := medians[i]
		t.Logf("%-22s %6.1f ms wall, %6.1f ms processor, %6.1f MB", c.name, ms(b.wall), ms(b.cpu), float64(b.memory)/1024)
		for j, o := range list[2:] {
			r := medians[2+j]
			if i < 2 {
				t.Logf("%-22s %6.3f of the wall, %6.3f of the processor, %6.3f of the memory of %s", "", ratio(b.wall, r.wall), ratio(b.cpu, r.cpu), ratio(b.memory, r.memory), o.name)
			}
		}
	}
}

// median is of the times; of the memory it is the most.
func median(list []cost) cost {
	half := len(list) / 2
	by := func(compare func(a, b cost) int) cost { return slices.SortedFunc(slices.Values(list), compare)[half] }
	return cost{
		wall:   by(func(a, b cost) int { return cmp.Compare(a.wall, b.wall) }).wall,
		cpu:    by(func(a, b cost) int { return cmp.Compare(a.cpu, b.cpu) }).cpu,
		memory: slices.MaxFunc(list, func(a, b cost) int { return cmp.Compare(a.memory, b.memory) }).memory,
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func ratio[T ~int64](a, b T) float64 { return float64(a) / float64(b) }
