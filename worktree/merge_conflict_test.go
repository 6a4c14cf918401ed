//go:build unix

package worktree

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines returns n lines that git can tell a renamed file by.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("line " + string(rune('a'+i%26)) + strings.Repeat("x", i) + "\n")
	}
	return b.String()
}

// mergeCases are changes on both sides, and what comes of them.
var mergeCases = []struct {
	name       string
	base       func(*mergeBench)
	main, work func(*mergeBench)
	files      map[string]string // of the result
	conflicts  []FileConflict
}{
	{
		name:  "different files",
		main:  func(b *mergeBench) { b.write("m", "m\n") },
		work:  func(b *mergeBench) { b.write("w", "w\n") },
		files: map[string]string{"m": "m\n", "w": "w\n", "base": "base\n"},
	},
	{
		name:  "different places of a file",
		base:  func(b *mergeBench) { b.write("f", lines(20)) },
		main:  func(b *mergeBench) { b.write("f", "m\n"+lines(20)) },
		work:  func(b *mergeBench) { b.write("f", lines(20)+"w\n") },
		files: map[string]string{"f": "m\n" + lines(20) + "w\n"},
	},
	{
		name:  "a renamed file and a change in it",
		base:  func(b *mergeBench) { b.write("f", lines(20)) },
		main:  func(b *mergeBench) { b.git("mv", "f", "g") },
		work:  func(b *mergeBench) { b.write("f", lines(20)+"w\n") },
		files: map[string]string{"g": lines(20) + "w\n"},
	},
	{
		name: "content",
		main: func(b *mergeBench) { b.write("base", "m\n") },
		work: func(b *mergeBench) { b.write("base", "w\n") },
		conflicts: []FileConflict{{
			Path: "base", Kind: "content", Note: "changed in both main and work",
			Text: "<<<<<<< main\nm\n=======\nw\n>>>>>>> work\n",
		}},
	},
	{
		name: "both have added",
		main: func(b *mergeBench) { b.write("new", "m\n") },
		work: func(b *mergeBench) { b.write("new", "w\n") },
		conflicts: []FileConflict{{
			Path: "new", Kind: "add/add", Note: "in both main and work, and not before",
			Text: "<<<<<<< main\nm\n=======\nw\n>>>>>>> work\n",
		}},
	},
	{
		name:      "deleted in the work",
		main:      func(b *mergeBench) { b.write("base", "m\n") },
		work:      func(b *mergeBench) { b.git("rm", "-q", "base") },
		conflicts: []FileConflict{{Path: "base", Kind: "modify/delete", Note: "changed in main, deleted in work"}},
	},
	{
		name:      "deleted in the target",
		main:      func(b *mergeBench) { b.git("rm", "-q", "base") },
		work:      func(b *mergeBench) { b.write("base", "w\n") },
		conflicts: []FileConflict{{Path: "base", Kind: "modify/delete", Note: "changed in work, deleted in main"}},
	},
	{
		name: "renamed in both",
		base: func(b *mergeBench) { b.write("f", lines(20)) },
		main: func(b *mergeBench) { b.git("mv", "f", "m") },
		work: func(b *mergeBench) { b.git("mv", "f", "w") },
		conflicts: []FileConflict{
			{Path: "f", Kind: "rename/rename", Note: "renamed in both main and work, to other names"},
			{Path: "m", Kind: "rename/rename", Note: "the new name in main"},
			{Path: "w", Kind: "rename/rename", Note: "the new name in work"},
		},
	},
	{
		name:      "renamed in one, deleted in the other",
		base:      func(b *mergeBench) { b.write("f", lines(20)) },
		main:      func(b *mergeBench) { b.git("mv", "f", "m") },
		work:      func(b *mergeBench) { b.git("rm", "-q", "f") },
		conflicts: []FileConflict{{Path: "m", Kind: "rename/delete", Note: "renamed to this in main, deleted in work"}},
	},
	{
		name:      "binary",
		base:      func(b *mergeBench) { b.write("bin", "b\x00\x01") },
		main:      func(b *mergeBench) { b.write("bin", "m\x00\x01") },
		work:      func(b *mergeBench) { b.write("bin", "w\x00\x01") },
		conflicts: []FileConflict{{Path: "bin", Kind: "binary", Note: "changed in both main and work"}},
	},
	{
		name: "mode",
		main: func(b *mergeBench) { b.write("new", "n\n"); os.Chmod(b.path("new"), 0o700) },
		work: func(b *mergeBench) { b.write("new", "n\n") },
		conflicts: []FileConflict{
			{Path: "new", Kind: "mode", Note: "mode 100755 in main, 100644 in work"},
		},
	},
	{
		name:  "mode in one, text in the other",
		main:  func(b *mergeBench) { os.Chmod(b.path("base"), 0o700) },
		work:  func(b *mergeBench) { b.write("base", "w\n") },
		files: map[string]string{"base": "w\n"},
	},
	{
		name:      "file and link",
		main:      func(b *mergeBench) { b.write("new", "n\n") },
		work:      func(b *mergeBench) { os.Symlink("base", b.path("new")) },
		conflicts: []FileConflict{{Path: "new", Kind: "distinct types", Note: "a file in one of main and work, a link in the other"}},
	},
	{
		name:      "links",
		main:      func(b *mergeBench) { os.Symlink("m", b.path("new")) },
		work:      func(b *mergeBench) { os.Symlink("w", b.path("new")) },
		conflicts: []FileConflict{{Path: "new", Kind: "add/add", Note: "in both main and work, and not before"}},
	},
	{
		name:      "file and folder",
		main:      func(b *mergeBench) { b.write("new", "n\n") },
		work:      func(b *mergeBench) { b.write("new/file", "w\n") },
		conflicts: []FileConflict{{Path: "new", Kind: "file/directory", Note: "a file in main, a folder in work"}},
	},
	{
		name:      "in a renamed folder",
		base:      func(b *mergeBench) { b.write("old/a", lines(20)); b.write("old/b", lines(30)) },
		main:      func(b *mergeBench) { b.git("mv", "old", "new") },
		work:      func(b *mergeBench) { b.write("old/c", "w\n") },
		conflicts: []FileConflict{{Path: "new/c", Kind: "file location", Note: "added in work in a folder that main has renamed"}},
	},
	{
		name: "submodule",
		base: func(b *mergeBench) { b.link("sub", "1") },
		main: func(b *mergeBench) { b.link("sub", "2") },
		work: func(b *mergeBench) { b.link("sub", "3") },
		conflicts: []FileConflict{
			{Path: "sub", Kind: "submodule", Note: "a submodule that differs between main and work"},
		},
	},
	{
		name: "CRLF",
		base: func(b *mergeBench) { b.write("f", "a\r\nb\r\n") },
		main: func(b *mergeBench) { b.write("f", "m\r\nb\r\n") },
		work: func(b *mergeBench) { b.write("f", "w\r\nb\r\n") },
		conflicts: []FileConflict{{
			Path: "f", Kind: "content", Note: "changed in both main and work",
			Text: "<<<<<<< main\r\nm\r\n=======\r\nw\r\n>>>>>>> work\r\nb\r\n",
		}},
	},
	{
		name: "CRLF by attribute",
		base: func(b *mergeBench) { b.write(".gitattributes", "f eol=crlf\n"); b.write("f", "a\r\nb\r\n") },
		main: func(b *mergeBench) { b.write("f", "m\r\nb\r\n") },
		work: func(b *mergeBench) { b.write("f", "w\r\nb\r\n") },
		conflicts: []FileConflict{{
			Path: "f", Kind: "content", Note: "changed in both main and work",
			Text: "<<<<<<< main\nm\n=======\nw\n>>>>>>> work\nb\n",
		}},
	},
	{
		name: "attributes in folders",
		base: func(b *mergeBench) { b.write("d/e/.gitattributes", "log merge=union\n"); b.write("d/e/log", "") },
		main: func(b *mergeBench) { b.write("d/e/log", "m\n") },
		work: func(b *mergeBench) { b.write("d/e/log", "w\n") },
		files: map[string]string{
			"d/e/log": "m\nw\n",
		},
	},
	{
		name: "strange names",
		base: func(b *mergeBench) {
			for _, name := range strangeNames {
				b.write(name, "b\n")
			}
		},
		main: func(b *mergeBench) {
			for _, name := range strangeNames {
				b.write(name, "m\n")
			}
		},
		work: func(b *mergeBench) {
			for _, name := range strangeNames {
				b.write(name, "w\n")
			}
		},
		conflicts: func() (all []FileConflict) {
			for _, name := range slices.Sorted(slices.Values(strangeNames)) {
				all = append(all, FileConflict{
					Path: name, Kind: "content", Note: "changed in both main and work",
					Text: "<<<<<<< main\nm\n=======\nw\n>>>>>>> work\n",
				})
			}
			return all
		}(),
	},
	{
		name: "strange names, deleted",
		base: func(b *mergeBench) {
			for _, name := range strangeNames {
				b.write(name, lines(5)+name)
			}
		},
		main: func(b *mergeBench) {
			for _, name := range strangeNames {
				b.write(name, lines(5)+name+"m")
			}
		},
		work: func(b *mergeBench) {
			for _, name := range strangeNames {
				os.Remove(b.path(name))
			}
		},
		conflicts: func() (all []FileConflict) {
			for _, name := range slices.Sorted(slices.Values(strangeNames)) {
				all = append(all, FileConflict{Path: name, Kind: "modify/delete", Note: "changed in main, deleted in work"})
			}
			return all
		}(),
	},
}

var strangeNames = []string{"with space", "é", "line\nfeed", "-dash", ":(top)x", "a*b[c]", `back\slash"quote`, "tab\tbed", "bytes\xff", "d ir/~x"}

// link commits a submodule at a commit that need not be there.
func (b *mergeBench) link(name, digit string) {
	b.t.Helper()
	os.Mkdir(b.path(name), 0o700)
	b.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat(digit, 40)+","+name)
	b.git("commit", "-q", "-m", "submodule")
}

// TestMergeConflicts has both ways of merging say the same.
func TestMergeConflicts(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		for _, tt := range mergeCases {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, g)
				if tt.base != nil {
					b.on("main", func() { tt.base(b) })
					b.git("branch", "-f", "work", "main")
				}
				b.on("main", func() { tt.main(b) })
				b.git("checkout", "-q", "-f", "work")
				b.git("checkout", "-q", "-f", "--detach")
				b.on("work", func() { tt.work(b) })
				main, work := b.tip("main"), b.tip("work")
				want := tt.conflicts

				names, err := forecast(t.Context(), b.repo, "main", work)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fileNames(want), names); diff != "" {
					t.Errorf("forecast (-want +got):\n%s", diff)
				}
				for _, strategy := range Strategies() {
					res, err := b.merge(MergeRequest{Strategy: strategy})
					b.checkClean()
					if want == nil {
						if err != nil {
							t.Fatal(err)
						}
						for name, text := range tt.files {
							if got := b.show(b.tip("main"), name); got != text {
								t.Errorf("%s: %s is %q, want %q", strategy, name, got, text)
							}
						}
						if b.tip("main") != res.After || !res.Merged || res.Before != main {
							t.Errorf("%s: result %+v, and main is at %s", strategy, res, b.tip("main"))
						}
						b.git("update-ref", "refs/heads/main", main)
						continue
					}
					conflict, ok := errors.AsType[*ConflictError](err)
					if !ok || !errors.Is(err, ErrConflict) {
						t.Fatalf("%s: result %+v, error %v, want a conflict", strategy, res, err)
					}
					if diff := cmp.Diff(want, conflict.Files); diff != "" {
						t.Errorf("%s (-want +got):\n%s", strategy, diff)
					}
					if diff := cmp.Diff(conflict.Files, res.Conflicts); diff != "" {
						t.Errorf("%s: result and error differ:\n%s", strategy, diff)
					}
					if b.tip("main") != main || b.tip("work") != work || res.Merged || res.After != main {
						t.Errorf("%s: not as before: %+v", strategy, res)
					}
				}
			})
		}
	}
}
