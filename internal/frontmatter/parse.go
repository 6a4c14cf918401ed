package frontmatter

import (
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Node is a value in a YAML document.
type Node = *yaml.Node

// Parse reads one YAML document that begins in line first of its file. It
// returns nil for one that says nothing.
func Parse(text string, first int) (Node, error) {
	d := yaml.NewDecoder(strings.NewReader(text))
	var doc yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, explain(err, first)
	}
	var more yaml.Node
	switch err := d.Decode(&more); {
	case err == nil:
		return nil, fail(first+more.Line-1, "begins a second document; there can be only one")
	case !errors.Is(err, io.EOF):
		return nil, explain(err, first)
	}
	root := doc.Content[0]
	shift(root, first-1)
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

// shift moves a value and all it holds down by some lines. What an alias stands
// for is held elsewhere.
func shift(n Node, lines int) {
	n.Line += lines
	for _, c := range n.Content {
		shift(c, lines)
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// explain turns an error of the YAML library into one with the line of the file.
func explain(err error, first int) error {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return fail(first, "is not valid YAML: %v", err)
	}
	line := 1 // which the library leaves out
	if m[1] != "" {
		line, _ = strconv.Atoi(m[1]) // its pattern has digits alone
	}
	hint := ""
	if strings.Contains(m[2], "mapping values are not allowed") {
		hint = `; put a value that holds ": " in quotes`
	}
	return fail(first+line-1, "is not valid YAML: %s%s", m[2], hint)
}

// entry is a key at the outermost level with its value in the same line.
var entry = regexp.MustCompile(`(?m)^([A-Za-z][A-Za-z0-9_-]*):[ \t]+(\S.*?)[ \t]*$`)

// ParseLoose is [Parse] for front matter that was written for programs that
// take more than YAML allows, such as
//
//	argument-hint: [file] [focus]
//	description: Use when: always
//
// If the text is no YAML, the values that are none by themselves are taken as
// texts, and odd names their lines.
func ParseLoose(text string, first int) (n Node, odd []*Error, err error) {
	n, err = Parse(text, first)
	if err == nil {
		return n, nil, nil
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		m := entry.FindStringSubmatch(line)
		if m == nil || strings.ContainsAny(m[2][:1], `"'|>`) {
			continue
		}
		if _, bad := Parse(line, 1); bad != nil {
			lines[i] = m[1] + ": '" + strings.ReplaceAll(m[2], "'", "''") + "'"
			odd = append(odd, fail(first+i, "the value of %s is not valid YAML and was taken as text; put it in quotes", m[1]))
		}
	}
	if odd == nil {
		return nil, nil, err
	}
	n, bad := Parse(strings.Join(lines, "\n"), first)
	if bad != nil {
		return nil, nil, err
	}
	return n, odd, nil
}
