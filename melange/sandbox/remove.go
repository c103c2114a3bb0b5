package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
