package claudepool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The CLI keeps the transcript of a session in its config folder, as
// projects/<name of a directory>/<session>.jsonl, and beside it a folder
// <session> with those of subagents and with long output of tools. It does not
// tell who began a session. So a pool notes those of its slots in the same
// folder: a file indexFolder/<session> that holds how long the transcript is
// kept after its last use, and whose time of modification is when to look at it
// again. That outlives the program and needs no store.
const (
	indexFolder    = "claudepool/sessions"
	projectsFolder = "projects"
	transcriptExt  = ".jsonl"
)

// sessionName matches the id of a session, and no name that leads elsewhere.
var sessionName = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// noteSession notes that a slot has begun a session.
func noteSession(config, session string, keep time.Duration, now time.Time) error {
	dir := filepath.Join(config, filepath.FromSlash(indexFolder))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("note a session of the CLI: %w", err)
	}
	path := filepath.Join(dir, session)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil // noted before
	case err != nil:
		return fmt.Errorf("note a session of the CLI: %w", err)
	}
	_, err = f.WriteString(keep.String())
	if err = errors.Join(err, f.Close(), os.Chtimes(path, time.Time{}, now.Add(keep))); err != nil {
		return fmt.Errorf("note a session of the CLI: %w", err)
	}
	return nil
}

// sessionIndex is what a config folder holds of sessions, while it is looked at.
// Both roots keep every name inside their folder, whatever links are there.
type sessionIndex struct {
	notes    *os.Root
	projects *os.Root            // nil when the CLI has kept nothing yet
	places   map[string][]string // by session: the folders of projects that have something of it
}

// dueSession is one that is to be looked at.
type dueSession struct {
	id string
	at time.Time
}

// pruneSessions removes the transcripts of a config folder that nobody has used
// for as long as was noted, but not those that are needed, which it asks for
// when there is something to remove. It reports whether there is more to remove.
func pruneSessions(ctx context.Context, config string, now time.Time, needed func() (map[string]bool, error)) (more bool, err error) {
	x, err := openSessionIndex(config)
	if x == nil || err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, x.close()) }()
	// A pool that needs a session looks at it before it is due, so that no other
	// pool, with another store, finds it due.
	due, err := x.due(ctx, now.Add(2*pruneEvery))
	if len(due) == 0 || err != nil {
		return false, err
	}
	keep, err := needed()
	if err != nil {
		return false, err
	}
	if err := x.locate(ctx, due); err != nil {
		return false, err
	}
	removed := 0
	var errs []error
	for _, d := range due {
		switch {
		case ctx.Err() != nil:
			return false, errors.Join(append(errs, context.Cause(ctx))...)
		case removed == pruneMost:
			return true, errors.Join(errs...)
		}
		gone, err := x.settle(d, keep[d.id], now)
		if err != nil {
			errs = append(errs, fmt.Errorf("transcript of session %s in %s: %w", d.id, config, err))
		}
		if gone {
			removed++
		}
	}
	return false, errors.Join(errs...)
}

// openSessionIndex returns nil when no session was noted in the folder.
func openSessionIndex(config string) (*sessionIndex, error) {
	notes, err := os.OpenRoot(filepath.Join(config, filepath.FromSlash(indexFolder)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	projects, err := os.OpenRoot(filepath.Join(config, projectsFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, notes.Close())
	}
	return &sessionIndex{notes: notes, projects: projects, places: map[string][]string{}}, nil
}

func (x *sessionIndex) close() error {
	err := x.notes.Close()
	if x.projects != nil {
		err = errors.Join(err, x.projects.Close())
	}
	return err
}

// due returns the sessions that are to be looked at before a time, in that order.
func (x *sessionIndex) due(ctx context.Context, before time.Time) ([]dueSession, error) {
	var out []dueSession
	err := eachEntry(ctx, x.notes, ".", func(e fs.DirEntry) error {
		if !e.Type().IsRegular() || !sessionName.MatchString(e.Name()) {
			return nil
		}
		info, err := x.notes.Lstat(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // another pool was faster
		case err != nil:
			return err
		case info.ModTime().Before(before):
			out = append(out, dueSession{e.Name(), info.ModTime()})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b dueSession) int { return a.at.Compare(b.at) })
	return out, err
}

// locate finds what there is of the sessions. The CLI names the folders after
// directories and moves transcripts between them; only the names of sessions
// are relied on.
func (x *sessionIndex) locate(ctx context.Context, due []dueSession) error {
	if x.projects == nil {
		return nil
	}
	wanted := make(map[string]bool, len(due))
	for _, d := range due {
		wanted[d.id] = true
	}
	return eachEntry(ctx, x.projects, ".", func(project fs.DirEntry) error {
		if !project.IsDir() { // nor a link to one
			return nil
		}
		err := eachEntry(ctx, x.projects, project.Name(), func(e fs.DirEntry) error {
			id := strings.TrimSuffix(e.Name(), transcriptExt)
			if at := x.places[id]; wanted[id] && !slices.Contains(at, project.Name()) {
				x.places[id] = append(at, project.Name())
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// settle removes all of a session, or says when to look at it again. It reports
// whether it has removed it.
func (x *sessionIndex) settle(d dueSession, needed bool, now time.Time) (removed bool, err error) {
	text, err := x.notes.ReadFile(d.id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // another pool was faster
	}
	if err != nil {
		return false, err
	}
	keep, err := time.ParseDuration(string(text))
	if err != nil || keep <= 0 {
		// Its writer was cut off. Nobody knows, so the longest usual time counts.
		keep = month
	}
	again := now.Add(keep)
	if !needed {
		used, err := x.lastUse(d.id)
		if err != nil {
			return false, err
		}
		if again = used.Add(keep); used.IsZero() {
			again = d.at
		}
	}
	if again.After(now) {
		if again.Equal(d.at) {
			return false, nil
		}
		return false, x.notes.Chtimes(d.id, time.Time{}, again)
	}
	for _, project := range x.places[d.id] {
		if err := x.remove(project, d.id); err != nil {
			return false, err
		}
	}
	if err := x.notes.Remove(d.id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, nil
}

// lastUse returns when the CLI last wrote to the session, the zero time when it
// keeps nothing of it.
func (x *sessionIndex) lastUse(id string) (time.Time, error) {
	var last time.Time
	for _, project := range x.places[id] {
		info, err := x.projects.Lstat(filepath.Join(project, id+transcriptExt))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return last, err
		case info.Mode().IsRegular() && info.ModTime().After(last):
			last = info.ModTime()
		}
	}
	return last, nil
}

// remove removes what a project has of a session: a file and a folder, but
// neither what has such a name and is something else, nor what a link leads to.
func (x *sessionIndex) remove(project, id string) error {
	file, side := filepath.Join(project, id+transcriptExt), filepath.Join(project, id)
	if info, err := x.projects.Lstat(side); err == nil && info.IsDir() {
		if err := x.projects.RemoveAll(side); err != nil {
			return err
		}
	}
	if info, err := x.projects.Lstat(file); err == nil && info.Mode().IsRegular() {
		if err := x.projects.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// eachEntry calls do for every entry of a folder, without holding all of them.
func eachEntry(ctx context.Context, root *os.Root, name string, do func(fs.DirEntry) error) (err error) {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			if err := do(e); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}
