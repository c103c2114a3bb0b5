package recipe

import (
	"regexp"
	"strings"

	"distro.internal/shared/document"
)

var envLine = regexp.MustCompile(`^(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)$`)

// parseEnv reads lines of KEY=value. Lines may start with export; empty ones and those that start with # are skipped. A
// value may stand in single quotes, as it is, or in double quotes, with \n, \" and \\; a bare one ends before " #".
// Nothing is looked up: $HOME stays $HOME.
func parseEnv(f File) (map[string]string, error) {
	vars := map[string]string{}
	var errs document.ErrorList
	number := 0
	for line := range strings.Lines(string(f.Data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		pos := document.Pos{File: f.Name, Line: number}
		m := envLine.FindStringSubmatch(line)
		if m == nil {
			errs.Add(pos, "", "want KEY=value, found %q", line)
			continue
		}
		value, ok := envValue(m[2])
		if !ok {
			errs.Add(pos, "", "the value of %s lacks its closing quote", m[1])
			continue
		}
		vars[m[1]] = value
	}
	return vars, errs.Err()
}

func envValue(text string) (value string, ok bool) {
	switch {
	case strings.HasPrefix(text, "'"):
		value, _, ok = strings.Cut(text[1:], "'")
		return value, ok
	case strings.HasPrefix(text, `"`):
		return envQuoted(text[1:])
	}
	value, _, _ = strings.Cut(text, " #")
	return strings.TrimSpace(value), true
}

func envQuoted(text string) (value string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), true
		case c == '\\' && i+1 < len(text):
			i++
			switch text[i] {
			case 'n':
				b.WriteByte('\n')
			case '"', '\\':
				b.WriteByte(text[i])
			default:
				b.WriteString(text[i-1 : i+1])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
