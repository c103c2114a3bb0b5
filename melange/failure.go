package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"distro.internal/melange/build"
	"distro.internal/shared/console"
	"distro.internal/shared/document"
)

// failureTail is how many of the last lines that a step printed are shown again.
const failureTail = 10

// explain tells the story of a failure: of a step its line in the recipe and the last that it said; where the rest is,
// and how to get to where it failed.
func (s surroundings) explain(job build.Job, log *stepLog, err error) {
	var step *build.StepError
	var pack *build.PackError
	style := console.StyleOf(s.stderr, s.noColor)
	from := len(job.Plan.Steps) + 1
	switch {
	case errors.As(err, &step):
		from = step.N
		s.explainStep(style, log, step)
	case errors.As(err, &pack):
		fmt.Fprintf(s.stderr, "\n%s\n", style.Bad("no step failed, but no packages can be made of what they left"))
	default:
		return
	}
	if log.file != nil {
		fmt.Fprintf(s.stderr, "log:       %s\n", log.name)
	}
	again := shellWords(s.args)
	if job.Keep == build.KeepNever {
		fmt.Fprintf(s.stderr, "look into: melange %s --shell\n", again)
		return
	}
	fmt.Fprintf(s.stderr, "look into: melange shell --kept %s%s\n", job.KeptName(), s.cacheFlag(log.cache))
	if job.Test == nil {
		fmt.Fprintf(s.stderr, "go on:     melange %s --from-step %d\n", shellWords(without(s.args, "--from-step")), from)
	}
}

func (s surroundings) explainStep(style console.Style, log *stepLog, failure *build.StepError) {
	fmt.Fprintf(s.stderr, "\n%s\n", style.Bad(fmt.Sprintf("step %d of %d failed: %s: %v", failure.N, failure.Of, failure.Step.Title(), failure.Err)))
	s.quote(style, failure.Step.Pos)
	if failure.Step.Uses != "" {
		s.quote(style, failure.Step.ScriptPos)
	}
	for _, line := range log.tail(failureTail) {
		fmt.Fprintf(s.stderr, "  %s %s\n", style.Faint("|"), line)
	}
}

// quote shows a line of a file, if it is one that can be read from here.
func (s surroundings) quote(style console.Style, pos document.Pos) {
	text, err := os.ReadFile(pos.File)
	if err != nil {
		fmt.Fprintf(s.stderr, "  %s\n", pos)
		return
	}
	lines := strings.Split(string(text), "\n")
	if pos.Line < 1 || pos.Line > len(lines) {
		return
	}
	fmt.Fprintf(s.stderr, "  %s %s\n", style.Faint(pos.String()+":"), strings.TrimSpace(lines[pos.Line-1]))
}

// cacheFlag names a cache that is not the usual one.
func (s surroundings) cacheFlag(dir string) string {
	if dir == s.cache {
		return ""
	}
	return " --cache-dir " + shellWords([]string{dir})
}

// shellWords are words as a shell reads them.
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		q, err := syntax.Quote(w, syntax.LangPOSIX)
		if err != nil {
			q = w
		}
		quoted[i] = q
	}
	return strings.Join(quoted, " ")
}

// without leaves out a flag that has a value.
func without(args []string, flag string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == flag:
			i++
		case !strings.HasPrefix(args[i], flag+"="):
			rest = append(rest, args[i])
		}
	}
	return rest
}

// A stepLog is the file that steps print to. It is made when something is printed, so that of each package there is the
// log of when its steps last ran.
type stepLog struct {
	name, cache string
	file        *os.File
}

func newStepLog(cache string, job build.Job) *stepLog {
	return &stepLog{name: filepath.Join(cache, "logs", filepath.FromSlash(job.KeptName())+".log"), cache: cache}
}

func (l *stepLog) Write(p []byte) (int, error) {
	if l.file == nil {
		err := os.MkdirAll(filepath.Dir(l.name), 0o755)
		if err == nil {
			l.file, err = os.Create(l.name)
		}
		if err != nil {
			return 0, err
		}
	}
	return l.file.Write(p)
}

func (l *stepLog) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// tail is the last lines of the log.
func (l *stepLog) tail(n int) []string {
	const most = 64 << 10
	if l.file == nil {
		return nil
	}
	info, err := l.file.Stat()
	if err != nil {
		return nil
	}
	text := make([]byte, min(info.Size(), most))
	if _, err := l.file.ReadAt(text, info.Size()-int64(len(text))); err != nil {
		return nil
	}
	return lastLines(string(text), n)
}
