package frontmatter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/internal/frontmatter"
)

func TestText(t *testing.T) {
	t.Parallel()
	got, err := frontmatter.Text([]byte("\xef\xbb\xbfone\r\ntwo\nthree\r"))
	if want := "one\ntwo\nthree\r"; got != want || err != nil {
		t.Errorf("Text = %q, %v; want %q", got, err, want)
	}
	_, err = frontmatter.Text([]byte("one\ntwo \xff\n"))
	if want := "line 2: is not valid UTF-8"; err == nil || err.Error() != want {
		t.Errorf("Text of a broken text: %v, want %q", err, want)
	}
	if got, err := frontmatter.Text([]byte("\uFFFD")); got != "\uFFFD" || err != nil {
		t.Errorf("Text = %q, %v; the replacement character is one like others", got, err)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, head, body, err string }{
		{"both", "---\na: 1\n---\nbody\n---\n", "a: 1\n", "body\n---\n", ""},
		{"no front matter", "# Title\n---\n", "", "# Title\n---\n", ""},
		{"nothing in it", "---\n---\nbody", "", "body", ""},
		{"blanks behind the lines", "--- \na: 1\n---\t\nbody", "a: 1\n", "body", ""},
		{"ends with the fence", "---\na: 1\n---", "a: 1\n", "", ""},
		{"longer line", "----\na\n----", "", "----\na\n----", ""},
		{"empty", "", "", "", ""},
		{"not closed", "---\na: 1\nbody\n", "", "", "line 1: the front matter has no closing line ---"},
		{"fence alone", "---", "", "", "line 1: the front matter has no closing line ---"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			head, body, err := frontmatter.Split(tt.text)
			if head != tt.head || body != tt.body || message(err) != tt.err {
				t.Errorf("Split = %q, %q, %v; want %q, %q, %q", head, body, err, tt.head, tt.body, tt.err)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestParseNamesTheLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, err string }{
		{"colon", "name: a\ndescription: Use when: always\n", `line 3: is not valid YAML: mapping values are not allowed in this context; put a value that holds ": " in quotes`},
		{"colon in the first line", "description: Use when: always\n", `line 2: is not valid YAML: mapping values are not allowed in this context; put a value that holds ": " in quotes`},
		{"two documents", "a: 1\n---\nb: 2\n", "line 3: begins a second document; there can be only one"},
		{"tab", "a:\n\tb: 1\n", "line 3: is not valid YAML: found character that cannot start any token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := frontmatter.Parse(tt.text, 2)
			if message(err) != tt.err {
				t.Errorf("Parse: %v\nwant   %s", err, tt.err)
			}
		})
	}
	for _, text := range []string{"", "# nothing\n", "~"} {
		if n, err := frontmatter.Parse(text, 1); n != nil || err != nil {
			t.Errorf("Parse(%q) = %v, %v; want nothing", text, n, err)
		}
	}
}

func TestParseLoose(t *testing.T) {
	t.Parallel()
	n, odd, err := frontmatter.ParseLoose("name: a\nargument-hint: [file] [focus]\ndescription: It's for: you\nmore:\n  - x\n", 2)
	if err != nil {
		t.Fatal(err)
	}
	var r frontmatter.Reader
	got := map[string]string{}
	for _, key := range []string{"name", "argument-hint", "description"} {
		r.Loose(n, "the text", frontmatter.Keys{key: func(n frontmatter.Node) { got[key] = r.Text(n, key) }})
	}
	want := map[string]string{"name": "a", "argument-hint": "[file] [focus]", "description": "It's for: you"}
	if diff := cmp.Diff(want, got); diff != "" || r.Err() != nil {
		t.Errorf("values (-want +got):\n%s%v", diff, r.Err())
	}
	var lines []int
	for _, e := range odd {
		lines = append(lines, e.Line)
	}
	if diff := cmp.Diff([]int{3, 4}, lines); diff != "" {
		t.Errorf("lines that were odd (-want +got):\n%s", diff)
	}
	for _, text := range []string{"a: [x,\n  y]\nb: c: d\n", "a: \"x\n", "a: b: c\n d: e: f\n"} {
		if _, _, err := frontmatter.ParseLoose(text, 2); err == nil {
			t.Errorf("ParseLoose(%q) has found a way to read it", text)
		}
	}
}

func TestReaderKeepsEveryMistakeWithItsLine(t *testing.T) {
	t.Parallel()
	n, err := frontmatter.Parse(strings.Join([]string{
		"text: [a]",
		"bool: yes please",
		"int: -1",
		"positive: 0",
		"texts: {a: b}",
		"map: [a]",
		"unknown: 1",
		"text: twice",
		"alias: &x 1",
		"deep: {a: *x}",
		"? [k]",
		": v",
	}, "\n"), 1)
	if err != nil {
		t.Fatal(err)
	}
	var r frontmatter.Reader
	r.Strict(n, "the file", frontmatter.Keys{
		"text":     func(n frontmatter.Node) { r.Text(n, "text") },
		"bool":     func(n frontmatter.Node) { r.Bool(n, "bool") },
		"int":      func(n frontmatter.Node) { r.Int(n, "int") },
		"positive": func(n frontmatter.Node) { r.Positive(n, "positive") },
		"texts":    func(n frontmatter.Node) { r.Texts(n, "texts") },
		"map":      func(n frontmatter.Node) { r.TextMap(n, "map") },
		"alias":    func(n frontmatter.Node) { r.Text(n, "alias") },
		"deep":     func(n frontmatter.Node) { r.JSON(n, "deep") },
	})
	want := strings.Join([]string{
		"line 1: text must be text, not a list",
		`line 2: bool must be true or false, not the text "yes please"`,
		"line 3: int must be a whole number, zero or more, not -1",
		"line 4: positive must be a number above zero, not 0",
		"line 5: texts must be a list, not keys with values",
		"line 6: map must be keys with values, not a list",
		`line 7: the file has no key "unknown"; there are alias, bool, deep, int, map, positive, text, texts`,
		`line 8: the file has the key "text" twice, first in line 1`,
		"line 10: deep.a must be a value, not an alias, which cannot be used here",
		"line 11: the file has a key that is no text",
	}, "\n")
	if diff := cmp.Diff(want, message(r.Err())); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestReaderValues(t *testing.T) {
	t.Parallel()
	n, err := frontmatter.Parse("a: 0123\nb: true\nc: 7\nd: 0.5\ne:\nf: [x, 2]\ng: {h: 1, i: [~, no, 2001-01-01, \"3\"]}\n", 1)
	if err != nil {
		t.Fatal(err)
	}
	var r frontmatter.Reader
	var got []any
	r.Strict(n, "the file", frontmatter.Keys{
		"a": func(n frontmatter.Node) { got = append(got, r.Text(n, "a")) },
		"b": func(n frontmatter.Node) { got = append(got, r.Bool(n, "b")) },
		"c": func(n frontmatter.Node) { got = append(got, r.Int(n, "c")) },
		"d": func(n frontmatter.Node) { got = append(got, r.Positive(n, "d")) },
		"e": func(n frontmatter.Node) { got = append(got, r.Text(n, "e")) },
		"f": func(n frontmatter.Node) { got = append(got, r.Texts(n, "f")) },
		"g": func(n frontmatter.Node) { got = append(got, string(r.JSON(n, "g"))) },
	})
	want := []any{"0123", true, 7, 0.5, "", []string{"x", "2"}, `{"h":1,"i":[null,"no","2001-01-01","3"]}`}
	if diff := cmp.Diff(want, got); diff != "" || r.Err() != nil {
		t.Errorf("values (-want +got):\n%s%v", diff, r.Err())
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	n, err := frontmatter.Parse("steps:\n  - name: a\n  - name: b\n    needs:\n      - a\n      - c\n", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path        string
		line, depth int
	}{
		{"steps[1].needs[1]", 6, 4},
		{"steps[1].value", 3, 2},
		{"steps[9]", 2, 1},
		{"other", 1, 0},
		{"", 1, 0},
	} {
		if at, depth := frontmatter.Find(n, tt.path); at.Line != tt.line || depth != tt.depth {
			t.Errorf("Find(%q) = line %d, depth %d; want %d, %d", tt.path, at.Line, depth, tt.line, tt.depth)
		}
	}
}

// What has many aliases that stand for many others stays as small as it is written.
func TestAliasesAreNotFollowed(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := range 20 {
		from, to := string(rune('a'+i)), string(rune('a'+i+1))
		b.WriteString(to + "0: &" + to + "0 [" + strings.TrimSuffix(strings.Repeat("*"+from+"0, ", 9), ", ") + "]\n")
	}
	n, err := frontmatter.Parse(b.String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var r frontmatter.Reader
	r.Loose(n, "the file", frontmatter.Keys{"u0": func(n frontmatter.Node) { r.JSON(n, "u0") }})
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "alias") {
		t.Errorf("reading a value with aliases: %v", err)
	}
}

// Whatever a file holds, it is read or refused in a line that it has.
func FuzzFrontmatter(f *testing.F) {
	for _, seed := range []string{
		"", "---\n---\n", "---\nname: a\ndescription: Use when: always\n---\nx", "---\na: &x [*x]\n---\n",
		"---\n? {a: b}\n: [c]\n---", "---\na: !!binary aGk=\nb: !x {c: !!int z}\n---", "---\n<<: {a: b}\n---\n", "---\na: |\n  b\n\n---",
		"---\n\"a\nb: c\n---", "---\n- - - -\n---", "---\n%YAML 1.1\n---\n", "---\na: 1\n...\nb: 2\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(err error) {
			var e *frontmatter.Error
			if errors.As(err, &e) && (e.Line < 0 || e.Line > strings.Count(string(data), "\n")+2) {
				t.Errorf("%v: there is no such line in %q", err, data)
			}
		}
		text, err := frontmatter.Text(data)
		check(err)
		head, body, err := frontmatter.Split(text)
		check(err)
		if !strings.HasSuffix(text, body) {
			t.Errorf("the body %q is not the end of %q", body, text)
		}
		n, odd, err := frontmatter.ParseLoose(head, 2)
		check(err)
		for _, e := range odd {
			check(e)
		}
		if n == nil {
			return
		}
		var r frontmatter.Reader
		r.JSON(n, "all")
		r.Text(n, "all")
		r.Texts(n, "all")
		check(r.Err())
	})
}
