package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
)

// MaxSize bounds a file.
const MaxSize = 1 << 20

// Folder is a source of files: of a directory, or of a file system inside the
// program.
type Folder struct {
	Source string
	// Base is a directory, and Sub the folder below it. No link leads out of
	// Base. The folder need not exist.
	Base, Sub string
	// FS holds the files if they are inside the program, below Sub.
	FS fs.FS
}

// Dir returns the folder's directory; for files inside the program it is a
// name for people.
func (f Folder) Dir() string { return filepath.Join(f.Base, filepath.FromSlash(f.Sub)) }

// Kind is how items are kept in files.
type Kind[T any] struct {
	// File returns the file of an entry of a folder, and the name that it gives
	// to its item, or ok false for an entry that is none.
	File func(e fs.DirEntry) (file, name string, ok bool)
	// Parse reads an item. Its error may be several, joined, and so may be the
	// warnings; lines are in [frontmatter.Error].
	Parse func(f File) (v T, warnings, err error)
	// Name returns the name of an item.
	Name func(v T) string
}

// File is what an item is read from.
type File struct {
	Name string // what the file's place calls the item
	Dir  string // the directory that holds the file; empty inside the program
	Data []byte
}

// open returns the folder as a file system that no link leads out of.
func (f Folder) open() (fs.FS, func(), error) {
	if f.FS != nil {
		sub, err := fs.Sub(f.FS, f.Sub)
		return sub, func() {}, err
	}
	base, err := os.OpenRoot(f.Base)
	if err != nil {
		return nil, nil, err
	}
	defer base.Close()
	root, err := base.OpenRoot(filepath.FromSlash(f.Sub))
	if err != nil {
		return nil, nil, err
	}
	return root.FS(), func() { root.Close() }, nil
}
