package worktree

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// stageEntry is one version of a file that could not be merged: stage 1 is that of the
// base, 2 ours, 3 theirs.
type stageEntry struct {
	mode, id string
	stage    int
	path     string
}

// parseUnmerged reads "MODE ID STAGE<tab>PATH", each ended by a zero byte.
func parseUnmerged(list string) ([]stageEntry, error) {
	var entries []stageEntry
	for line := range strings.SplitSeq(list, "\x00") {
		if line == "" {
			continue
		}
		head, path, ok := strings.Cut(line, "\t")
		words := strings.Fields(head)
		if !ok || len(words) != 3 {
			return nil, fmt.Errorf("git lists a conflict as %q", line)
		}
		stage, err := strconv.Atoi(words[2])
		if err != nil || stage < 1 || stage > 3 {
			return nil, fmt.Errorf("git lists a conflict as %q", line)
		}
		entries = append(entries, stageEntry{mode: words[0], id: words[1], stage: stage, path: path})
	}
	return entries, nil
}

// unmerged is a file that could not be merged, in its versions.
type unmerged struct {
	path    string
	version [4]stageEntry // by stage; without an id where there is none
	moved   bool          // git put a version under another name, as the path is taken
}

func (u *unmerged) has(stage int) bool { return u.version[stage].id != "" }

// conflictsOf gathers the versions of each file.
func conflictsOf(entries []stageEntry, s sides) []*unmerged {
	byPath := make(map[string]*unmerged)
	for _, e := range entries {
		path, moved := original(e.path, s)
		u := byPath[path]
		if u == nil {
			u = &unmerged{path: path}
			byPath[path] = u
		}
		u.version[e.stage] = e
		u.moved = u.moved || moved
	}
	all := make([]*unmerged, 0, len(byPath))
	for _, u := range byPath {
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b *unmerged) int { return strings.Compare(a.path, b.path) })
	return all
}

// original undoes what git does to a name that is taken: PATH~COMMIT, or
// PATH~COMMIT_1 and so on.
func original(path string, s sides) (string, bool) {
	for _, commit := range []string{s.ours, s.theirs} {
		if before, after, ok := strings.Cut(path, "~"+commit); ok && (after == "" || after[0] == '_') {
			return before, true
		}
	}
	return path, false
}

const (
	modeLink      = "120000"
	modeSubmodule = "160000"
)

// describe says what each conflict is. In the tree are the files as git has left
// them, with conflict markers.
func (c combiner) describe(ctx context.Context, tree string, found []*unmerged, s sides, bases []string) ([]FileConflict, error) {
	renamed := slices.ContainsFunc(found, func(u *unmerged) bool { return u.has(1) && !u.has(2) && !u.has(3) })
	var all []FileConflict
	for _, u := range found {
		f := FileConflict{Path: u.path}
		var err error
		if f.Kind, f.Note, err = c.kind(ctx, u, s, bases, renamed); err != nil {
			return nil, err
		}
		if u.has(2) && u.has(3) && (f.Kind == "content" || f.Kind == "add/add") && len(all) < MaxConflictTexts {
			text, binary, err := c.marked(ctx, u, tree)
			if err != nil {
				return nil, err
			}
			if binary {
				f.Kind = "binary"
			}
			f.Text = conflictText(text, s)
		}
		all = append(all, f)
	}
	return all, nil
}

// kind tells a conflict by the versions that there are, as the words of git
// differ between its versions and cannot be told from the names in them.
func (c combiner) kind(ctx context.Context, u *unmerged, s sides, bases []string, renamed bool) (kind, note string, err error) {
	one, two, three := u.version[1], u.version[2], u.version[3]
	side := s.oursName
	if u.has(3) {
		side = s.theirsName
	}
	other := s.theirsName
	if side == s.theirsName {
		other = s.oursName
	}
	switch {
	case two.mode == modeSubmodule || three.mode == modeSubmodule || one.mode == modeSubmodule:
		return "submodule", "a submodule that differs between " + s.oursName + " and " + s.theirsName, nil
	case u.has(2) && u.has(3):
		both := s.oursName + " and " + s.theirsName
		switch {
		case two.mode[:3] != three.mode[:3]:
			return "distinct types", "a file in one of " + both + ", a link in the other", nil
		case two.id == three.id:
			return "mode", fmt.Sprintf("mode %s in %s, %s in %s", two.mode, s.oursName, three.mode, s.theirsName), nil
		case u.has(1):
			return "content", "changed in both " + both, nil
		}
		return "add/add", "in both " + both + ", and not before", nil
	case !u.has(2) && !u.has(3):
		return "rename/rename", "renamed in both " + s.oursName + " and " + s.theirsName + ", to other names", nil
	case u.has(1):
		was, err := c.typeIn(ctx, bases, u.path)
		switch {
		case err != nil:
			return "", "", err
		case u.moved:
			return "file/directory", "a file in " + side + ", a folder in " + other, nil
		case was == "":
			return "rename/delete", "renamed to this in " + side + ", deleted in " + other, nil
		}
		return "modify/delete", "changed in " + side + ", deleted in " + other, nil
	case renamed:
		return "rename/rename", "the new name in " + side, nil
	}
	return c.loneKind(ctx, u, s, side, other)
}

// loneKind is kind for a file of which there is one version only.
func (c combiner) loneKind(ctx context.Context, u *unmerged, s sides, side, other string) (kind, note string, err error) {
	here, there := s.ours, s.theirs
	if u.has(3) {
		here, there = there, here
	}
	of, err := c.typeIn(ctx, []string{there}, u.path)
	if err != nil {
		return "", "", err
	}
	if u.moved || of == "tree" {
		return "file/directory", "a file in " + side + ", a folder in " + other, nil
	}
	if of, err = c.typeIn(ctx, []string{here}, u.path); err != nil {
		return "", "", err
	}
	if of != "" {
		return "rename/delete", "renamed to this in " + side + ", deleted in " + other, nil
	}
	return "file location", "added in " + side + " in a folder that " + other + " has renamed", nil
}

// typeIn returns what a path is in the first of the commits that have it: "blob",
// "tree" or "commit", or nothing.
func (c combiner) typeIn(ctx context.Context, commits []string, path string) (string, error) {
	for _, commit := range commits {
		out, err := c.repo.Run(ctx, "ls-tree", "-z", "--full-tree", commit, "--", path)
		if err != nil {
			return "", err
		}
		if words := strings.Fields(out); len(words) > 1 {
			return words[1], nil
		}
	}
	return "", nil
}

// maxConflictFile is the largest file whose conflict is looked at.
const maxConflictFile = 8 << 20

// marked returns a file with its conflict markers, or nothing if it has none:
// of a binary file git leaves one of the versions.
func (c combiner) marked(ctx context.Context, u *unmerged, tree string) (text []byte, binary bool, err error) {
	if u.version[2].mode == modeLink {
		return nil, false, nil
	}
	id, err := c.blob(ctx, tree, u.version[2].path)
	if err != nil {
		return nil, false, err
	}
	// One of the versions was left as it is, or, with an empty work tree, ours not
	// even written.
	if id == "" || id == u.version[2].id || id == u.version[3].id {
		return nil, true, nil
	}
	return c.text(ctx, id)
}

// blob returns the name of what a tree has at a path, or nothing.
func (c combiner) blob(ctx context.Context, tree, path string) (string, error) {
	id, err := c.repo.Run(ctx, "rev-parse", "--verify", "--quiet", tree+":"+path)
	if git.ExitCode(err) == 1 {
		return "", nil
	}
	return id, err
}

// text returns what is in a blob, unless that is binary or too large.
func (c combiner) text(ctx context.Context, id string) (text []byte, binary bool, err error) {
	size, err := c.repo.Run(ctx, "cat-file", "-s", id)
	if err != nil {
		return nil, false, err
	}
	if n, err := strconv.ParseInt(size, 10, 64); err != nil || n > maxConflictFile {
		return nil, false, err
	}
	text, err = c.repo.Bytes(ctx, "cat-file", "blob", id)
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, true, err
	}
	return text, false, err
}

// aroundConflict is how many lines before and after a conflict are shown.
const aroundConflict = 5

// conflictText names the sides in the markers as people do, and takes from a text
// that is too long what is around them.
func conflictText(text []byte, s sides) string {
	lines := strings.SplitAfter(string(text), "\n")
	shown := make([]bool, len(lines))
	begin := -1
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "<<<<<<<") && strings.Contains(line, " "+s.ours):
			lines[i] = strings.Replace(line, s.ours, s.oursName, 1)
			begin = i
		case strings.HasPrefix(line, ">>>>>>>") && strings.Contains(line, " "+s.theirs) && begin >= 0:
			lines[i] = strings.Replace(line, s.theirs, s.theirsName, 1)
			for j := max(0, begin-aroundConflict); j < min(len(lines), i+1+aroundConflict); j++ {
				shown[j] = true
			}
			begin = -1
		}
	}
	whole := strings.ToValidUTF8(strings.Join(lines, ""), "\uFFFD")
	if len(whole) <= MaxConflictText {
		return whole
	}
	var b strings.Builder
	for i, line := range lines {
		switch {
		case shown[i]:
			b.WriteString(line)
		case i == 0 || shown[i-1]:
			b.WriteString(leftOut)
		}
	}
	part := strings.ToValidUTF8(b.String(), "\uFFFD")
	if len(part) <= MaxConflictText {
		return part
	}
	return strings.ToValidUTF8(part[:MaxConflictText-len(leftOut)-1], "") + "\n" + leftOut
}

const leftOut = "[… left out …]\n"

// fromMessages reads the conflicts that concern no single file, such as a folder
// that was renamed into several: COUNT, PATH…, TYPE, MESSAGE, again and again.
func fromMessages(fields []string) []FileConflict {
	var all []FileConflict
	for len(fields) > 0 {
		n, err := strconv.Atoi(strings.TrimSpace(fields[0]))
		if err != nil || n < 0 || len(fields) < n+3 {
			break
		}
		paths, kind, message := fields[1:n+1], fields[n+1], fields[n+2]
		fields = fields[n+3:]
		name, ok := strings.CutPrefix(kind, "CONFLICT (")
		if !ok {
			continue
		}
		f := FileConflict{Kind: strings.TrimSuffix(name, ")"), Note: strings.TrimSpace(message)}
		if n > 0 {
			f.Path = paths[0]
		}
		all = append(all, f)
	}
	return orUnknown(all)
}

// fromLines is fromMessages for what older versions say.
func fromLines(said string) []FileConflict {
	var all []FileConflict
	for line := range strings.Lines(said) {
		if rest, ok := strings.CutPrefix(line, "CONFLICT ("); ok {
			kind, _, _ := strings.Cut(rest, ")")
			all = append(all, FileConflict{Kind: kind, Note: strings.TrimSpace(line)})
		}
	}
	return orUnknown(all)
}

// orUnknown makes sure that what git could not merge is never taken for merged.
func orUnknown(all []FileConflict) []FileConflict {
	if len(all) == 0 {
		return []FileConflict{{Kind: "unknown", Note: "git does not say what"}}
	}
	return all
}
