package proctree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Life is what can be known here of another program.
type Life int

// The values of [Life].
const (
	Unknown Life = iota // of another machine, container or user, or nothing that can be read
	Dead
	Alive
)

func (l Life) String() string { return [...]string{"unknown", "dead", "alive"}[l] }

// identity tells a program, and who runs it, from all others.
type identity struct {
	hostID
	User int `json:"user"`
}

// Identity returns what tells this program from all others, also from a later
// one with its pid, in a text that other programs can [Judge]. It fails with
// [errors.ErrUnsupported] where trees cannot be held together.
func Identity() (string, error) {
	id, err := thisProgram()
	if err != nil {
		return "", fmt.Errorf("tell this program from others: %w", err)
	}
	text, err := json.Marshal(id)
	return string(text), err
}

func thisProgram() (identity, error) {
	if !supported {
		return identity{}, errors.ErrUnsupported
	}
	host, err := thisHost(program.token)
	return identity{host, os.Geteuid()}, err
}

// readIdentity returns the program that text names, if this one can look at it
// and at its trees; local is whether its system still runs.
func readIdentity(text string) (id identity, local answer) {
	if err := json.Unmarshal([]byte(text), &id); err != nil || id.PID <= 0 || id.Token == "" || strings.ContainsAny(id.Token, `./\`) {
		return identity{}, unknown
	}
	self, err := thisProgram()
	if err != nil || id.User != self.User {
		return identity{}, unknown // another user's processes may be hidden from this one
	}
	return id, sameSystem(id.hostID, self.hostID)
}

// Judge says whether the program with that [Identity] is alive. It is dead only
// if that is certain; its trees may still be there.
func Judge(identity string) Life {
	id, local := readIdentity(identity)
	switch {
	case local == no:
		return Dead // nothing outlives a boot
	case local == unknown:
		return Unknown
	case alive(Proc{PID: id.PID, Start: id.Start}):
		return Alive
	}
	return Dead
}

// IsSelf reports whether that is the [Identity] of this program.
func IsSelf(identity string) bool {
	id, _ := readIdentity(identity)
	return id.Token == program.token
}

// EndOf ends the trees of another program of this user, which is dead or hangs,
// and returns the processes that it has ended. If leader is the pid of a tree in
// its record, only that tree is ended, else all are. A nil error says that
// nothing is left of them. The program itself, other programs with their trees,
// and processes that only have the pid of a recorded one are not touched. A ctx
// that ends means SIGKILL at once.
//
// A program that lives may start others meanwhile, and goes on when it can.
func EndOf(ctx context.Context, identity string, leader int) ([]Proc, error) {
	id, local := readIdentity(identity)
	switch {
	case local == no:
		return nil, nil
	case local == unknown:
		return nil, errors.New("end the process trees of another program: nothing is known here of its processes")
	case id.Token == program.token:
		return nil, errors.New("end the process trees of another program: it is this one")
	}
	ended, err := id.end(ctx, leader)
	if err != nil {
		err = fmt.Errorf("end the process trees of program %d: %w", id.PID, err)
	}
	return ended, err
}

func (id identity) end(ctx context.Context, leader int) ([]Proc, error) {
	b, err := id.book()
	if err != nil {
		return nil, err
	}
	for _, r := range b.Trees {
		if r.PID == leader {
			marker := id.Token + "." + r.Token
			return endTrees(ctx, []record{r}, func(m string) bool { return m == marker })
		}
	}
	return endTrees(ctx, b.Trees, b.marks)
}

// book returns what the program has written down. One without trees has no file.
func (id identity) book() (book, error) {
	none := book{Version: bookVersion, Host: id.hostID}
	dir, err := registryDir()
	if err != nil {
		return none, err
	}
	path := bookPath(dir, id.Token)
	b, err := readBook(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	if err := private(dir); err != nil {
		return none, fmt.Errorf("whoever can write to the registry chooses what is ended: %w", err)
	}
	switch {
	case b.Version != bookVersion:
		return none, fmt.Errorf("%s: it is of another release", path)
	case b.Host.PID != id.PID || b.Host.Start != id.Start:
		return none, fmt.Errorf("%s: it is of another program", path)
	}
	return b, nil
}

// marks reports whether a marker is that of one of the host's trees.
func (b book) marks(marker string) bool {
	host, _, _ := strings.Cut(marker, ".")
	return host == b.Host.Token
}
