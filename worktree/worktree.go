package worktree

import (
	"errors"
	"log/slog"
	"time"
)

// Kind says what a place shares with the repository.
type Kind string

const (
	// Worktree is a linked worktree: it shares objects, refs, the stash, config
	// and hooks with the repository.
	Worktree Kind = "worktree"
	// Clone is a clone on the same disk, with refs, stash and config of its own.
	// Its origin is the repository's own origin, if that has one.
	Clone Kind = "clone"
)

// Errors that callers can test for with [errors.Is].
var (
	// ErrNoRepository: the folder is in no git repository.
	ErrNoRepository = errors.New("no git repository")
	// ErrNoCommit: the repository has no commit that work could start from.
	ErrNoCommit = errors.New("no commit to start from")
	// ErrNotOurs: the folder does not carry this package's marker.
	ErrNotOurs = errors.New("not a place of this package")
	// ErrInUse: a living program has the place.
	ErrInUse = errors.New("place is in use")
	// ErrUnknown: there is no such place, branch or recovery ref.
	ErrUnknown = errors.New("unknown")
	// ErrConflict: the work does not merge by itself; see [ConflictError].
	ErrConflict = errors.New("merge conflict")
	// ErrMoved: the target was moved by somebody else meanwhile, too often.
	ErrMoved = errors.New("target has moved")
	// ErrCheckedOut: the target is checked out somewhere, and was not to be moved there.
	ErrCheckedOut = errors.New("target is checked out")
	// ErrCheckFailed: the check command did not succeed on the merge result.
	ErrCheckFailed = errors.New("check failed")
)

// Options say how places are made. Repo is all that is needed.
type Options struct {
	// Repo is a folder of a repository: its top, one below that (then work begins
	// in the same one below a place), or a bare repository.
	Repo string
	// Home is where places are kept, in a folder for each repository. Default: a
	// folder of this user's state, see [DefaultHome]. It must be outside Repo.
	Home string
	// Base is what work starts from, as git names commits: a branch, a tag,
	// "origin/main". It is looked up when each piece of work begins. Default:
	// HEAD of the repository.
	Base string
	// Fetch has the remote of Base be fetched before that, if Base is of one.
	Fetch bool
	// Target is the branch that results are compared with. Default: the branch
	// that HEAD of the repository names; none when HEAD is detached.
	Target string
	// Leftover says what becomes of what is not committed when work ends.
	// Default [Commit].
	Leftover Leftover
	// Hooks has the repository's hooks run for the commits that this package
	// makes of leftovers. Default: they do not.
	Hooks bool
	// Copy names ignored files, or folders of such, of the person's checkout that
	// each place gets a copy of before work begins, such as ".env". Patterns are
	// those of [path.Match], relative to the top.
	Copy []string
	// Setup is a command that is run in the place before work begins, in Dir.
	Setup []string
	// SetupTimeout bounds it. Default 5 min.
	SetupTimeout time.Duration
	// Keep is how long recovery refs are kept. Default 30 days; negative: for ever.
	Keep time.Duration
	// Log gets what is worth telling. Default: nothing.
	Log *slog.Logger
}

// Leftover says what becomes of what is not committed when work ends.
type Leftover string

const (
	Commit Leftover = "commit" // it becomes a commit of the branch
	Keep   Leftover = "keep"   // it stays out of the branch, on a recovery ref
)

// Work is what a place is to serve next.
type Work struct {
	// ID names the work and its branch, "claude-pool/ID". It must be a single
	// path element that git takes as a part of a branch's name.
	ID string
	// From is the work whose branch this one continues, in whichever place that
	// was; Base is then the base of that. It may be ID itself: a further attempt.
	From string
	// Base replaces that of the options.
	Base string
}

// Result is what came of work.
type Result struct {
	// Branch has the work: "claude-pool/ID". It exists also when nothing was
	// committed, until it is cleaned up.
	Branch string `json:"branch"`
	// Base and Head are the commits that the work began and ended with.
	Base string `json:"base"`
	Head string `json:"head"`
	// Commits are those of the branch after Base, the newest first, at most
	// [MaxCommits]; Total counts all.
	Commits []CommitInfo `json:"commits,omitempty"`
	Total   int          `json:"commits_total"`
	// Files, Insertions and Deletions are those of the diff from Base to Head.
	Files      int `json:"files_changed"`
	Insertions int `json:"insertions"`
	Deletions  int `json:"deletions"`
	// Leftover is the commit that was made of what was not committed, or the
	// recovery ref that has it; empty when there was nothing.
	Leftover string `json:"leftover,omitempty"`
	// Recovery lists the refs that have what is not on the branch: commits of
	// other branches made meanwhile, stashes of a clone, what was staged and then
	// changed again, nested repositories. It has what a clone has committed, and
	// Head is the one before, if the branch is checked out somewhere by then.
	Recovery []string `json:"recovery,omitempty"`
	// Target is the branch that Conflicts is about: the files in which the work
	// would conflict with it now. Empty Conflicts: none. It is empty when the two
	// cannot be compared, such as when they have no commit in common.
	Target    string   `json:"target,omitempty"`
	Conflicts []string `json:"conflicts,omitempty"`
}

// MaxCommits bounds [Result].Commits.
const MaxCommits = 50

// CommitInfo is a commit as a list shows it.
type CommitInfo struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject"`
	Author  string    `json:"author"`
	Date    time.Time `json:"date"`
}

// State says how a place stands.
type State string

const (
	Busy  State = "busy"  // a living program works in it
	Ready State = "ready" // a living program has it, and no work
	Free  State = "free"  // nobody has it, and no work is open in it
	Stale State = "stale" // nobody has it, but work is open: its program has ended in between
)

// PlaceInfo is a place as a list shows it.
type PlaceInfo struct {
	Name    string    `json:"name"`
	Kind    Kind      `json:"kind"`
	Path    string    `json:"path"`
	State   State     `json:"state"`
	Work    string    `json:"work,omitempty"` // the last begun and not ended, if any
	Branch  string    `json:"branch,omitempty"`
	PID     int       `json:"pid,omitempty"` // of who has it
	Made    time.Time `json:"made"`
	Used    time.Time `json:"used"`              // when work last began or ended
	Holds   []string  `json:"holds,omitempty"`   // what is in it that no kept ref has, in words
	Trouble string    `json:"trouble,omitempty"` // why it could not be looked at
}

// Removal is something that a clean-up removes, or would.
type Removal struct {
	Path     string   `json:"path,omitempty"`   // of a place, or of what a merge has left
	Branch   string   `json:"branch,omitempty"` // one that is merged
	Ref      string   `json:"ref,omitempty"`    // a recovery ref past its time
	Why      string   `json:"why"`
	Recovery []string `json:"recovery,omitempty"` // refs that keep what was there
}
