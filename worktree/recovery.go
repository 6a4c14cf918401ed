package worktree

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// Recovery is a recovery ref: refs/claude-pool/recovery/TIME/NAME, in the
// repository. It is an annotated tag whose commit has what was kept:
// "git worktree add DIR REF" brings the files back, [Manager.Recover] makes a
// branch of it.
type Recovery struct {
	Ref     string    `json:"ref"`
	Commit  string    `json:"commit"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires,omitzero"`
	Place   string    `json:"place,omitempty"`
	Work    string    `json:"work,omitempty"`
	What    string    `json:"what"` // what it has, in words
}

// note is what the tag of a recovery ref says.
type note struct {
	Place string    `json:"place,omitempty"`
	Work  string    `json:"work,omitempty"`
	What  string    `json:"what"`
	Made  time.Time `json:"made"`
}

// keeper puts commits on recovery refs.
type keeper struct {
	m     *Manager
	place string
	work  string
	at    time.Time
	dry   bool // only find out which refs there would be
	names map[string]int
	refs  []string
	whats []string
}

func (m *Manager) newKeeper(place, work string) *keeper {
	return &keeper{m: m, place: place, work: work, at: time.Now().UTC().Round(0), names: make(map[string]int)}
}

const refTime = "20060102T150405.000000000Z"

// ref returns a name that no other recovery ref has.
func (k *keeper) ref(name string) string {
	name = strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '-'
	}, name), "-")
	name = strings.TrimPrefix(k.place+"-", "-") + cmp.Or(name[:min(len(name), 80)], "other")
	k.names[name]++
	if n := k.names[name]; n > 1 {
		name = fmt.Sprintf("%s-%d", name, n)
	}
	return recoveryPrefix + k.at.Format(refTime) + "/" + name
}

// keep puts an object of a repository on a recovery ref of the person's, which is
// fetched there if need be, and returns the ref.
func (k *keeper) keep(ctx context.Context, from source, object, kind, name, what string) (string, error) {
	ref := k.ref(name)
	if k.dry {
		k.refs, k.whats = append(k.refs, ref), append(k.whats, what)
		return ref, nil
	}
	text, err := json.Marshal(note{k.place, k.work, what, k.at})
	if err != nil {
		return "", err
	}
	tag, err := makeTag(ctx, from.repo, object, kind, strings.TrimPrefix(ref, recoveryPrefix), string(text), k.at)
	if err == nil {
		if from.shared {
			err = updateRefs(ctx, from.repo, "create "+ref+" "+tag)
		} else {
			err = k.m.bring(ctx, from.checkout, object, tag, ref)
		}
	}
	if err != nil {
		return "", fmt.Errorf("keep %s on a recovery ref: %w; nothing was removed", what, err)
	}
	k.refs, k.whats = append(k.refs, ref), append(k.whats, what)
	k.m.log.InfoContext(ctx, "kept on a recovery ref", "place", k.place, "work", k.work, "what", what, "ref", ref)
	return ref, nil
}

// makeTag makes a tag object, without a ref.
func makeTag(ctx context.Context, r git.Repo, object, kind, name, text string, at time.Time) (string, error) {
	body := fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger claudepool <claudepool@localhost> %d +0000\n\n%s\n", object, kind, name, at.Unix(), text)
	return r.Input(strings.NewReader(body)).Run(ctx, "hash-object", "-t", "tag", "-w", "--stdin")
}

// receive is how the person's repository takes what is pushed into it: without its
// hooks and checks, which are for people.
const receive = "git -c core.hooksPath=" + os.DevNull + " -c receive.autogc=false -c receive.fsckObjects=false -c transfer.fsckObjects=false -c receive.denyNonFastForwards=false receive-pack"

func (m *Manager) push(ctx context.Context, from git.Repo, object, ref string) (err error) {
	if onlyGitAdds(m.names.common) {
		lock, failed := lockAdding(ctx, m.home)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, lock.Unlock()) }()
	}
	_, err = from.Run(ctx, "push", "--quiet", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no", "--receive-pack="+receive, m.names.common, "+"+object+":"+ref)
	return err
}

// bring puts a tag of another repository on a ref of the person's.
func (m *Manager) bring(ctx context.Context, from checkout, object, tag, ref string) error {
	err := m.push(ctx, from.repo, tag, ref)
	if err == nil || !strings.Contains(err.Error(), "shallow") {
		return err
	}
	// The history of a shallow repository ends where none of ours does. The files
	// are what is to be kept: they get a commit without parents.
	old, err := from.repo.Run(ctx, "cat-file", "-p", tag)
	if err != nil {
		return err
	}
	message, err := from.repo.Run(ctx, "log", "-1", "--format=%B%n%nThe commit was %H of a shallow repository.", object)
	if err != nil {
		return err
	}
	flat, err := commitOf(ctx, from.repo, object+"^{tree}", message, nil)
	if err != nil {
		return err
	}
	body := strings.Replace(old, "object "+object, "object "+flat, 1) + "\n"
	if tag, err = from.repo.Input(strings.NewReader(body)).Run(ctx, "hash-object", "-t", "tag", "-w", "--stdin"); err != nil {
		return err
	}
	return m.push(ctx, from.repo, tag, ref)
}

// Recoveries lists the recovery refs of the repository, the newest first.
func (m *Manager) Recoveries(ctx context.Context) ([]Recovery, error) {
	lines, err := m.repo.Lines(ctx, "for-each-ref", "--format=%(refname) %(*objectname) %(objectname) %(contents:subject)", strings.TrimSuffix(recoveryPrefix, "/"))
	if err != nil {
		return nil, err
	}
	var all []Recovery
	for _, line := range lines {
		part := strings.SplitN(line, " ", 4)
		if len(part) != 4 {
			return nil, fmt.Errorf("git for-each-ref says %q", line)
		}
		r := Recovery{Ref: part[0], Commit: cmp.Or(part[1], part[2])}
		var n note
		if json.Unmarshal([]byte(part[3]), &n) == nil {
			r.Place, r.Work, r.What, r.Made = n.Place, n.Work, n.What, n.Made
		} else { // made by hand
			at, _, _ := strings.Cut(strings.TrimPrefix(r.Ref, recoveryPrefix), "/")
			r.Made, _ = time.Parse(refTime, at)
			r.What = "unknown"
		}
		if m.o.Keep > 0 && !r.Made.IsZero() {
			r.Expires = r.Made.Add(m.o.Keep)
		}
		all = append(all, r)
	}
	slices.Reverse(all) // they sort by time
	return all, nil
}

// Recover makes a branch at the commit of a recovery ref. The ref stays.
func (m *Manager) Recover(ctx context.Context, ref, branch string) error {
	if !strings.HasPrefix(ref, recoveryPrefix) {
		return invalid("ref", "is %q: recovery refs begin with %s", ref, recoveryPrefix)
	}
	for option, name := range map[string]string{"ref": ref, "branch": "refs/heads/" + branch} {
		if ok, err := m.repo.Succeeds(ctx, "check-ref-format", name); err != nil {
			return err
		} else if !ok || strings.HasPrefix(branch, "-") {
			return invalid(option, "is %q, which git does not take as a name", strings.TrimPrefix(name, "refs/heads/"))
		}
	}
	commit, err := m.commit(ctx, ref)
	if err != nil {
		return err
	}
	old, err := m.branch(ctx, "refs/heads/"+branch)
	if err != nil {
		return err
	}
	if old.commit != "" {
		return invalid("branch", "is %q, which is there already: choose another name", branch)
	}
	return updateRefs(ctx, m.repo, "create refs/heads/"+branch+" "+commit)
}

// submoduleDir returns the git folder of the person's own copy of a submodule, ""
// when there is none.
func (m *Manager) submoduleDir(path string) string {
	if m.names.top == "" {
		return ""
	}
	return gitFolder(filepath.Join(m.names.top, filepath.FromSlash(path)))
}

// gitFolder returns the git folder of a working tree, "" when it is none.
func gitFolder(top string) string {
	dir := filepath.Join(top, ".git")
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return ""
	case fi.IsDir():
		return dir
	}
	text, err := os.ReadFile(dir)
	link, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
	if err != nil || !ok {
		return ""
	}
	if link = filepath.FromSlash(link); !filepath.IsAbs(link) {
		link = filepath.Join(top, link)
	}
	return link
}
