package worktree

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of merging that callers can test for with [errors.Is], besides
// [ErrUnknown], [ErrConflict], [ErrMoved], [ErrCheckedOut] and [ErrCheckFailed].
var (
	// ErrUnrelated: the work and the target have no commit in common.
	ErrUnrelated = errors.New("no common history")
	// ErrInTheWay: the checkout to be moved forward has changes of its own in
	// files that the merge changes.
	ErrInTheWay = errors.New("local changes are in the way")
)

// Strategy says how work comes to its target.
type Strategy string

const (
	// Merge makes a merge commit. When the target has nothing that the work has
	// not, it moves forward to the work instead, as git does by default.
	Merge Strategy = "merge"
	// Squash makes one commit with all changes. Its author is that of the work's
	// last commit; the message names the others, unless it is given.
	Squash Strategy = "squash"
	// Rebase puts the commits one by one on top of the target, with their authors
	// and dates. Those that change nothing there are left out, and so are merge
	// commits. If one of those has settled a conflict or has changes of its own,
	// all become one commit as with Squash.
	Rebase Strategy = "rebase"
)

// Strategies lists every strategy.
func Strategies() []Strategy { return []Strategy{Merge, Squash, Rebase} }

// CheckedOut says what to do when the target is checked out somewhere.
type CheckedOut string

const (
	// Refuse leaves everything as it is, with [ErrCheckedOut].
	Refuse CheckedOut = "refuse"
	// FastForward moves that checkout forward too, as git would: only files that
	// the merge changes are touched, and one that was changed there is in the way:
	// [ErrInTheWay]. So is an ignored file, or a repository inside, which git itself
	// would overwrite. A checkout in the middle of a merge or a rebase is left alone,
	// and so is a place of agents. When the program is killed in the middle of it,
	// the next merge into that target, or a [Manager.Clean], brings it to its end.
	FastForward CheckedOut = "fast-forward"
)

// MergeRequest says what is to be merged.
type MergeRequest struct {
	// Work is the id of the work, or Branch a branch; one of them. With Commit,
	// that is merged, such as what [Manager.Combine] has made, and Branch is no
	// more than what it is called.
	Work   string
	Branch string
	Commit string
	// Target is a branch. Default: [Options].Target.
	Target string
	// Strategy is by default [Merge].
	Strategy Strategy
	// Message is that of a merge or squash commit. Default: one that names the
	// branch; for a squash also its commits, or the message of the only one.
	Message string
	// Check is a command that must succeed on the result, in a scratch worktree,
	// before the target moves. What it leaves running is ended. CheckTimeout
	// bounds it; default 10 min.
	Check        []string
	CheckTimeout time.Duration
	// DryRun finds out what would happen, Check included, and moves nothing. What
	// would be refused is an error here too.
	DryRun bool
	// CheckedOut is by default [Refuse].
	CheckedOut CheckedOut
}

// MergeResult says what happened.
type MergeResult struct {
	Branch   string   `json:"branch"`
	Target   string   `json:"target"`
	Strategy Strategy `json:"strategy"`
	// Before and After are the commits of the target; with DryRun After is what
	// it would be, and is on no ref.
	Before string `json:"before"`
	After  string `json:"after"`
	// Merged says that the target has the work now; Already that it had it before.
	Merged  bool `json:"merged"`
	Already bool `json:"already,omitempty"`
	DryRun  bool `json:"dry_run,omitempty"`
	// Files, Insertions and Deletions are those of the change to the target.
	Files      int `json:"files_changed"`
	Insertions int `json:"insertions"`
	Deletions  int `json:"deletions"`
	// Conflicts lists what does not merge, by file. Target and branch are
	// untouched then.
	Conflicts []FileConflict `json:"conflicts,omitempty"`
	// CheckOutput is the end of what the check printed, at most [MaxCheckOutput].
	CheckOutput string `json:"check_output,omitempty"`
	// MovedCheckout is the folder of the checkout that was moved forward too.
	MovedCheckout string `json:"moved_checkout,omitempty"`
}

// FileConflict is a file that does not merge.
type FileConflict struct {
	Path string `json:"path"`
	// Kind is what git calls it: "content", "binary", "mode", "add/add",
	// "modify/delete", "rename/delete", "rename/rename", "distinct types",
	// "file/directory", "file location", "submodule"; or "unresolved" for one of an
	// earlier merge, whose marks the work still has.
	Kind string `json:"kind"`
	// Note says in words what each side did.
	Note string `json:"note,omitempty"`
	// Text is the file with conflict markers. Of one that is longer than
	// [MaxConflictText] it is what is around the markers, cut there. It is empty
	// where there are no markers, as in binary files, and for all but the first
	// [MaxConflictTexts] files.
	Text string `json:"text,omitempty"`
}

const (
	// MaxConflictText bounds [FileConflict].Text in bytes.
	MaxConflictText = 8 << 10
	// MaxConflictTexts bounds how many files have a text.
	MaxConflictTexts = 50
	// MaxCheckOutput bounds [MergeResult].CheckOutput in bytes.
	MaxCheckOutput = 16 << 10
)

// ConflictError says that work does not merge by itself. It is [ErrConflict].
type ConflictError struct {
	Branch, Target string
	Files          []FileConflict
}

func (e *ConflictError) Error() string {
	names := make([]string, len(e.Files))
	for i, f := range e.Files {
		names[i] = f.Path
	}
	return fmt.Sprintf("%s does not merge into %s by itself: conflicts in %s; both are as they were", e.Branch, e.Target, strings.Join(names, ", "))
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }
