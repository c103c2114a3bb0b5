package build

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"distro.internal/melange/plugin"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/pipelines"
)

// storeDir is where portable steps find the store of modules, to read.
const storeDir = recipe.CacheDir + "/modules"

func portable(job Job) bool {
	return slices.ContainsFunc(job.steps(), func(s recipe.Step) bool { return s.Module != nil })
}

// modules puts the modules of the job's portable steps into the store. It tells their digests there, by identity.
func (b *Builder) modules(ctx context.Context, job Job) (map[string]string, error) {
	digests := map[string]string{}
	for i, s := range job.steps() {
		if s.Module == nil || digests[s.Module.Identity] != "" {
			continue
		}
		data, err := s.Module.Data, error(nil)
		if data == nil {
			data, err = pipelines.Module()
		}
		if err == nil {
			digests[s.Module.Identity], err = b.Modules.Add(ctx, data)
		}
		if err != nil {
			return nil, &StepError{Step: s, N: i + 1, Of: len(job.steps()), Err: fmt.Errorf("module %s: %w", s.Module.Name, err)}
		}
	}
	return digests, nil
}

// portable runs a step that is a WebAssembly program.
func (r *Room) portable(ctx context.Context, s recipe.Step) error {
	args, err := plugin.Run{
		Store:  storeDir,
		Digest: r.modules[s.Module.Identity],
		Args:   append([]string{s.Module.Name}, flags(s.Module.With)...),
		Env:    append(variables(s.Env), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.ws.epoch)),
		Root:   folderOfBoth(recipe.Workspace, s.Dir),
		Dir:    s.Dir,
		Epoch:  r.ws.epoch,
	}.Command()
	if err != nil {
		return err
	}
	return r.agent.Run(ctx, sandbox.Command{Self: true, Args: args, Stdout: r.log(), Stderr: r.log()})
}

// folderOfBoth is the folder that two others lie in, or one that the other lies in: a step that works beside the workspace
// sees both.
func folderOfBoth(a, b string) string {
	for a != "/" && b != a && !strings.HasPrefix(b, a+"/") {
		a = path.Dir(a)
	}
	return a
}

// flags are the arguments of a portable program: --key=value, sorted.
func flags(with map[string]string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(with)) {
		list = append(list, "--"+k+"="+with[k])
	}
	return list
}
