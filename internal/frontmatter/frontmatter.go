// Package frontmatter reads YAML, alone or at the head of a Markdown file, so
// that every mistake in it has a line.
package frontmatter

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is a mistake in a file.
type Error struct {
	Line    int // from 1; 0 when it is about the whole file
	Message string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}

func fail(line int, format string, args ...any) *Error {
	return &Error{Line: line, Message: fmt.Sprintf(format, args...)}
}

// Text returns the text of a file without a byte order mark and with line feeds
// alone, or an error when it is not UTF-8.
func Text(data []byte) (string, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bad := invalid(data); bad >= 0 {
		return "", fail(1+bytes.Count(data[:bad], []byte{'\n'}), "is not valid UTF-8")
	}
	return strings.ReplaceAll(string(data), "\r\n", "\n"), nil
}

// invalid returns where data stops being UTF-8, or -1.
func invalid(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// fence encloses front matter.
const fence = "---"

// Split takes a text apart into the YAML between its first line and the next
// that are both "---", and what follows. The YAML begins in line 2. A text that
// has no such first line is all body.
func Split(text string) (head, body string, err error) {
	first, rest, found := strings.Cut(text, "\n")
	if strings.TrimRight(first, " \t") != fence {
		return "", text, nil
	}
	if !found {
		return "", "", fail(1, "the front matter has no closing line %s", fence)
	}
	for at := 0; at < len(rest); {
		line, after, _ := strings.Cut(rest[at:], "\n")
		if strings.TrimRight(line, " \t") == fence {
			return rest[:at], after, nil
		}
		at += len(line) + 1
	}
	return "", "", fail(1, "the front matter has no closing line %s", fence)
}
