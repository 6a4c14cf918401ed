package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// place is where a file is looked for.
type place struct {
	fsys   fs.FS
	folder Folder
	entry  string // of the folder
	file   string // below the folder
	item   string // the name that the place gives to the item
}

// file is what was last found in a file. It is never changed once it is known
// to others.
type file[T any] struct {
	entry string
	item  string // as in place
	path  string
	info  fs.FileInfo // nil if it could not be had
	read  time.Time   // when
	sum   [sha256.Size]byte
	err   error // why it could not be used as it is
	warn  error

	good  bool // it could be used once; then the rest is what it said last
	name  string
	value T
	data  []byte // inside the program
}

// file looks at a file of which before is known, if not nil. It returns nil if
// there is none.
func (k Kind[T]) file(at place, before *file[T]) (*file[T], change) {
	now := &file[T]{entry: at.entry, item: at.item, path: filepath.Join(at.folder.Dir(), filepath.FromSlash(at.file)), read: time.Now()}
	if before != nil {
		now.good, now.name, now.value = before.good, before.name, before.value
	}
	var data []byte
	info, err := fs.Stat(at.fsys, at.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, changedIf(before != nil)
	case err == nil && before.still(info):
		return before, same
	case err == nil:
		now.info = info
		data, err = load(at.fsys, at.file, info)
	}
	if err != nil {
		if before != nil && before.err != nil && before.err.Error() == err.Error() {
			return before, same
		}
		now.err = err
		return now, changed
	}
	now.sum = sha256.Sum256(data)
	if before != nil && before.sum == now.sum {
		now.err, now.warn = before.err, before.warn
		return now, touched
	}
	in := File{Name: at.item, Data: data}
	if at.folder.FS == nil {
		in.Dir = filepath.Dir(now.path)
	} else {
		now.data = data
	}
	v, warn, err := k.Parse(in)
	if now.warn, now.err = warn, err; err != nil {
		return now, changed
	}
	now.good, now.value, now.name = true, v, k.Name(v)
	if now.name != at.item {
		now.warn = errors.Join(append(split(warn), fmt.Errorf("is known as %q, the name it gives itself, though its place says %q; make them the same", now.name, at.item))...)
	}
	return now, changed
}

// racy is for how long after a change of a file another one may leave it with
// the same time.
const racy = 2 * time.Second

// still reports whether a file must be as it was when it was read.
func (f *file[T]) still(info fs.FileInfo) bool {
	return f != nil && f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.Mode() == info.Mode() && f.info.ModTime().Equal(info.ModTime()) && f.read.Sub(info.ModTime()) > racy
}

var errSize = fmt.Errorf("is larger than %d bytes", MaxSize)

// load reads a regular file of bounded size.
func load(fsys fs.FS, name string, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is not a regular file but %s", info.Mode().Type())
	}
	if info.Size() > MaxSize {
		return nil, errSize
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1)) // it may grow meanwhile
	if err == nil && len(data) > MaxSize {
		err = errSize
	}
	return data, err
}
