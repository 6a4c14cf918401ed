package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/internal/catalog"
	"github.com/claudepool/claudepool/internal/frontmatter"
)

// text is an item for tests: its file has the name in the first line, if there
// is one, and the text in the second. "broken" cannot be read.
type text struct{ name, text string }

var kind = catalog.Kind[text]{
	File: func(e fs.DirEntry) (string, string, bool) {
		name, ok := strings.CutSuffix(e.Name(), ".txt")
		return e.Name(), name, ok
	},
	Parse: func(f catalog.File) (text, error, error) {
		name, rest, _ := strings.Cut(string(f.Data), "\n")
		if rest == "broken" {
			return text{}, nil, errors.Join(&frontmatter.Error{Line: 2, Message: "is broken"}, &frontmatter.Error{Line: 1, Message: "so is this"})
		}
		if name == "" {
			name = f.Name
		}
		return text{name, rest}, nil, nil
	},
	Name: func(v text) string { return v.name },
}

// open returns a catalog of a folder, and one inside the program with "a" and "b".
func open(dir string, disabled ...string) *catalog.Catalog[text] {
	return catalog.New(catalog.Config[text]{
		Kind: kind, Added: "added", Disabled: disabled,
		Folders: []catalog.Folder{
			{Source: "disk", Base: dir, Sub: "x/y"},
			{Source: "inside", FS: fstest.MapFS{"in/a.txt": {Data: []byte("\ninside a")}, "in/b.txt": {Data: []byte("\ninside b")}}, Sub: "in"},
		},
	})
}

// write writes a file as editors do: over what was there.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// all returns what a catalog has, in a form to compare.
func all(c *catalog.Catalog[text]) map[string]string {
	out := map[string]string{}
	for _, it := range c.All() {
		out[it.Name] = it.Source + ": " + it.Value.text
	}
	return out
}

func problems(c *catalog.Catalog[text]) []string {
	var out []string
	for _, p := range c.Problems() {
		out = append(out, fmt.Sprintf("%s %s:%d %s", p.Source, filepath.Base(p.Path), p.Line, p.Message))
	}
	return out
}

func expect(t *testing.T, c *catalog.Catalog[text], want map[string]string, wantProblems ...string) {
	t.Helper()
	if diff := cmp.Diff(want, all(c)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantProblems, problems(c)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestTheStrongestSourceCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(dir)
	expect(t, c, map[string]string{"a": "inside: inside a", "b": "inside: inside b"})

	write(t, dir+"/x/y/a.txt", "\ndisk a")
	expect(t, c, map[string]string{"a": "disk: disk a", "b": "inside: inside b"})

	if !c.Add("a", text{"a", "added a"}) {
		t.Fatal("a cannot be added")
	}
	expect(t, c, map[string]string{"a": "added: added a", "b": "inside: inside b"})
	if it, ok := c.From("inside", "a"); !ok || it.Value.text != "inside a" || string(it.Data) != "\ninside a" {
		t.Errorf("From(inside, a) = %+v, %v", it, ok)
	}

	if !c.RemoveIf("a", func(v text) bool { return v.text == "added a" }) || c.RemoveIf("a", func(text) bool { return true }) {
		t.Error("a was not removed once")
	}
	expect(t, c, map[string]string{"a": "disk: disk a", "b": "inside: inside b"})

	if err := os.RemoveAll(dir + "/x"); err != nil {
		t.Fatal(err)
	}
	expect(t, c, map[string]string{"a": "inside: inside a", "b": "inside: inside b"})
}

func TestDisabledNamesAreHidden(t *testing.T) {
	t.Parallel()
	c := open(t.TempDir(), "a")
	expect(t, c, map[string]string{"b": "inside: inside b"})
	if c.Add("a", text{"a", "x"}) || !c.Disabled("a") || c.Disabled("b") {
		t.Error("a is disabled, and b is not")
	}
	if _, ok := c.From("inside", "a"); !ok {
		t.Error("a source has what is disabled")
	}
}

func TestAFileIsReadAgainWhenItHasChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := dir + "/x/y/n.txt"
	write(t, file, "\none")
	c := open(dir)
	get := func() string { it, _ := c.Get("n"); return it.Value.text }
	if got := get(); got != "one" {
		t.Fatalf("n = %q", got)
	}
	// The same size, within the time that a clock of a file system cannot tell apart.
	write(t, file, "\ntwo")
	if got := get(); got != "two" {
		t.Errorf("after an edit n = %q", got)
	}
	// The same time too.
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "\nsix")
	if err := os.Chtimes(file, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "six" {
		t.Errorf("after an edit that left the time as it was, n = %q", got)
	}
	// An old file, in its place by a rename.
	write(t, dir+"/new", "\nten")
	old := time.Now().Add(-time.Hour)
	for _, path := range []string{file, dir + "/new"} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	get()
	if err := os.Rename(dir+"/new", file); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "ten" {
		t.Errorf("after a rename n = %q", got)
	}
}

func TestGenerationTellsNewsFromNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := dir + "/x/y/n.txt"
	write(t, file, "\none")
	write(t, dir+"/x/y/bad.txt", "\nbroken")
	c := open(dir)
	last := c.Generation()
	expectNews := func(what string, want bool) {
		t.Helper()
		if g := c.Generation(); (g != last) != want {
			t.Errorf("%s: the generation went from %d to %d", what, last, g)
		}
		last = c.Generation()
	}
	expectNews("nothing", false)
	write(t, file, "\none")
	expectNews("written as it was", false)
	if err := os.Chtimes(file, time.Now(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	expectNews("touched", false)
	write(t, file, "\ntwo")
	expectNews("edited", true)
	write(t, file, "\nbroken")
	expectNews("broken", true)
	expectNews("still broken", false)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expectNews("deleted", true)
	write(t, dir+"/x/y/other.md", "no item")
	expectNews("another file", false)
	c.Add("n", text{"n", "x"})
	expectNews("added", true)
	c.RemoveIf("n", func(text) bool { return true })
	expectNews("removed", true)
}

func TestABrokenFileKeepsWhatItSaidLast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/x/y/good.txt", "\ngood")
	write(t, dir+"/x/y/half.txt", "\nwhole")
	write(t, dir+"/x/y/never.txt", "\nbroken")
	c := open(dir, "a", "b")
	want := map[string]string{"good": "disk: good", "half": "disk: whole"}
	never := []string{"disk never.txt:1 so is this", "disk never.txt:2 is broken"}
	expect(t, c, want, never...)

	write(t, dir+"/x/y/half.txt", "\nbroken")
	kept := "; what the file said before is still used"
	half := append([]string{"disk half.txt:1 so is this" + kept, "disk half.txt:2 is broken" + kept}, never...)
	expect(t, c, want, half...)
	expect(t, c, want, half...) // as long as it is so

	write(t, dir+"/x/y/half.txt", "\nwhole again")
	want["half"] = "disk: whole again"
	expect(t, c, want, never...)

	if err := os.Remove(dir + "/x/y/half.txt"); err != nil {
		t.Fatal(err)
	}
	delete(want, "half")
	expect(t, c, want, never...)
}

func TestNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/x/y/one.txt", "same\n1")
	write(t, dir+"/x/y/two.txt", "same\n2")
	write(t, dir+"/x/y/.hidden.txt", "hidden\n3")
	c := open(dir, "a", "b")
	expect(t, c, map[string]string{"same": "disk: 1"},
		`disk one.txt:0 is known as "same", the name it gives itself, though its place says "one"; make them the same`,
		`disk two.txt:0 is known as "same", the name it gives itself, though its place says "two"; make them the same`,
		`disk two.txt:0 is not used: its name, "same", is that of `+filepath.Join(dir, "x/y/one.txt"),
	)
}

func TestOnlyRegularFilesOfBoundedSizeAreRead(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside+"/secret.txt", "\nsecret")
	write(t, dir+"/x/y/large.txt", "\n"+strings.Repeat("x", 2<<20))
	write(t, dir+"/x/y/fits.txt", "\n"+strings.Repeat("x", catalog.MaxSize-1))
	if err := os.Mkdir(dir+"/x/y/dir.txt", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"absolute.txt": outside + "/secret.txt", "relative.txt": filepath.Join("../../..", filepath.Base(outside), "secret.txt"),
		"dangling.txt": "nowhere", "inside.txt": "fits.txt", "self.txt": "self.txt",
	} {
		if err := os.Symlink(to, filepath.Join(dir, "x/y", name)); err != nil {
			t.Skipf("this system makes no symbolic links: %v", err)
		}
	}
	c := open(dir, "a", "b")
	names := c.Names()
	if diff := cmp.Diff([]string{"fits", "inside"}, names); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	var bad []string
	for _, p := range c.Problems() {
		bad = append(bad, filepath.Base(p.Path))
	}
	if diff := cmp.Diff([]string{"absolute.txt", "dir.txt", "large.txt", "relative.txt", "self.txt"}, bad); diff != "" {
		t.Errorf("files with problems (-want +got):\n%s", diff)
	}
}

// A link in the way from the base to the folder leads nowhere else.
func TestTheFolderItselfDoesNotLeaveItsBase(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside+"/y/n.txt", "\nfrom outside")
	if err := os.Symlink(outside, dir+"/x"); err != nil {
		t.Skipf("this system makes no symbolic links: %v", err)
	}
	c := open(dir, "a", "b")
	if got := all(c); len(got) > 0 {
		t.Errorf("items = %v, from outside", got)
	}
	if got := problems(c); len(got) != 1 || !strings.Contains(got[0], "escapes") {
		t.Errorf("problems = %q, want one", got)
	}
	f := catalog.Folder{Source: "disk", Base: dir, Sub: "x/y"}
	if path, err := catalog.Write(f, "m.txt", []byte("x")); err == nil {
		t.Errorf("Write has made %s through a link", path)
	}
	if _, err := os.Stat(outside + "/y/m.txt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file outside: %v", err)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := catalog.Folder{Base: dir, Sub: "x/y"}
	path, err := catalog.Write(f, "one/two.txt", []byte("first"))
	if err != nil || path != filepath.Join(dir, "x/y/one/two.txt") {
		t.Fatalf("Write = %q, %v", path, err)
	}
	if _, err := catalog.Write(f, "one/two.txt", []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Write over a file: %v, want ErrExist", err)
	}
	if b, err := os.ReadFile(path); string(b) != "first" || err != nil {
		t.Errorf("the file has %q, %v", b, err)
	}
	for _, name := range []string{"../out.txt", "one/../../../out.txt", "/out.txt"} {
		if path, err := catalog.Write(f, name, []byte("x")); err == nil {
			t.Errorf("Write(%q) has made %s", name, path)
		}
	}
	left, err := filepath.Glob(dir + "/x/y/*/.*")
	if err != nil || len(left) > 0 {
		t.Errorf("drafts are left: %v, %v", left, err)
	}
	if out, err := filepath.Glob(dir + "/*.txt"); err != nil || len(out) > 0 {
		t.Errorf("there are files outside: %v, %v", out, err)
	}
}

// Whoever looks while files change sees each item whole, and at the end the last.
func TestManyLookWhileFilesChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(dir, "a", "b")
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, it := range c.All() {
					if strings.Trim(it.Value.text, it.Value.text[:1]) != "" {
						t.Errorf("half of an item: %q", it.Value.text)
					}
				}
				c.Add(fmt.Sprint("added-", i), text{"", "x"})
				c.RemoveIf(fmt.Sprint("added-", i), func(text) bool { return true })
			}
		})
	}
	for i := range 50 {
		next := dir + "/next"
		write(t, next, "\n"+string(bytes.Repeat([]byte{'a' + byte(i%26)}, 1000)))
		if err := os.MkdirAll(dir+"/x/y", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, dir+"/x/y/n.txt"); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
	it, _ := c.Get("n")
	if want := strings.Repeat(string(rune('a'+49%26)), 1000); it.Value.text != want {
		t.Errorf("the last text is %.5q…, want %.5q…", it.Value.text, want)
	}
}

func BenchmarkGet(b *testing.B) {
	dir := b.TempDir()
	for i := range 50 {
		if err := os.MkdirAll(dir+"/x/y", 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/x/y/n%d.txt", dir, i), []byte("\ntext"), 0o644); err != nil {
			b.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(fmt.Sprintf("%s/x/y/n%d.txt", dir, i), old, old); err != nil {
			b.Fatal(err)
		}
	}
	c := open(dir)
	for b.Loop() {
		if _, ok := c.Get("n7"); !ok {
			b.Fatal("n7 is not there")
		}
	}
}
