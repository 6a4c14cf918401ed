package catalog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Write makes a file in a folder, whole or not at all. It never writes over
// what is there ([fs.ErrExist]) nor leaves the folder, whatever name says and
// wherever links lead. It returns the path of the file.
func Write(f Folder, name string, data []byte) (string, error) {
	full := filepath.Join(f.Dir(), filepath.FromSlash(name))
	wrap := func(err error) error { return fmt.Errorf("write %s: %w", full, err) }
	base, err := os.OpenRoot(f.Base)
	if err != nil {
		return "", wrap(err)
	}
	defer base.Close()
	if err := base.MkdirAll(filepath.FromSlash(f.Sub), 0o755); err != nil {
		return "", wrap(err)
	}
	root, err := base.OpenRoot(filepath.FromSlash(f.Sub))
	if err != nil {
		return "", wrap(err)
	}
	defer root.Close()
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return "", wrap(err)
		}
	}
	// A file appears under its name when it is complete: a link is made in one
	// step, and only where nothing is.
	draft := path.Join(path.Dir(name), ".draft-"+rand.Text())
	if err := create(root, draft, data); err != nil {
		return "", wrap(errors.Join(err, gone(root.Remove(draft))))
	}
	err = root.Link(draft, filepath.FromSlash(name))
	if errors.Is(err, fs.ErrExist) {
		err = fs.ErrExist // the draft is nobody's concern
	}
	if err = errors.Join(err, root.Remove(draft)); err != nil {
		return "", wrap(err)
	}
	return full, nil
}

// create writes a new file to the disk.
func create(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// gone is the error of a removal, unless there was nothing to remove.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
