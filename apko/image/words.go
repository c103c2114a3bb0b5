package image

import (
	"errors"
	"strings"
)

// splitWords cuts a command line into words as a shell does, without expanding anything: quotes group, a backslash
// makes the next character plain.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	started := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\r':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a ' is not closed")
			}
			word.WriteString(s[i+1 : i+1+end])
			i += 1 + end
			started = true
		case '"':
			n, ok := quoted(s[i+1:], &word)
			if !ok {
				return nil, errors.New(`a " is not closed`)
			}
			i += n
			started = true
		case '\\':
			if i++; i == len(s) {
				return nil, errors.New(`a \ stands at the end`)
			}
			word.WriteByte(s[i])
			started = true
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted reads up to the closing double quote and returns how many bytes that took.
func quoted(s string, word *strings.Builder) (int, bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return i + 1, true
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\\\"$`\n", s[i+1]) >= 0:
			i++
			if s[i] != '\n' {
				word.WriteByte(s[i])
			}
		default:
			word.WriteByte(s[i])
		}
	}
	return 0, false
}
