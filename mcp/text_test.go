package mcp

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

// Pages of any size, read one after the other, are the whole text.
func FuzzRunes(f *testing.F) {
	f.Add("", 1)
	f.Add("héllo wörld", 3)
	f.Add("日本語\xff\xfe", 2)
	f.Fuzz(func(t *testing.T, s string, size int) {
		if size < 1 || size > 1_000 || len(s) > 10_000 {
			t.Skip()
		}
		var all strings.Builder
		for from := 0; from < utf8.RuneCountInString(s); from += size {
			page := runes(s, from, from+size)
			if n := utf8.RuneCountInString(page); n > size {
				t.Fatalf("a page of %d has %d characters", size, n)
			}
			all.WriteString(page)
		}
		if all.String() != s {
			t.Fatalf("the pages are %q, want %q", all.String(), s)
		}
	})
}

// No URI leads to an id that leads out of a folder.
func FuzzIDIn(f *testing.F) {
	for _, uri := range []string{"pool://tasks/task-1", "pool://tasks/..%2Fx", "pool://tasks/%00", "pool://tasks/", "pool://slots/a"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		id, ok := idIn(uri, taskPrefix)
		if ok && (id == "" || path.Join("/folder", id) != "/folder/"+id || strings.HasPrefix(id, ".") || strings.Contains(id, "..") || strings.ContainsAny(id, "/\\\x00")) {
			t.Fatalf("%q gave the id %q", uri, id)
		}
	})
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sizes []int
		total int
		want  int
	}{
		{[]int{10}, 100, 100},          // nothing has to be cut
		{[]int{50, 50}, 100, 100},      // just fits
		{[]int{500, 500}, 100, 50},     // even shares
		{[]int{10, 500, 500}, 100, 45}, // the rest of a small one goes to the others
		{[]int{0, 0, 500}, 100, 100},
		{nil, 100, 100},
	} {
		got := share(c.sizes, c.total)
		if got != c.want {
			t.Errorf("share(%v, %d) = %d, want %d", c.sizes, c.total, got, c.want)
		}
	}
}
