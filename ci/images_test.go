package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"distro.internal/ci/graph"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// platforms are the architectures as images spell them.
var platforms = map[string]string{"x86_64": "amd64", "aarch64": "arm64"}

// An ociImage is what a layout has for one architecture, read as its specification says and without our own writer's code.
type ociImage struct {
	config ociConfig
	tree   *filetree.Tree // of all layers
}

type ociConfig struct {
	Architecture string
	Config       struct {
		User, WorkingDir, StopSignal string
		Env, Entrypoint, Cmd         []string
	}
}

type ociDescriptor struct {
	Digest   string
	Platform struct{ Architecture string }
}

type ociManifest struct {
	Config            ociDescriptor
	Layers, Manifests []ociDescriptor
}

func readImage(dir, platform string) (ociImage, error) {
	image := ociImage{tree: filetree.New()}
	var manifest ociManifest
	if err := readJSON(filepath.Join(dir, "index.json"), &manifest); err != nil {
		return image, err
	}
	for len(manifest.Manifests) > 0 { // indexes may nest
		i := slices.IndexFunc(manifest.Manifests, func(d ociDescriptor) bool {
			return d.Platform.Architecture == platform || d.Platform.Architecture == ""
		})
		if i < 0 {
			return image, fmt.Errorf("%s has nothing for %s", dir, platform)
		}
		next := ociManifest{}
		if err := readJSON(blob(dir, manifest.Manifests[i]), &next); err != nil {
			return image, err
		}
		manifest = next
	}
	for _, l := range manifest.Layers {
		if err := addLayer(image.tree, blob(dir, l)); err != nil {
			return image, err
		}
	}
	return image, readJSON(blob(dir, manifest.Config), &image.config)
}

func blob(dir string, d ociDescriptor) string {
	return filepath.Join(dir, "blobs", strings.ReplaceAll(d.Digest, ":", "/"))
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// addLayer puts a layer over what is there. Nothing here makes layers that take something away.
func addLayer(t *filetree.Tree, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	layer, err := filetree.ReadTar(z, nil)
	if err != nil {
		return err
	}
	for e := range layer.All() {
		if strings.HasPrefix(path.Base(e.Path), ".wh.") {
			return fmt.Errorf("layer %s takes away %s", file, e.Path)
		}
		if err := t.Put(*e); err != nil {
			return err
		}
	}
	return nil
}

// A container is an image unpacked, with what it takes to run it in our own sandbox.
type container struct {
	ociImage
	arch      string
	layers    []string // folders, lowest first
	tools     string   // folder of an image that has a shell for this machine
	emulators map[string]string
	oneID     bool // this machine gives its user no other ids: all users of the image are one
}

// toolsDir is where a container finds the small tools, whatever its image has.
const toolsDir = "/.tools"

// prelude of all scripts: bb is the busybox of the tools, fails wants a command to fail.
const prelude = "set -eu\n" +
	"bb() { " + toolsDir + "/lib/ld-musl-x86_64.so.1 " + toolsDir + "/bin/busybox \"$@\"; }\n" +
	"fails() { if \"$@\"; then echo \"it did not fail: $*\"; exit 1; fi; }\n"

func shell(script string, args ...string) []string {
	return append([]string{toolsDir + "/lib/ld-musl-x86_64.so.1", toolsDir + "/bin/busybox", "sh", "-c", prelude + script, "sh"}, args...)
}

// command is what the image says of how to run it.
func (c *container) command() sandbox.Command {
	o := c.config.Config
	return sandbox.Command{Args: slices.Concat(o.Entrypoint, o.Cmd), Dir: o.WorkingDir, Env: o.Env}
}

// start makes a new environment and lets root run a script in it.
func (c *container) start(t *testing.T, script string) *sandbox.Agent {
	t.Helper()
	s := &sandbox.Sandbox{
		Layers: c.layers, Mounts: []sandbox.Mount{{Source: c.tools, Target: toolsDir, ReadOnly: true}},
		Emulators: c.emulators, Hostname: "image", Limits: sandbox.Limits{Wall: time.Minute, Memory: 1 << 30, Pids: 512},
	}
	if user := c.config.Config.User; !c.oneID && user != "" {
		uid, gid, _ := strings.Cut(user, ":")
		s.UID, _ = strconv.Atoi(uid)
		s.GID, _ = strconv.Atoi(cmp.Or(gid, uid))
	}
	a, err := s.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { a.Close() })
	runIn(t, a, sandbox.Command{Args: shell(c.owners() + script), Root: true})
	return a
}

// owners is a script that gives the files to whom the image says. Unpacked they are all the caller's.
func (c *container) owners() string {
	var script strings.Builder
	for e := range c.tree.All() {
		if !c.oneID && (e.UID != 0 || e.GID != 0) {
			fmt.Fprintf(&script, "bb chown -h %d:%d '/%s'\n", e.UID, e.GID, e.Path)
		}
	}
	return script.String()
}

// script runs a script beside the image's command, which is "$@", as the user that the image says.
func (c *container) script(t *testing.T, before, script string) {
	t.Helper()
	a := c.start(t, before)
	command := c.command()
	command.Args = shell(script, command.Args...)
	runIn(t, a, command)
}

func runIn(t *testing.T, a *sandbox.Agent, c sandbox.Command) {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := a.Run(t.Context(), c); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
}

// imageStories tell of each image what must come true in it.
var imageStories = map[string]func(*testing.T, *container){
	"age":      ageStory,
	"base":     baseStory,
	"nginx":    nginxStory,
	"services": servicesStory,
	"static":   staticStory,
}

// imagesRun runs every image for every architecture.
func (s *sample) imagesRun(t *testing.T) {
	tools := t.TempDir()
	base, err := readImage(s.out("images", "base"), platforms[s.config.BuildArch])
	must(t, err)
	must(t, filetree.Extract(base.tree, tools, filetree.ExtractOptions{SkipDevices: true}))
	oneID := hasOneID(t, tools)
	emulators := s.emulators(t)
	for _, n := range s.graph.Nodes() {
		if n.Kind != graph.Image {
			continue
		}
		story, ok := imageStories[n.Name]
		if !ok {
			t.Errorf("nothing is known of image %s", n.Name)
			continue
		}
		for _, arch := range s.config.Archs {
			t.Run(n.Name+"/"+arch, func(t *testing.T) {
				image, err := readImage(s.out("images", n.Name), platforms[arch])
				must(t, err)
				c := &container{ociImage: image, arch: arch, tools: tools, emulators: emulators, oneID: oneID}
				c.unpack(t)
				story(t, c)
			})
		}
	}
}

func (s *sample) emulators(t *testing.T) map[string]string {
	emulators := map[string]string{}
	for _, arch := range s.config.Archs {
		if arch != s.config.BuildArch {
			program, err := s.emulator(t.Context(), apk.Arch(arch))
			must(t, err)
			emulators[arch] = program
		}
	}
	return emulators
}

// hasOneID tells whether the sandbox knows no user but root here.
func hasOneID(t *testing.T, tools string) bool {
	s := sandbox.Sandbox{Layers: []string{tools}}
	a, err := s.Start(t.Context())
	must(t, err)
	defer a.Close()
	var ids bytes.Buffer
	must(t, a.Run(t.Context(), sandbox.Command{Args: []string{"/bin/busybox", "cat", "/proc/self/uid_map"}, Stdout: &ids}))
	fields := strings.Fields(ids.String()) // inside, outside, how many
	return len(fields) == 3 && fields[2] == "1"
}

func (c *container) unpack(t *testing.T) {
	dir := t.TempDir()
	must(t, filetree.Extract(c.tree, dir, filetree.ExtractOptions{SkipDevices: true, OwnerAccess: true}))
	c.layers = []string{dir}
	if !c.oneID {
		return
	}
	over := t.TempDir()
	must(t, os.Mkdir(filepath.Join(over, "etc"), 0o755))
	for _, name := range []string{"etc/passwd", "etc/group"} {
		data, err := c.tree.ReadFile(name)
		must(t, err)
		numbers := regexp.MustCompile(`:x:[0-9]+(:[0-9]+)?`)
		data = numbers.ReplaceAllFunc(data, func(ids []byte) []byte {
			return regexp.MustCompile(`[0-9]+`).ReplaceAll(ids, []byte("0"))
		})
		must(t, os.WriteFile(filepath.Join(over, name), data, 0o644))
	}
	c.layers = append(c.layers, over)
}

// baseStory: the image's own shell reads a script.
func baseStory(t *testing.T, c *container) {
	a := c.start(t, "")
	command := c.command()
	command.Stdin = strings.NewReader(`set -eux
test "$(uname -m)" = ` + c.arch + `
. /etc/os-release
test "$ID" = distro
grep '^root:' /etc/passwd
grep '^nobody:' /etc/passwd
for p in busybox ca-certificates-bundle distro-baselayout distro-keys musl; do
	grep -qx "P:$p" /lib/apk/db/installed
done
test "$(sed -n 's/^A://p' /lib/apk/db/installed | sort -u)" = ` + c.arch + `
grep -q busybox /etc/apk/world
test -s "$SSL_CERT_FILE"
ls /etc/apk/keys/*.pub
test "$(stat -c %a /tmp)" = 1777
echo something | gzip | gunzip | awk '{ exit $1 != "something" }'
`)
	runIn(t, a, command)
}

// staticStory: nothing in the image can be run, and what programs need is there.
func staticStory(t *testing.T, c *container) {
	for e := range c.tree.All() {
		if e.IsRegular() && e.Mode&0o111 != 0 {
			t.Errorf("%s can be executed", e.Path)
		}
	}
	bundle, err := c.tree.ReadFile("etc/ssl/certs/ca-certificates.crt")
	must(t, err)
	count := 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Errorf("certificate %d: %v", count, err)
		}
		count++
	}
	if count < 100 {
		t.Errorf("%d certificates", count)
	}
	c.script(t, "", `
test "$(bb pwd)" = /home/nonroot
bb test -w .
bb test -r "$SSL_CERT_FILE"
bb grep nonroot:x:65532:65532: `+c.passwd()+`
bb test ! -e /bin/sh
`)
}

// passwd is the file of accounts as the image has it.
func (c *container) passwd() string {
	if c.oneID {
		return "/etc/passwd | bb sed s/:0:0:/:65532:65532:/"
	}
	return "/etc/passwd"
}

// ageStory: what was sealed for a key is opened by it, and by no other.
func ageStory(t *testing.T, c *container) {
	c.script(t, "", `
cd /tmp
age-keygen -o key 2> /dev/null
age-keygen -o other 2> /dev/null
echo secret | "$@" -r "$(age-keygen -y key)" > sealed
bb test "$("$@" -d -i key sealed)" = secret
fails "$@" -d -i other sealed
fails bb grep -q secret sealed
`)
}

// httpStatus is a function of the scripts: status PORT PATH prints how the server answers a request for this very path.
const httpStatus = `
status() { printf 'GET %s HTTP/1.0\r\n\r\n' "$2" | bb nc 127.0.0.1 "$1" | bb head -n 1; }
answers() {
	case "$(status "$1" "$2")" in
		*" $3 "*) ;;
		*) echo "$2 is answered with $(status "$1" "$2")"; exit 1 ;;
	esac
}
# until_served PORT PROCESS
until_served() {
	until bb wget -q -O /tmp/page "http://127.0.0.1:$1/" 2> /dev/null; do
		kill -0 "$2"
		bb sleep 0.05
	done
}
`

// nginxStory: the server serves its page and nothing else, and ends well when it is told to.
func nginxStory(t *testing.T, c *container) {
	c.script(t, "bb mkdir -m 755 /usr/share/nginx/html/closed", httpStatus+`
"$@" > /tmp/log 2>&1 &
server=$!
trap 'bb cat /tmp/log' EXIT
until_served 8080 $server
bb grep -qi "welcome to nginx" /tmp/page
answers 8080 / 200
answers 8080 /nothing 404
answers 8080 /closed/ 403
answers 8080 /../../../../etc/passwd 400
answers 8080 /%2e%2e/%2e%2e/etc/passwd 400
kill -s `+strings.TrimPrefix(c.config.Config.StopSignal, "SIG")+` $server
wait $server
fails bb wget -q -O - http://127.0.0.1:8080/
`)
}

// servicesStory: both services run, one that is killed comes back, and all end when the first process is told to.
func servicesStory(t *testing.T, c *container) {
	c.script(t, "", httpStatus+`
"$@" > /tmp/log 2>&1 &
supervisor=$!
trap 'bb cat /tmp/log' EXIT
until_served 8080 $supervisor
until_served 8081 $supervisor
bb grep -qi "welcome to nginx" /tmp/page
was=$(bb cat /sv/pages/supervise/pid)
kill -s KILL "$was"
until is=$(bb cat /sv/pages/supervise/pid) && bb test -n "$is" && bb test "$is" != "$was"; do
	kill -0 $supervisor
	bb sleep 0.05
done
until_served 8081 $supervisor
until_served 8080 $supervisor
kill -s TERM $supervisor
wait $supervisor
for process in /proc/[0-9]*; do
	if bb test $process = /proc/$$; then continue; fi # its command line is this script
	if bb tr '\0' ' ' < $process/cmdline 2> /dev/null | bb grep -E 'nginx:|httpd|runsv'; then
		echo "is still there"
		exit 1
	fi
done
fails bb wget -q -O - http://127.0.0.1:8081/
`)
}
