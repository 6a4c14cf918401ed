package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

const (
	// marks are the lines that begin and end a conflict in a file of [Manager.Mix]:
	// git names the sides there by their commits. Attributes may make them longer.
	marks = "^(<{7,}|>{7,}) [0-9a-f]{40}"
	// half is the line between the sides. Others write such lines too.
	half = "^={7,}\r?$"
	// withConflicts ends what a commit of [Manager.Mix] says that has some.
	withConflicts = ", with conflicts"
)

// mark returns the tree of a merge with each conflict in a file with marks. So all
// that resolves it changes that file, and what does not is found.
func (c combiner) mark(ctx context.Context, s sides, res combined) (tree string, err error) {
	var index strings.Builder
	var never []FileConflict
	if len(res.unmerged) == 0 {
		never = res.conflicts
	}
	for i, u := range res.unmerged {
		if slices.ContainsFunc(u.version[:], func(v stageEntry) bool { return v.mode == modeSubmodule }) {
			never = append(never, res.conflicts[i])
			continue
		}
		for _, path := range slices.Compact([]string{u.version[2].path, u.version[3].path}) {
			if path == "" {
				continue
			}
			mode, at := "100644", [4]stageEntry{}
			for stage := 3; stage >= 2; stage-- {
				if v := u.version[stage]; v.path == path {
					at[stage] = v
					if v.mode != modeLink {
						mode = v.mode
					}
				}
			}
			id, err := c.withMarks(ctx, s, res.tree, path, at[2], at[3])
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&index, "%s %s\t%s\x00", mode, id, path)
		}
	}
	if len(never) > 0 {
		return "", &ConflictError{Branch: s.theirsName, Target: s.oursName, Files: never}
	}
	dir, err := os.MkdirTemp(c.temp, "merge-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	r := c.repo.With("GIT_INDEX_FILE=" + filepath.Join(dir, "index"))
	if _, err := r.Run(ctx, "read-tree", res.tree); err != nil {
		return "", err
	}
	if _, err := r.Input(strings.NewReader(index.String())).Run(ctx, "update-index", "-z", "--index-info"); err != nil {
		return "", err
	}
	return r.Run(ctx, "write-tree")
}

// withMarks returns a blob with the marks of a conflict: what git has left at the
// path, or, if that has none, all of both sides.
func (c combiner) withMarks(ctx context.Context, s sides, tree, path string, ours, theirs stageEntry) (string, error) {
	id, err := c.blob(ctx, tree, path)
	if err != nil {
		return "", err
	}
	if id != "" && id != ours.id && id != theirs.id {
		text, _, err := c.text(ctx, id)
		if err != nil || bytes.Contains(text, []byte("<<< "+s.ours)) {
			return id, err
		}
	}
	left, err := c.side(ctx, ours)
	if err != nil {
		return "", err
	}
	right, err := c.side(ctx, theirs)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("<<<<<<< %s\n%s=======\n%s>>>>>>> %s\n", s.ours, left, right, s.theirs)
	return c.repo.Input(strings.NewReader(text)).Run(ctx, "hash-object", "-w", "--stdin")
}

// side returns a version of a file for between the marks.
func (c combiner) side(ctx context.Context, v stageEntry) (string, error) {
	if v.id == "" {
		return "", nil
	}
	text, _, err := c.text(ctx, v.id)
	switch {
	case err != nil:
		return "", err
	case text == nil: // binary, too large, or nothing that could be seen
		return "the file that git cat-file blob " + v.id + " prints\n", nil
	case v.mode == modeLink:
		return "a link to " + string(text) + "\n", nil
	case !bytes.HasSuffix(text, []byte("\n")):
		return string(text) + "\n", nil
	}
	return string(text), nil
}

// unresolved returns the files of a commit in which a conflict of [Manager.Mix] is
// left that they do not have in another, before. The work between them ends at head.
func (c combiner) unresolved(ctx context.Context, before, head, after string) ([]string, error) {
	names, err := c.gained(ctx, before, after, marks)
	if err != nil {
		return nil, err
	}
	mixed, err := c.repo.Lines(ctx, "rev-list", "--merges", "--grep=^Merge .*"+withConflicts+"$", head, "--not", before)
	if err != nil {
		return nil, err
	}
	for _, mix := range mixed {
		// Both ends of a conflict may have gone, and what was between them not.
		files, err := c.gained(ctx, mix+"^1", mix, marks)
		if err != nil {
			return nil, err
		}
		left, err := c.grep(ctx, after, half, files)
		if err != nil {
			return nil, err
		}
		for _, side := range []string{mix + "^1", mix + "^2"} {
			had, err := c.grep(ctx, side, half, left)
			if err != nil {
				return nil, err
			}
			left = slices.DeleteFunc(left, func(f string) bool { return slices.Contains(had, f) })
		}
		names = append(names, left...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// gained returns the files that have lines like a pattern in one commit and had
// none in another.
func (c combiner) gained(ctx context.Context, from, to, pattern string) ([]string, error) {
	changed, err := c.repo.Fields(ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--text", "-G"+pattern, from, to, "--")
	if err != nil {
		return nil, err
	}
	have, err := c.grep(ctx, to, pattern, changed)
	if err != nil {
		return nil, err
	}
	had, err := c.grep(ctx, from, pattern, have)
	return slices.DeleteFunc(have, func(f string) bool { return slices.Contains(had, f) }), err
}

// grep returns which of some files of a commit have a line like a pattern.
func (c combiner) grep(ctx context.Context, commit, pattern string, files []string) ([]string, error) {
	var all []string
	for some := range slices.Chunk(files, 100) { // a command has only so much room
		args := []string{"grep", "--text", "--files-with-matches", "-z", "--full-name", "--no-color", "--extended-regexp", "-e", pattern, commit, "--"}
		found, err := c.repo.Fields(ctx, append(args, some...)...)
		if err != nil && git.ExitCode(err) != 1 {
			return nil, err
		}
		for _, f := range found {
			all = append(all, f[min(len(f), len(commit)+1):])
		}
	}
	return all, nil
}
