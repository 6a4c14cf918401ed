package worktree

import (
	"fmt"
	"os"
	"path/filepath"
)

// repair makes sure of where the place is, before git runs in it. Where the folder
// or its git folder has become another's, or a link to one, nothing is touched.
func (p *Place) repair() error {
	if _, err := readMark(p.gitDir, p.root); err != nil {
		return fmt.Errorf("%s is not the place any more that it was, and is left alone; move it away: %w", p.root, err)
	}
	return p.repairCommon()
}

// repairCommon has the git folder lead to no other repository than it is of.
func (p *Place) repairCommon() error {
	path := filepath.Join(p.gitDir, "commondir")
	if p.kind == Clone {
		return removeAll(path)
	}
	const up = "../..\n"
	if text, err := readIfThere(path); err != nil || string(text) == up {
		return err
	}
	return os.WriteFile(path, []byte(up), 0o666)
}
