package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Remove deletes folders that environments wrote to, whatever the ids and modes of what is in them: to the
// caller they may belong to strangers, inside a namespace like the one that made them they belong to root. What is
// missing is no error.
func Remove(ctx context.Context, dirs ...string) error {
	if err := removeAll(dirs); err == nil || os.Geteuid() == 0 {
		return err
	}
	var absolute []string
	for _, dir := range dirs {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		absolute = append(absolute, dir)
	}
	a, err := spawn(ctx, stageRemove, false, Limits{})
	if err != nil {
		return fmt.Errorf("removing %s: %w", dirs, err)
	}
	defer a.Close()
	r, err := a.ask(request{Remove: absolute})
	if err != nil {
		return fmt.Errorf("removing %s: %w", dirs, err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

func removeStage(w *wire) error {
	var r request
	if _, err := w.receive(&r); err != nil {
		return err
	}
	if err := removeAll(r.Remove); err != nil {
		return err
	}
	return w.send(reply{})
}

func removeAll(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		err := os.RemoveAll(dir)
		for errors.Is(err, unix.EMFILE) {
			if err = raise(dir); err == nil {
				err = os.RemoveAll(dir)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// levels is how deep folders may lie in each other everywhere. RemoveAll has all of them open at a time, and some process
// has made more than it may open.
const levels = 256

// raise moves folders that lie so deep to the top, with all that is below them.
func raise(dir string) error {
	top, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	raised := 0
	err = fs.WalkDir(top.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || strings.Count(name, "/") < levels {
			return err
		}
		if err := top.Rename(name, rand.Text()); err != nil {
			return err
		}
		raised++
		return fs.SkipDir
	})
	if err == nil && raised == 0 {
		err = errors.New("too many files are open")
	}
	if err != nil {
		return fmt.Errorf("raising what lies too deep in %s: %w", dir, err)
	}
	return nil
}
