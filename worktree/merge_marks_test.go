//go:build unix

package worktree

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// mixed makes a branch of work and main as a case says, and what Mix makes of them.
func (b *mergeBench) mixed(m *Manager, base, main, work func(*mergeBench)) (string, error) {
	b.t.Helper()
	if base != nil {
		b.on("main", func() { base(b) })
	}
	b.git("branch", "claude-pool/w1", "main")
	b.on("main", func() { main(b) })
	b.git("checkout", "-q", "-f", "claude-pool/w1")
	b.git("checkout", "-q", "-f", "--detach")
	b.on("claude-pool/w1", func() { work(b) })
	return m.Mix(b.t.Context(), "w1", "main")
}

// TestP6NoConflictPassesForResolved has each kind of conflict found again until its
// files are changed, at the end of the work and when it is merged.
func TestP6NoConflictPassesForResolved(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		for _, tt := range mergeCases {
			if tt.conflicts == nil {
				continue
			}
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, g)
				b.git("config", "color.ui", "always")
				m := b.manager(Options{Base: "main", Target: "main"})
				at, err := b.mixed(m, tt.base, tt.main, tt.work)
				if tt.conflicts[0].Kind == "submodule" {
					if conflict, ok := errors.AsType[*ConflictError](err); !ok || conflict.Files[0].Path != "sub" {
						t.Errorf("Mix = %v, want a conflict in sub", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				files, err := m.Marked(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range tt.conflicts {
					if f.Note == "renamed in both main and work, to other names" {
						continue // there is no file of that name any more
					}
					if !slices.ContainsFunc(files, func(name string) bool { return name == f.Path || strings.HasPrefix(name, f.Path+"~") }) {
						t.Errorf("%q (%s) is not marked, only %q", f.Path, f.Kind, files)
					}
				}
				b.git("update-ref", "refs/heads/claude-pool/w1", at)
				for _, s := range Strategies() {
					_, err := b.merge(MergeRequest{Branch: "claude-pool/w1", Strategy: s})
					conflict, ok := errors.AsType[*ConflictError](err)
					if !ok || len(conflict.Files) != len(files) || conflict.Files[0].Kind != "unresolved" {
						t.Errorf("%s: merged with conflicts: %v", s, err)
					}
				}
				b.git("checkout", "-q", "-f", "--detach", at)
				for i, f := range files {
					if i > 0 {
						b.write(f, "resolved\n")
					} else if err := os.Remove(b.path(f)); err != nil {
						t.Fatal(err)
					}
				}
				b.git("update-ref", "refs/heads/claude-pool/w1", b.commit("resolved"))
				b.mustMerge(MergeRequest{Branch: "claude-pool/w1"})
			})
		}
	}
}

// TestMarksOfConflicts has those found that git itself would not show, and no others.
func TestMarksOfConflicts(t *testing.T) {
	t.Parallel()
	text := func(text string) func(*mergeBench) { return func(b *mergeBench) { b.write("f", text) } }
	for _, tt := range []struct {
		name, attributes string
		base             string
		left             func(text string) string // what is made of the file
		marked           bool
	}{
		{"untouched", "", "b\n", func(s string) string { return s }, true},
		{"longer marks", "f conflict-marker-size=12\n", "b\n", func(s string) string { return s }, true},
		{"no diff", "f -diff\n", "b\n", func(s string) string { return s }, true},
		{"no merge", "f -merge\n", "b\n", func(s string) string { return s }, true},
		{"only the end left", "", "b\n", func(s string) string { return s[strings.Index(s, "=======\n"):] }, true},
		{"only the middle left", "", "b\n", func(string) string { return "m\n=======\nw\n" }, true},
		{"a line as before", "", "b\n=======\n", func(string) string { return "both\n=======\n" }, false},
		{"resolved", "", "b\n", func(string) string { return "both\n" }, false},
		{"marks of others", "", "b\n", func(string) string { return "<<<<<<< HEAD\n" }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := bench(t)
			os.MkdirAll(b.path(".git/info"), 0o700)
			b.write(".git/info/attributes", tt.attributes)
			m := b.manager(Options{Base: "main", Target: "main"})
			at, err := b.mixed(m, text(tt.base), text("m\n"+tt.base[2:]), text("w\n"+tt.base[2:]))
			if err != nil {
				t.Fatal(err)
			}
			b.git("checkout", "-q", "--detach", at)
			b.write("f", tt.left(b.read("f")))
			at = b.commit("done, they say")
			if files, err := m.Marked(t.Context(), at); err != nil || (len(files) > 0) != tt.marked {
				t.Errorf("Marked = %q, %v", files, err)
			}
			b.git("update-ref", "refs/heads/claude-pool/w1", at)
			if _, err := b.merge(MergeRequest{Branch: "claude-pool/w1"}); errors.Is(err, ErrConflict) != tt.marked {
				t.Errorf("merge: %v", err)
			}
		})
	}
}
