package template_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/internal/template"
)

// values resolves the names that it has.
func values(m map[string]string) template.Resolve {
	return func(ref string) (string, bool, error) {
		v, ok := m[ref]
		return v, ok, nil
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	known := values(map[string]string{
		"name": "N", "steps.a.output": "A", "steps.1-b.x_y": "B", "empty": "",
		"$ARGUMENTS": "all", "$ARGUMENTS[0]": "zero", "$1": "one", "${CLAUDE_SKILL_DIR}": "/skills/x",
	})
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{"{name}", "N"},
		{"a{name}b{name}c", "aNbNc"},
		{"{empty}.", "."},
		{"{steps.a.output} {steps.1-b.x_y}", "A B"},
		{"{{name}}", "{N}"},
		{"{other} {other.x}", "{other} {other.x}"},
		{"{ name } {} {1} {name.} {.name} {steps..output} {-}", "{ name } {} {1} {name.} {.name} {steps..output} {-}"},
		{"{name", "{name"},
		{"{", "{"},
		{"$", "$"},
		{`{"name": {name}}`, `{"name": N}`},
		{"func() { return {name} }", "func() { return N }"},
		{"$ARGUMENTS $ARGUMENTS[0] $ARGUMENTS[9] $1 $2", "all zero $ARGUMENTS[9] one $2"},
		{"$ARGUMENTS[", "all["},
		{"$ARGUMENTS[]", "all[]"},
		{"$ARGUMENTSX $ARGUMENTS_ $1st", "$ARGUMENTSX $ARGUMENTS_ $1st"},
		{"$ARGUMENTS.", "all."},
		{"${CLAUDE_SKILL_DIR}/run.sh ${HOME} ${", "/skills/x/run.sh ${HOME} ${"},
		{"${name}", "$N"},
		{"$1000 $10", "$1000 $10"},
		{"é{name}é", "éNé"},
	} {
		got, err := template.Expand(tc.text, known)
		if err != nil || got != tc.want {
			t.Errorf("Expand(%q) = %q, %v; want %q", tc.text, got, err, tc.want)
		}
	}
}

// TestP10_ValuesAreData: what a value holds is never taken for a placeholder.
func TestP10_ValuesAreData(t *testing.T) {
	t.Parallel()
	evil := "{b} $ARGUMENTS ${X} {a"
	got, err := template.Expand("{a}} {b}", values(map[string]string{"a": evil, "b": "{a}", "$ARGUMENTS": "no", "${X}": "no"}))
	if want := evil + "} {a}"; err != nil || got != want {
		t.Errorf("Expand = %q, %v; want %q", got, err, want)
	}
}

func TestErrorsNameThePlaceholder(t *testing.T) {
	t.Parallel()
	bad := errors.New("there is no step x")
	_, err := template.Expand("one\ntwo {ok}\n {steps.x.output}", func(ref string) (string, bool, error) {
		if ref == "ok" {
			return "a\nb\nc", true, nil
		}
		return "", false, bad
	})
	var e *template.Error
	if !errors.As(err, &e) || e.Placeholder != "{steps.x.output}" || e.Line != 3 || !errors.Is(err, bad) {
		t.Errorf("Expand = %v, want an error about {steps.x.output} in line 3", err)
	}
}

// FuzzExpand: without a value the text stays as it is, and with values the
// result is what the pieces between the placeholders and the values make.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "{a}", "{{a.b}}", "$ARGUMENTS[1]$2${X}", "{a", "${a}", "$ARGUMENTS[", "{a.}{b}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		none := func(string) (string, bool, error) { return "", false, nil }
		if got, err := template.Expand(text, none); err != nil || got != text {
			t.Fatalf("Expand without values = %q, %v; want the text %q", got, err, text)
		}
		// Values that would be placeholders, and can be told apart afterwards.
		var refs []string
		got, err := template.Expand(text, func(ref string) (string, bool, error) {
			refs = append(refs, ref)
			return fmt.Sprintf("\x00{%s}\x01", ref), true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(text, "\x00\x01") {
			return
		}
		if n := strings.Count(got, "\x00"); n != len(refs) {
			t.Fatalf("%d values are in the result, want %d", n, len(refs))
		}
		back := strings.NewReplacer("\x00", "", "\x01", "").Replace(got)
		for _, ref := range refs {
			if strings.HasPrefix(ref, "$") {
				back = strings.Replace(back, "{"+ref+"}", ref, 1)
			}
		}
		if back != text {
			t.Fatalf("pieces were lost: %q became %q", text, got)
		}
	})
}
