package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"distro.internal/ci/graph"
	"distro.internal/ci/stage0"
	"distro.internal/melange/build"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
	"distro.internal/shared/repository"
	"distro.internal/shared/rootfs"
	"distro.internal/shared/solve"
)

// Programs that nobody here wrote judge the images: skopeo, umoci, docker-registry, cosign and crun. They are Debian's, made
// into a root of their own as the first tools are; testdata/judges pins them.

// judges is the folders of that root, lowest first.
func (s *sample) judges(t *testing.T) []string {
	flags := s.flags
	flags.file = "ci/testdata/judges/world.yaml"
	w, err := openWorld(s.surroundings, &flags)
	must(t, err)
	must(t, w.makeStage0(t.Context(), io.Discard))
	config, err := w.stage0Config()
	must(t, err)
	return rootOf(t, w, config)
}

// rootOf is the folders of a root with all that was made of a specification, lowest first.
func rootOf(t testing.TB, w *world, config stage0.Config) []string {
	keyring, err := apk.LoadKeyring(stage0.PublicKey(config.Dir))
	must(t, err)
	offer, err := build.Repositories(t.Context(), w.client, []repository.Source{{URL: config.Dir, Keyring: keyring}}, stage0.Arch, stage0.Arch)
	must(t, err)
	var world []apk.Dependency
	for _, name := range config.Spec.Seeds {
		world = append(world, apk.Dependency{Name: name})
	}
	solution, err := offer.Universe.Solve(world, solve.Options{})
	must(t, err)
	var layers []rootfs.Layer
	for _, c := range solution.Packages {
		file, verify, err := offer.Install(c).File(t.Context())
		must(t, err)
		layer, err := w.builder.Roots.Unpack(t.Context(), file, verify)
		must(t, err)
		layers = append(layers, layer)
	}
	root, err := w.builder.Roots.Compose(t.Context(), layers, rootfs.Compose{Arch: stage0.Arch, World: world})
	must(t, err)
	return root.Layers
}

// judged lets others read, unpack, copy, push, pull and run what was made.
func (s *sample) judged(t *testing.T) {
	layers, work := s.judges(t), t.TempDir()
	apko := filepath.Join(work, "apko")
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", apko, "distro.internal/apko")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("building apko: %v\n%s", err, out)
	}
	j := &sandbox.Sandbox{
		Layers: layers, Limits: sandbox.Limits{Wall: time.Minute},
		Mounts: []sandbox.Mount{{Source: s.dir, Target: "/workspace", ReadOnly: true}, {Source: work, Target: "/work"}},
		Env:    []string{"PATH=/work:/usr/bin:/usr/sbin", "HOME=/tmp", "TMPDIR=/tmp", "IMAGES=/workspace/" + filepath.ToSlash(s.config.Output) + "/images"},
	}
	a, err := j.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { a.Close() })
	for _, n := range s.graph.Nodes() {
		if n.Kind != graph.Image {
			continue
		}
		t.Run("Layout/"+n.Name, func(t *testing.T) { s.layoutJudged(t, a, n.Name, work) })
		t.Run("Tarball/"+n.Name, func(t *testing.T) { judge(t, a, tarballScript, n.Name) })
	}
	t.Run("Registry", func(t *testing.T) { judge(t, a, registryScript) })
	t.Run("Signed", func(t *testing.T) { judge(t, a, signedScript) })
	t.Run("Crun", func(t *testing.T) { s.crunRuns(t, layers, work) })
}

func judge(t *testing.T, a *sandbox.Agent, script string, args ...string) {
	t.Helper()
	runIn(t, a, sandbox.Command{Args: append([]string{"bash", "-euxo", "pipefail", "-c", script, "judge"}, args...), Dir: "/workspace"})
}

// layoutScript IMAGE ARCH: skopeo reads and copies one architecture, umoci unpacks it.
const layoutScript = `
skopeo inspect --override-arch "$2" "oci:$IMAGES/$1:latest" > "/work/$1-$2.json"
grep -q "\"Architecture\": \"$2\"" "/work/$1-$2.json"
skopeo copy -q --insecure-policy --override-arch "$2" "oci:$IMAGES/$1:latest" "oci:/work/one-$1:$2"
touch /etc/resolv.conf # umoci wants the machine's
umoci unpack --rootless --image "/work/one-$1:$2" "/work/bundle-$1-$2"
`

// wholeScript IMAGE: a copy of all architectures has the digest that the layout has.
const wholeScript = `
skopeo copy -q --insecure-policy --all --preserve-digests "oci:$IMAGES/$1:latest" "oci:/work/all-$1:latest"
test "$(skopeo inspect --raw "oci:$IMAGES/$1:latest" | sha256sum)" = "$(skopeo inspect --raw "oci:/work/all-$1:latest" | sha256sum)"
`

func (s *sample) layoutJudged(t *testing.T, a *sandbox.Agent, name, work string) {
	judge(t, a, wholeScript, name)
	for _, arch := range s.config.Archs {
		platform := platforms[arch]
		judge(t, a, layoutScript, name, platform)
		image, err := readImage(s.out("images", name), platform)
		must(t, err)
		got, err := filetree.Scan(filepath.Join(work, "bundle-"+name+"-"+platform, "rootfs"), filetree.ScanOptions{
			Xattr: func(string) bool { return false },
		})
		must(t, err)
		if was, is := listing(t, image.tree), listing(t, got); was != is {
			t.Errorf("%s: umoci unpacks otherwise:\n%s", arch, firstDifference(was, is))
		}
	}
}

// listing tells of each file what a disk keeps when its owner may not be set.
func listing(t *testing.T, tree *filetree.Tree) string {
	var b strings.Builder
	for e := range tree.All() {
		if e.HardLink {
			target, ok := tree.Lookup(e.Link)
			if !ok {
				t.Fatalf("%s is a link to nothing", e.Path)
			}
			e = &filetree.Entry{Path: e.Path, Mode: target.Mode, ModTime: target.ModTime, Size: target.Size, Open: target.Open}
		}
		fmt.Fprintf(&b, "%s %v", e.Path, e.Mode)
		switch {
		case e.Mode&fs.ModeSymlink != 0:
			fmt.Fprintf(&b, " -> %s", e.Link)
		case e.IsRegular():
			r, err := tree.Open(e)
			must(t, err)
			fmt.Fprintf(&b, " %d %s", e.ModTime.Unix(), digestOf(t, r))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func digestOf(t *testing.T, r io.ReadCloser) string {
	defer r.Close()
	h := sha256.New()
	_, err := io.Copy(h, r)
	must(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

func firstDifference(a, b string) string {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(left), len(right)) {
		if left[i] != right[i] {
			return "is     " + left[i] + "\nbecame " + right[i]
		}
	}
	return fmt.Sprintf("%d entries became %d", len(left), len(right))
}

// tarballScript IMAGE: apko's tarball is an archive of both kinds, and what is in it is what apko says it is.
const tarballScript = `
apko build "images/$1.yaml" "$1:latest" "/work/$1.tar" --cache-dir /work/cache > "/work/$1.digest"
for arch in amd64 arm64; do
	test "$(skopeo inspect --format '{{.Architecture}}' "docker-archive:/work/$1.tar:$1:latest-$arch")" = "$arch"
done
skopeo copy -q --insecure-policy --all --preserve-digests "oci-archive:/work/$1.tar:latest" "oci:/work/tar-$1:latest"
test "$(cat "/work/$1.digest")" = "sha256:$(skopeo inspect --raw "oci:/work/tar-$1:latest" | sha256sum | cut -d' ' -f1)"
`

// registryScript: apko pushes an image of two architectures to a registry, and skopeo brings back what was pushed.
const registryScript = `
cat > /tmp/registry.yml <<'EOF'
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /work/registry}}
http: {addr: 127.0.0.1:5000}
EOF
docker-registry serve /tmp/registry.yml > /tmp/registry.log 2>&1 &
server=$!
trap 'cat /tmp/registry.log' EXIT
until (: < /dev/tcp/127.0.0.1/5000) 2> /dev/null; do
	kill -0 $server
done
reference=$(apko publish images/nginx.yaml 127.0.0.1:5000/web/nginx:1 127.0.0.1:5000/web/nginx:latest --cache-dir /work/cache)
made=$(apko build images/nginx.yaml nginx:1 /work/nginx-made --cache-dir /work/cache)
test "$reference" = "127.0.0.1:5000/web/nginx@$made"
for arch in amd64 arm64; do
	test "$(skopeo inspect --tls-verify=false --override-arch $arch --format '{{.Architecture}} {{.Digest}}' docker://127.0.0.1:5000/web/nginx:1)" = "$arch $made"
done
skopeo copy -q --insecure-policy --all --preserve-digests --src-tls-verify=false "docker://127.0.0.1:5000/web/nginx@$made" oci:/work/back:latest
test "sha256:$(skopeo inspect --raw oci:/work/back:latest | sha256sum | cut -d' ' -f1)" = "$made"
apko publish images/nginx.yaml 127.0.0.1:5000/web/nginx:1 --cache-dir /work/cache
test "$(skopeo list-tags --tls-verify=false docker://127.0.0.1:5000/web/nginx | grep -c '"1"\|"latest"')" = 2
`

// signedScript: cosign finds good what apko signed and attached, of the index and of each architecture, and nobody else's
// key signed it. An empty trusted root keeps cosign from looking for services.
const signedScript = `
cd /work
export COSIGN_PASSWORD=judged
cosign generate-key-pair
cosign generate-key-pair --output-key-prefix other
cosign trusted-root create --out nobody.json
cd /workspace
docker-registry serve /tmp/registry.yml > /tmp/registry.log 2>&1 &
server=$!
trap 'cat /tmp/registry.log' EXIT
until (: < /dev/tcp/127.0.0.1/5000) 2> /dev/null; do
	kill -0 $server
done
apko publish images/nginx.yaml 127.0.0.1:5000/web/nginx:2 --cache-dir /work/cache --image-refs /work/refs --sign-key /work/cosign.key --attach sbom,provenance
for image in $(cat /work/refs); do
	cosign verify --key /work/cosign.pub --insecure-ignore-tlog=true "$image"
	for type in spdxjson slsaprovenance1 https://sigstore.dev/cosign/sign/v1; do
		cosign verify-attestation --key /work/cosign.pub --insecure-ignore-tlog=true --new-bundle-format --trusted-root /work/nobody.json --type $type "$image" > /dev/null
	done
	if cosign verify --key /work/other.pub --insecure-ignore-tlog=true "$image"; then exit 1; fi
	if cosign verify-attestation --key /work/other.pub --insecure-ignore-tlog=true --new-bundle-format --trusted-root /work/nobody.json --type spdxjson "$image"; then exit 1; fi
done
`

// crunRuns starts the bundles that umoci made in a runtime that is not ours.
func (s *sample) crunRuns(t *testing.T, layers []string, work string) {
	c := crun{work: work}
	for _, dir := range layers {
		if libs := filepath.Join(dir, "usr/lib/x86_64-linux-gnu"); exists(libs) {
			c.libraries = append(c.libraries, libs)
		}
		if program := filepath.Join(dir, "usr/bin/crun"); exists(program) {
			c.program = program
		}
	}
	for _, dir := range c.libraries {
		if loader := filepath.Join(dir, "ld-linux-x86-64.so.2"); exists(loader) {
			c.loader = loader
		}
	}
	t.Run("base", func(t *testing.T) {
		c.bundle(t, "base", "/bin/sh", "-c", "uname -m && id -u && . /etc/os-release && echo $ID")
		out, err := c.command(t, "run", "--bundle", c.dir("base"), "judged-base").CombinedOutput()
		if err != nil || string(out) != "x86_64\n0\ndistro\n" {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("nginx", func(t *testing.T) {
		c.bundle(t, "nginx", "/usr/sbin/nginx", "-g", "daemon off; user root;") // there is no other user here
		run := c.command(t, "run", "--bundle", c.dir("nginx"), "judged-nginx")
		said, err := run.StderrPipe()
		must(t, err)
		must(t, run.Start())
		var log strings.Builder
		stopped := false
		for lines := bufio.NewScanner(said); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if !stopped && strings.Contains(lines.Text(), "start worker process ") {
				stopped = true
				if out, err := c.command(t, "kill", "judged-nginx", "QUIT").CombinedOutput(); err != nil {
					t.Errorf("crun kill: %v\n%s", err, out)
				}
			}
		}
		if err := run.Wait(); err != nil || !stopped {
			t.Errorf("%v\n%s", err, &log)
		}
	})
}

// A crun is that program with its own loader and libraries, so that this machine needs none.
type crun struct {
	program, loader string
	libraries       []string
	work            string
}

func (c crun) dir(name string) string { return filepath.Join(c.work, "bundle-"+name+"-amd64") }

// command runs crun where control groups are out of its sight: what it may do with them differs from machine to machine.
func (c crun) command(t *testing.T, args ...string) *exec.Cmd {
	script := `mount -t tmpfs none /sys/fs/cgroup && exec "$@"`
	words := []string{"--user", "--map-root-user", "--mount", "sh", "-c", script, "crun",
		c.loader, "--library-path", strings.Join(c.libraries, ":"), c.program,
		"--root", filepath.Join(c.work, "crun"), "--cgroup-manager=disabled"}
	return exec.CommandContext(t.Context(), "unshare", append(words, args...)...)
}

// bundle says in the bundle that umoci made what is run: without a terminal, and in a network of its own.
func (c crun) bundle(t *testing.T, name string, args ...string) {
	file := filepath.Join(c.dir(name), "config.json")
	var spec map[string]any
	must(t, readJSON(file, &spec))
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
	process["user"] = map[string]any{"uid": 0, "gid": 0}
	spec["mounts"] = slices.DeleteFunc(spec["mounts"].([]any), func(m any) bool {
		return strings.HasPrefix(m.(map[string]any)["destination"].(string), "/etc/")
	})
	linux := spec["linux"].(map[string]any)
	linux["namespaces"] = append(linux["namespaces"].([]any), map[string]any{"type": "network"})
	data, err := json.Marshal(spec)
	must(t, err)
	must(t, os.WriteFile(file, data, 0o644))
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}
