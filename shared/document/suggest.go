package document

import "strings"

// Suggest returns the candidate that word was most probably meant to be, "" when none is near: one that a few slips of
// the fingers make of it, else one that goes on where the word ends or the other way round. Of equally near ones the
// first wins, so give the candidates in a stable order.
func Suggest(word string, candidates []string) string {
	best, limit := "", max(1, min(3, len(word)/4))
	for _, c := range candidates {
		if c == word {
			continue
		}
		if d := distance(word, c, limit); d <= limit {
			best, limit = c, d-1
		}
	}
	if best == "" {
		best = longer(word, candidates)
	}
	return best
}

// shortest is how much of a word says what was meant.
const shortest = 4

// longer finds the candidate that shares the most of its beginning with the word, all of one of the two.
func longer(word string, candidates []string) string {
	best, shared := "", shortest-1
	for _, c := range candidates {
		n := min(len(word), len(c))
		if n > shared && c != word && (strings.HasPrefix(word, c) || strings.HasPrefix(c, word)) {
			best, shared = c, n
		}
	}
	return best
}

// DidYouMean is Suggest as a hint for an [Error]: `did you mean "x"?`, or "".
func DidYouMean(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return `did you mean "` + s + `"?`
	}
	return ""
}

// distance counts insertions, deletions, replacements and swaps of neighbours that turn a into b. It gives up, returning
// more than limit, when the lengths alone differ by more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
