package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// repair makes the git folder of the place again what it is to be, but for the work
// in it, before git runs there: so that nothing that an agent has set hides its work
// from us, or comes to the next. Where the folder or its git folder has become
// another's, or a link to one, nothing is touched.
func (p *Place) repair(ctx context.Context) error {
	if err := p.remakeClone(ctx); err != nil {
		return err
	}
	if _, err := readMark(p.gitDir, p.root); err != nil {
		return fmt.Errorf("%s is not the place any more that it was, and is left alone; move it away: %w", p.root, err)
	}
	entries, err := os.ReadDir(p.gitDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path, link := filepath.Join(p.gitDir, e.Name()), e.Type()&fs.ModeSymlink != 0
		switch {
		case p.kind == Clone && !isOwnName(e.Name()), link && e.Name() == "info":
			if err := removeAll(path); err != nil {
				return err
			}
		case link && slices.Contains([]string{"refs", "logs", "packed-refs", "reftable"}, e.Name()):
			return fmt.Errorf("%w: %s is a link, so that it may be of others; move %s away", ErrNotOurs, path, p.root)
		}
	}
	if p.mark.Files == nil { // it was made before they were taken down
		if err := p.noteFiles(p.settingFiles()...); err != nil {
			return err
		}
	}
	if err := errors.Join(p.writeFiles(), p.repairLink()); err != nil {
		return err
	}
	if p.ownRepository() {
		p.tidy = false
	}
	return nil
}

// remakeClone makes the git folder of a clone ours again where somebody has removed
// it, also if they have made another. It has no commit of the person's then.
func (p *Place) remakeClone(ctx context.Context) error {
	if fi, err := os.Lstat(p.root); p.kind != Clone || err != nil || !fi.IsDir() {
		return nil
	}
	switch fi, err := os.Lstat(p.gitDir); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil || !fi.IsDir():
		return nil // readMark says what is wrong
	default:
		if _, err := readMark(p.gitDir, p.root); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err := removeAll(filepath.Join(p.gitDir, "commondir")); err != nil { // it would lead elsewhere
		return err
	}
	// Of a repository that is whole it changes nothing.
	if _, err := p.m.quiet(p.m.git.In(p.root)).Run(ctx, "init", "--quiet", "--template="); err != nil {
		return err
	}
	p.m.log.WarnContext(ctx, "somebody has removed the git folder of a clone", "place", p.name)
	p.tidy = false
	return errors.Join(noteHead(p.gitDir), p.writeMark())
}

// deepen brings into a clone that was made shallow the history that the person's
// repository has.
func (p *Place) deepen(ctx context.Context) error {
	have, err := readIfThere(filepath.Join(p.gitDir, "shallow"))
	if err != nil || have == nil {
		return err
	}
	if theirs, err := readIfThere(filepath.Join(p.m.names.common, "shallow")); err != nil || string(theirs) == string(have) {
		return err
	}
	_, err = p.repo.Run(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--unshallow", p.m.names.common)
	return err
}

// ownRepository reports whether somebody has made the folder of a worktree a
// repository of its own.
func (p *Place) ownRepository() bool {
	fi, err := os.Lstat(filepath.Join(p.root, ".git"))
	return err == nil && fi.IsDir() && p.kind == Worktree
}

// ownRepository keeps what is in such a repository, and makes the place a worktree
// of the person's again.
func (s *salvage) ownRepository(ctx context.Context) error {
	if !s.p.ownRepository() {
		return nil
	}
	c := s.p.checkout()
	b, err := c.below(ctx, "")
	if _, broken := errors.AsType[*brokenError](err); broken {
		return s.brokenRepository(ctx)
	}
	if err != nil {
		return err
	}
	if err := unlock(b.gitDir); err != nil {
		return err
	}
	v, err := b.look(ctx)
	if err != nil {
		return err
	}
	src := source{checkout: b, name: "."}
	if !v.clean() {
		if err := s.files(ctx, src, v, "files of the repository that was made of the place"); err != nil {
			return err
		}
	}
	if err := s.history(ctx, src, v); err != nil {
		return err
	}
	if err := c.discard(b.gitDir); err != nil {
		return err
	}
	return s.p.repairLink()
}

// brokenRepository keeps as files what is in such a repository that git cannot read,
// as one is that was half made or half removed.
func (s *salvage) brokenRepository(ctx context.Context) error {
	c := s.p.checkout()
	plain := filepath.Join(c.root, plainGit)
	if err := errors.Join(os.Rename(filepath.Join(c.root, ".git"), plain), s.p.repairLink()); err != nil {
		return err
	}
	var v view
	var err error
	if v.head, err = c.head(ctx); err != nil {
		return err
	}
	err = filepath.WalkDir(plain, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(c.root, path)
			v.entries = append(v.entries, entry{path: filepath.ToSlash(name), index: '?', tree: '?'})
		}
		return err
	})
	if err == nil {
		err = s.files(ctx, s.p.source(), v, "a git folder of the place that git cannot read, as "+plainGit)
	}
	if err != nil {
		return err
	}
	return c.discard(plain)
}

// ownNames are of what a clone has in its git folder from one work to the next, or
// until it has been kept.
var ownNames = append([]string{
	"HEAD", "ORIG_HEAD", "FETCH_HEAD", markName, "config", "config.worktree", "index", "info", "lfs", "logs", "modules", "objects", "packed-refs", "refs", "reftable", "shallow", "worktrees",
}, stateFiles...)

func isOwnName(name string) bool {
	return slices.Contains(ownNames, name) || strings.HasPrefix(name, "sharedindex.") || strings.HasPrefix(name, gonePrefix)
}

// settingFiles are the files of the git folder that say how git works in the place,
// and that nobody else has.
func (p *Place) settingFiles() []string {
	if p.kind == Clone {
		return []string{"config", "config.worktree", "info/sparse-checkout", "info/exclude", "info/attributes"}
	}
	return []string{"commondir", "config.worktree", "info/sparse-checkout"}
}

// noteFiles takes down what the place has now as what it is to have.
func (p *Place) noteFiles(names ...string) error {
	for _, name := range names {
		text, err := readIfThere(filepath.Join(p.gitDir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		p.mark.setFile(name, text)
	}
	return nil
}

// setFile takes down what a file is to be; nil is none.
func (k *mark) setFile(name string, text []byte) {
	files := maps.Clone(k.Files)
	if files == nil {
		files = make(map[string]string)
	}
	if delete(files, name); text != nil {
		files[name] = string(text)
	}
	k.Files = files
}

// writeFiles makes the files that say how git works what they are to be.
func (p *Place) writeFiles() error {
	for _, name := range p.settingFiles() {
		path := filepath.Join(p.gitDir, filepath.FromSlash(name))
		want, some := p.mark.Files[name]
		fi, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if !some {
				continue
			}
		case err != nil:
			return err
		case some && fi.Mode().IsRegular():
			if text, err := os.ReadFile(path); err == nil && string(text) == want {
				continue
			}
		}
		if err := errors.Join(p.distrustIndex(), removeAll(path)); err != nil {
			return err
		}
		if !some {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(want), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// distrustIndex has git compare the text of all files with the index, whatever their
// times say: a filter may have been set when they were added. For an index that is
// older than a file git does so.
func (p *Place) distrustIndex() error {
	err := os.Chtimes(filepath.Join(p.gitDir, "index"), time.Time{}, time.Unix(1, 0))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// settingsBegin is between what git has set in a clone's config and what is of the
// person's repository.
const settingsBegin = "# What the person's repository has:\n"

// copyConfig takes down for a clone what a linked worktree would share: remotes,
// identity, how to reach other machines, and what is excluded.
func (p *Place) copyConfig(ctx context.Context) error {
	if p.kind != Clone {
		return nil
	}
	settings, err := p.m.repo.Fields(ctx, "config", "--local", "--includes", "--null", "--get-regexp", `^(remote\..*|submodule\..*|user\..*|credential\..*|http\..*|url\..*|extensions\.(partialclone|worktreeconfig)|core\.(sshcommand|sparsecheckout|autocrlf|eol|safecrlf|excludesfile|attributesfile|filemode|symlinks|ignorecase|precomposeunicode|longpaths)|filter\..*)$`)
	if err != nil && git.ExitCode(err) != 1 {
		return err
	}
	const ownConfig = "extensions.worktreeconfig\ntrue" // where what is sparse is set
	if p.mark.Files["config.worktree"] != "" {
		settings = append(settings, ownConfig)
	}
	if p.m.lfs {
		settings = append(settings, "lfs.storage\n"+filepath.Join(p.m.names.common, "lfs"))
	}
	base, _, _ := strings.Cut(p.mark.Files["config"], settingsBegin)
	var text strings.Builder
	text.WriteString(base + settingsBegin)
	for _, s := range settings {
		if strings.HasPrefix(s, "core.sparsecheckout") {
			s = ownConfig
		}
		name, value, some := strings.Cut(s, "\n")
		if strings.HasSuffix(name, "url") && (value == ".." || strings.HasPrefix(value, "../") || strings.HasPrefix(value, "./")) {
			value = filepath.Join(p.m.repo.Dir(), value) // it counts from where the repository is
		}
		text.WriteString(configLine(name, value, some))
	}
	p.mark.setFile("config", []byte(text.String()))
	for _, name := range []string{"info/exclude", "info/attributes"} {
		text, err := readIfThere(filepath.Join(p.m.names.common, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		p.mark.setFile(name, text)
	}
	return nil
}

// configLine returns a setting as files have it. One without a value is true.
func configLine(name, value string, some bool) string {
	section, key := name[:strings.IndexByte(name, '.')], name[strings.LastIndexByte(name, '.')+1:]
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	line := "[" + section
	if between := strings.TrimSuffix(strings.TrimPrefix(name, section+"."), key); between != "" {
		line += ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.TrimSuffix(between, ".")) + `"`
	}
	line += "]\n\t" + key
	if some {
		line += ` = "` + quote.Replace(value) + `"`
	}
	return line + "\n"
}
