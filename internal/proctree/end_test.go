package proctree_test

import (
	"testing"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

func TestP7EndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, role string
		args       []string
	}{
		{"polite", "polite", nil},
		{"ignores TERM", "deaf", nil},
		{"child ignores TERM", "family", []string{"child"}},
		{"grandchild holds stdout", "family", []string{"holder"}},
		{"session of its own", "family", []string{"setsid"}},
		{"double fork", "family", []string{"daemon"}},
		{"leader dead, group alive", "family", []string{"holder", "leave"}},
		{"leader dead, strays alive", "family", []string{"setsid", "daemon", "leave"}},
		{"all at once", "family", []string{"deaf", "child", "holder", "setsid", "daemon"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tree, pids := start(t, proctree.Options{Grace: 100 * time.Millisecond}, c.role, c.args...)
			if err := tree.End(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if left := living(pids); len(left) > 0 {
				t.Errorf("End returned and %v of %v are still there", left, pids)
			}
		})
	}
}
