//go:build unix

package worktree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/claudepool/claudepool/worktree"
)

// BenchmarkSwitch measures from the end of one work to the beginning of the next,
// in a repository of 50,000 files.
func BenchmarkSwitch(b *testing.B) {
	for _, changed := range []int{0, 500} {
		b.Run(fmt.Sprint(changed, " files changed"), func(b *testing.B) {
			repo := b.TempDir()
			for i := range 50_000 {
				dir := filepath.Join(repo, fmt.Sprint("d", i/100))
				if i%100 == 0 {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						b.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), []byte(fmt.Sprintln(i)), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			run(b, repo, "git init -q .; git config gc.auto 0; "+fillScript)
			m, err := worktree.Open(b.Context(), worktree.Options{Repo: repo, Home: filepath.Join(b.TempDir(), "home")})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			p, err := m.Acquire(b.Context(), worktree.Worktree)
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				n++
				if err := p.Begin(b.Context(), worktree.Work{ID: fmt.Sprint("w", n)}); err != nil {
					b.Fatal(err)
				}
				for i := range changed {
					if err := os.WriteFile(filepath.Join(p.Root(), fmt.Sprint("d", i), fmt.Sprint("f", i*100)), []byte("changed\n"), 0o644); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := p.End(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
