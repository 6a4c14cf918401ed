package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// objects reads commits and trees of a repository. What it has read it keeps, as
// an object never changes; whether it is still there is asked anew with each look.
type objects struct {
	dir     string
	commits map[string]*commitObject
	trees   map[string][]treeEntry
	flat    map[string][]Entry // of the root trees
}

type commitObject struct {
	tree    string
	parents []string
}

type treeEntry struct{ mode, name, id string }

func newObjects(dir string) *objects {
	return &objects{dir: dir, commits: map[string]*commitObject{}, trees: map[string][]treeEntry{}, flat: map[string][]Entry{}}
}

// reached is what can be reached from refs.
type reached struct {
	commits map[string]bool
	entries map[Entry]bool
	blobs   map[string]bool
}

func newReached() *reached {
	return &reached{commits: map[string]bool{}, entries: map[Entry]bool{}, blobs: map[string]bool{}}
}

// reach adds what can be reached from the commits. It is an error if an object
// of that is missing.
func (o *objects) reach(ctx context.Context, tips []string, to *reached) error {
	if len(tips) == 0 {
		return nil
	}
	// Git's own idea of whether all is there, every time.
	if _, err := git(ctx, o.dir, strings.NewReader(strings.Join(tips, "\n")+"\n"), "rev-list", "--objects", "--quiet", "--stdin"); err != nil {
		return err
	}
	b := &batch{ctx: ctx, dir: o.dir}
	defer b.close()
	seen := map[string]bool{}
	for todo := tips; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[id] {
			continue
		}
		seen[id] = true
		c := o.commits[id]
		if c == nil {
			text, kind, err := b.read(id)
			if err != nil {
				return err
			}
			if kind == "tag" {
				todo = append(todo, tagged(text))
				continue
			}
			if kind != "commit" {
				continue // nobody here makes such refs
			}
			c = parseCommit(text)
			o.commits[id] = c
		}
		to.commits[id] = true
		todo = append(todo, c.parents...)
		flat, ok := o.flat[c.tree]
		if !ok {
			var err error
			if flat, err = o.flatten(b, c.tree, "", nil); err != nil {
				return err
			}
			o.flat[c.tree] = flat
		}
		for _, e := range flat {
			to.entries[e] = true
			to.blobs[e.Blob] = true
		}
	}
	return nil
}

func (o *objects) flatten(b *batch, tree, under string, list []Entry) ([]Entry, error) {
	entries, ok := o.trees[tree]
	if !ok {
		text, kind, err := b.read(tree)
		if err != nil {
			return nil, err
		}
		if kind != "tree" {
			return nil, fmt.Errorf("in %s the tree %s is a %s", o.dir, tree, kind)
		}
		entries = parseTree(text)
		o.trees[tree] = entries
	}
	for _, e := range entries {
		switch e.mode {
		case "40000":
			var err error
			if list, err = o.flatten(b, e.id, under+e.name+"/", list); err != nil {
				return nil, err
			}
		default: // among them, as 160000, commits of other repositories
			list = append(list, Entry{Path: Name(under + e.name), Mode: e.mode, Blob: e.id})
		}
	}
	return list, nil
}

func parseCommit(text []byte) *commitObject {
	c := &commitObject{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			break
		}
		if id, ok := strings.CutPrefix(line, "tree "); ok {
			c.tree = id
		} else if id, ok := strings.CutPrefix(line, "parent "); ok {
			c.parents = append(c.parents, id)
		}
	}
	return c
}

// tagged returns what a tag is of.
func tagged(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimPrefix(line, "object ")
}

func parseTree(text []byte) (list []treeEntry) {
	for len(text) > 0 {
		head, rest, ok := bytes.Cut(text, []byte{0})
		if !ok || len(rest) < 20 {
			break
		}
		mode, name, _ := strings.Cut(string(head), " ")
		list = append(list, treeEntry{mode: mode, name: name, id: hex.EncodeToString(rest[:20])})
		text = rest[20:]
	}
	return list
}

// batch is a running "git cat-file --batch", started when it is needed.
type batch struct {
	ctx context.Context
	dir string
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (b *batch) read(id string) (text []byte, kind string, err error) {
	if b.cmd == nil {
		b.cmd = exec.CommandContext(b.ctx, "git", "cat-file", "--batch")
		b.cmd.Dir = b.dir
		in, err := b.cmd.StdinPipe()
		if err != nil {
			return nil, "", err
		}
		out, err := b.cmd.StdoutPipe()
		if err != nil {
			return nil, "", err
		}
		if err := b.cmd.Start(); err != nil {
			return nil, "", err
		}
		b.in, b.out = in, bufio.NewReader(out)
	}
	if _, err := fmt.Fprintln(b.in, id); err != nil {
		return nil, "", err
	}
	head, err := b.out.ReadString('\n')
	if err != nil {
		return nil, "", err
	}
	var name string
	var size int
	if n, _ := fmt.Sscanf(head, "%s %s %d", &name, &kind, &size); n != 3 {
		return nil, "", fmt.Errorf("in %s there should be %s: git says %q", b.dir, id, strings.TrimSpace(head))
	}
	text = make([]byte, size+1)
	_, err = io.ReadFull(b.out, text)
	return text[:size], kind, err
}

func (b *batch) close() {
	if b.cmd != nil {
		b.in.Close()
		b.cmd.Wait() // all was read that was wanted
	}
}
