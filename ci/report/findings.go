package report

import (
	"fmt"
	"io"
	"strings"

	"distro.internal/ci/policy"
)

// Findings tells what a change was found to do. The first line of each has the
// form of a compiler's message.
func (r *Report) Findings(list []policy.Finding) {
	for _, f := range list {
		if r.c.JSON {
			r.object(struct {
				Event string `json:"event"`
				policy.Finding
			}{"finding", f})
			continue
		}
		for i, line := range findingLines(f) {
			if i > 0 {
				line = "    " + line
			}
			r.console.Println(line)
		}
	}
	if !r.c.JSON {
		r.console.Println("check: " + severities(list))
	}
}

func findingLines(f policy.Finding) []string {
	place := ""
	if f.At != "" {
		place = f.At + ": "
	}
	lines := []string{fmt.Sprintf("%s%s: %s: %s (%s)", place, f.Severity, f.Check, f.What, strings.Join(f.Nodes, ", "))}
	if f.Why != "" {
		lines = append(lines, strings.Split(f.Why, "\n")...)
	}
	if f.Fix != "" {
		lines = append(lines, "fix: "+f.Fix)
	}
	if f.Reason != "" {
		lines = append(lines, "excepted: "+f.Reason)
	}
	return lines
}

// severities counts findings.
func severities(list []policy.Finding) string {
	count := map[policy.Severity]int{}
	for _, f := range list {
		count[f.Severity]++
	}
	var words []string
	for _, s := range []policy.Severity{policy.Failure, policy.Warning, policy.Excepted} {
		switch n := count[s]; {
		case n == 0:
		case s == policy.Excepted:
			words = append(words, fmt.Sprintf("%d excepted", n))
		case n == 1:
			words = append(words, fmt.Sprintf("1 %s", s))
		default:
			words = append(words, fmt.Sprintf("%d %ss", n, s))
		}
	}
	if len(words) == 0 {
		return "nothing found"
	}
	return strings.Join(words, ", ")
}

// Markdown writes findings as a comment on the change, under what was looked at.
func Markdown(w io.Writer, list []policy.Finding, about string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### Check: %s\n\n%s.\n", severities(list), about)
	for _, s := range []policy.Severity{policy.Failure, policy.Warning, policy.Excepted} {
		markdownList(&b, list, s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var markdownTitles = map[policy.Severity]string{policy.Failure: "Errors", policy.Warning: "Warnings", policy.Excepted: "Excepted"}

func markdownList(b *strings.Builder, list []policy.Finding, s policy.Severity) {
	title := false
	for _, f := range list {
		if f.Severity != s {
			continue
		}
		if !title {
			fmt.Fprintf(b, "\n#### %s\n\n", markdownTitles[s])
			title = true
		}
		fmt.Fprintf(b, "- **%s**: %s", f.Check, escaped(f.What))
		if f.At != "" {
			fmt.Fprintf(b, " (%s)", code(f.At))
		}
		fmt.Fprintf(b, "<br>%s\n", code(strings.Join(f.Nodes, ", ")))
		if strings.Contains(f.Why, "\n") {
			fmt.Fprintf(b, "\n  ```\n  %s\n  ```\n", strings.ReplaceAll(strings.ReplaceAll(f.Why, "```", "'''"), "\n", "\n  "))
		} else if f.Why != "" {
			fmt.Fprintf(b, "  - %s\n", escaped(f.Why))
		}
		if f.Fix != "" {
			fmt.Fprintf(b, "  - fix: %s\n", escaped(f.Fix))
		}
		if f.Reason != "" {
			fmt.Fprintf(b, "  - excepted: %s\n", escaped(f.Reason))
		}
	}
}

// code is text as it is; nothing can end it too early.
func code(text string) string { return "`" + strings.ReplaceAll(text, "`", "'") + "`" }

// escaped is text that Markdown takes for nothing else: names of files and words of recipes may be anything.
func escaped(text string) string { return markdownEscape.Replace(text) }

var markdownEscape = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "@", "&#64;", "#", `\#`, "|", `\|`, "~", `\~`, "\n", " ")
