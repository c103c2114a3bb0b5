package stage0

import (
	"strings"

	"distro.internal/shared/apk"
)

// apkVersion says a Debian version in apk's grammar. The epoch is left out.
// What stands behind the first number becomes a chain of suffixes, _p for a
// number that makes a version later and _pre for one behind a tilde, which
// makes it earlier: 5.40.1-6+deb13u1 is 5.40.1_p6_p13_p1. So different
// versions of a package stay different, and mostly in their order; letters
// other than one behind the first number count for nothing.
func apkVersion(debian string) apk.Version {
	if _, rest, ok := strings.Cut(debian, ":"); ok {
		debian = rest
	}
	head, rest := leadingNumber(debian)
	var b strings.Builder
	b.WriteString(head)
	suffix := "_p"
	for rest != "" {
		switch c := rest[0]; {
		case c == '~':
			suffix = "_pre"
		case c == '+' || c == '-':
			suffix = "_p"
		case isDigit(c):
			n := 1
			for n < len(rest) && isDigit(rest[n]) {
				n++
			}
			b.WriteString(suffix + rest[:min(n, maxDigits)])
			rest = rest[n:]
			continue
		}
		rest = rest[1:]
	}
	return apk.Version(b.String())
}

// maxDigits keeps a number within what any reader of versions can hold.
const maxDigits = 18

// leadingNumber cuts 1.2.3 or 1.2.3a off the front.
func leadingNumber(s string) (number, rest string) {
	n := 0
	for n < len(s) && (isDigit(s[n]) || s[n] == '.' && n > 0 && n+1 < len(s) && isDigit(s[n+1]) && isDigit(s[n-1])) {
		n++
	}
	if n == 0 {
		return "0", s
	}
	if n < len(s) && s[n] >= 'a' && s[n] <= 'z' && (n+1 == len(s) || strings.IndexByte("+-~", s[n+1]) >= 0) {
		n++
	}
	return s[:n], s[n:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
