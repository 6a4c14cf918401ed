package claudepool

import (
	"slices"
	"strings"
	"unicode"
)

// words splits a text as a shell does: at white space that is neither quoted nor
// behind a backslash. A text whose quotes are not closed is split at white space.
func words(text string) []string {
	var out []string
	var word strings.Builder
	var quote rune
	started, escaped := false, false
	for _, c := range text {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			started, escaped = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			started, quote = true, c
		case unicode.IsSpace(c):
			if started {
				out = append(out, word.String())
				word.Reset()
			}
			started = false
		default:
			started = true
			word.WriteRune(c)
		}
	}
	if quote != 0 || escaped {
		return strings.Fields(text)
	}
	if started {
		out = append(out, word.String())
	}
	return out
}

// nearest says which of the known names a wrong one may have been meant to be,
// or else which there are.
func nearest(name string, known []string) string {
	if len(known) == 0 {
		return "; there are none"
	}
	byDistance := slices.Clone(known)
	slices.SortFunc(byDistance, func(a, b string) int {
		if d := distance(name, a) - distance(name, b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	close := slices.DeleteFunc(slices.Clone(byDistance), func(k string) bool { return distance(name, k) > max(len(k), len(name))/3+1 })
	if len(close) > 0 {
		return "; did you mean " + strings.Join(close[:min(3, len(close))], " or ") + "?"
	}
	if len(known) > 20 {
		return ""
	}
	return "; there are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// distance is how many letters have to be added, removed or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0] // of the row above
		row[0] = i + 1
		for j := range len(b) {
			cost := left
			if a[i] != b[j] {
				cost = 1 + min(left, row[j], row[j+1])
			}
			left, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
