package worktree

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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
	kept  map[keepsake]string // refs
	refs  []string
	whats []string
}

func (m *Manager) newKeeper(place, work string) *keeper {
	return &keeper{m: m, place: place, work: work, at: time.Now().UTC().Round(0), names: make(map[string]int), kept: make(map[keepsake]string)}
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

// keepsake is an object that is to be kept.
type keepsake struct{ object, kind, name, what string }

// keep puts an object of a repository on a recovery ref of the person's, and
// returns the ref.
func (k *keeper) keep(ctx context.Context, from source, object, kind, name, what string) (string, error) {
	refs, err := k.keepAll(ctx, from, []keepsake{{object, kind, name, what}})
	if err != nil {
		return "", err
	}
	return refs[0], nil
}

// keepAll does so with several. They are fetched into the person's repository if
// need be. What it has kept before it does not keep again.
func (k *keeper) keepAll(ctx context.Context, from source, things []keepsake) (refs []string, err error) {
	if len(things) == 0 {
		return nil, nil
	}
	var fresh []keepsake
	var names []string
	for _, t := range things {
		ref := k.kept[t]
		if ref == "" {
			ref = k.ref(t.name)
			fresh, names = append(fresh, t), append(names, ref)
		}
		refs = append(refs, ref)
	}
	if !k.dry {
		if err := k.write(ctx, from, fresh, names); err != nil {
			return nil, fmt.Errorf("keep %s on a recovery ref: %w; nothing was removed", fresh[0].what, err)
		}
	}
	for i, t := range fresh {
		k.refs, k.whats = append(k.refs, names[i]), append(k.whats, t.what)
		if !k.dry {
			k.kept[t] = names[i]
			k.m.log.InfoContext(ctx, "kept on a recovery ref", "place", k.place, "work", k.work, "what", t.what, "ref", names[i])
		}
	}
	return refs, nil
}

// write makes the refs of things in the person's repository.
func (k *keeper) write(ctx context.Context, from source, things []keepsake, refs []string) error {
	brought, err := k.m.bring(ctx, from, things)
	if err != nil {
		return err
	}
	var commands []string
	for i, t := range brought {
		text, err := json.Marshal(note{k.place, k.work, t.what, k.at})
		if err != nil {
			return err
		}
		tag, err := makeTag(ctx, k.m.repo, t.object, t.kind, strings.TrimPrefix(refs[i], recoveryPrefix), string(text), k.at)
		if err != nil {
			return err
		}
		commands = append(commands, "create "+refs[i]+" "+tag)
	}
	return updateRefs(ctx, k.m.repo, commands...)
}

// makeTag makes a tag object, without a ref.
func makeTag(ctx context.Context, r git.Repo, object, kind, name, text string, at time.Time) (string, error) {
	body := fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger claudepool <claudepool@localhost> %d +0000\n\n%s\n", object, kind, name, at.Unix(), text)
	return r.Input(strings.NewReader(body)).Run(ctx, "hash-object", "-t", "tag", "-w", "--stdin")
}

// upload is how a repository is asked for objects: for any that it has, and without
// what its configuration hides.
const upload = "git -c uploadpack.allowAnySHA1InWant=true -c core.hooksPath=" + os.DevNull + " upload-pack"

// fetchObjects brings objects of another repository, with all that they need, into
// the person's. Git runs in the person's, so that the other's configuration has no
// say in where things go, and makes no ref.
func (m *Manager) fetchObjects(ctx context.Context, gitDir string, objects ...string) error {
	r := m.repo.Config("protocol.version", "2").Config("protocol.file.allow", "always").
		Config("fetch.fsckObjects", "false").Config("transfer.fsckObjects", "false")
	_, err := r.Input(strings.NewReader(strings.Join(objects, "\n")+"\n")).Run(ctx, "fetch-pack", "--quiet", "--no-progress", "--upload-pack="+upload, "--stdin", gitDir)
	return err
}

// bring has the person's repository have things of another, and returns what they
// are there.
func (m *Manager) bring(ctx context.Context, from source, things []keepsake) ([]keepsake, error) {
	if from.shared || len(things) == 0 {
		return things, nil
	}
	cut, err := m.cutOff(ctx, from.checkout)
	if err != nil {
		return nil, err
	}
	things = slices.Clone(things)
	var objects []string
	for i, t := range things {
		if cut && (t.kind == "commit" || t.kind == "tag") {
			// The files are what is to be kept: they get a commit without parents.
			message, err := from.repo.Run(ctx, "log", "-1", "--no-show-signature", "--format=%B%n%nThe commit was %H of a shallow repository.", t.object, "--")
			if err != nil {
				return nil, err
			}
			if things[i].object, err = commitOf(ctx, from.repo, t.object+"^{tree}", message, nil); err != nil {
				return nil, err
			}
			things[i].kind = "commit"
		}
		objects = append(objects, things[i].object)
	}
	return things, m.fetchObjects(ctx, from.gitDir, objects...)
}

// cutOff reports whether the history of a repository ends, as it is shallow, where
// that of the person's does not.
func (m *Manager) cutOff(ctx context.Context, c checkout) (bool, error) {
	common, err := commonDir(c.gitDir)
	if err != nil {
		return false, err
	}
	ends, err := readIfThere(filepath.Join(common, "shallow"))
	if err != nil || len(ends) == 0 {
		return false, err
	}
	known, err := m.repo.Input(bytes.NewReader(ends)).Run(ctx, "cat-file", "--batch-check")
	return strings.Contains(known, " missing"), err
}

// commonDir returns where a git folder has its objects and refs: that of a linked
// worktree names another.
func commonDir(gitDir string) (string, error) {
	text, err := readIfThere(filepath.Join(gitDir, "commondir"))
	if err != nil || text == nil {
		return gitDir, err
	}
	dir := filepath.FromSlash(strings.TrimSpace(string(text)))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(gitDir, dir)
	}
	return dir, nil
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
