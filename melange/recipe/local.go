package recipe

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"distro.internal/shared/document"
)

// ignoreFile lies among a recipe's own files and says, in the language of gitignore(5), which of them are none.
const ignoreFile = ".melangeignore"

// localFiles lists the recipe's own files: what lies in the folder that is named like the package, or in one that was
// given.
func (p *planner) localFiles() {
	folder := p.options.Local
	if folder == nil {
		if folder = p.ownFolder(); folder == nil {
			return
		}
	}
	files, err := listFiles(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.options.Local == nil:
		return
	case errors.Is(err, fs.ErrNotExist):
		p.errs.Add(document.Pos{File: p.recipe.File}, "", "the folder that is given for the own files of %s is not there", p.Name)
		return
	case err != nil:
		p.errs.Add(document.Pos{File: p.recipe.File}, "", "listing the files of %s: %v", p.Name, err)
		return
	}
	if p.LocalFiles = files; len(files) > 0 && p.options.Local == nil {
		p.LocalDir = p.Name
	}
}

func (p *planner) ownFolder() fs.FS {
	if p.options.Dir == nil || !fs.ValidPath(p.Name) {
		return nil
	}
	folder, err := fs.Sub(p.options.Dir, p.Name)
	if err != nil {
		return nil
	}
	return folder
}

func listFiles(folder fs.FS) ([]string, error) {
	ignored, err := readIgnored(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	err = fs.WalkDir(folder, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || file == ".":
			return err
		case file == ignoreFile:
			return nil
		case ignored != nil && ignored.Match(strings.Split(file, "/"), d.IsDir()):
			if d.IsDir() {
				return fs.SkipDir // nothing below a folder that is ignored can be taken back
			}
			return nil
		case !d.IsDir():
			files = append(files, file)
		}
		return nil
	})
	return files, err
}

// readIgnored is what the folder's ignoreFile says; nil when it has none.
func readIgnored(folder fs.FS) (gitignore.Matcher, error) {
	text, err := fs.ReadFile(folder, ignoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var patterns []gitignore.Pattern
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		patterns = append(patterns, gitignore.ParsePattern(line, nil))
	}
	return gitignore.NewMatcher(patterns), nil
}
