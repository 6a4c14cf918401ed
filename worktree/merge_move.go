package worktree

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// moveTime bounds the move of a target, which is not to be ended half-way. It is
// long for checkouts whose files go through filters.
const moveTime = 10 * time.Minute

// move moves the target from one commit to another, if it is still there, and
// returns the checkout that has gone with it. What cannot move is as it was.
func (c combiner) move(ctx context.Context, room *mergeRoom, ref, before, after string, req MergeRequest) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
	defer cancel()
	place, err := c.destination(ctx, ref, before, after, req)
	if err != nil {
		return "", c.orMoved(ctx, ref, before, err)
	}
	reason := "merge " + req.Branch
	if place == "" {
		if _, err := c.repo.Run(ctx, "update-ref", "-m", reason, ref, after, before); err != nil {
			return "", c.orMoved(ctx, ref, before, err)
		}
		c.lookAgain(ctx, ref)
		return "", nil
	}
	p, err := c.checkoutAt(ctx, place)
	if err != nil {
		return "", err
	}
	return p.dir, c.orMoved(ctx, ref, before, p.move(ctx, room, unfinishedMove{ref, before, after, p.dir, reason}))
}

// lookAgain tells of a checkout that has a target that was in none when it moved:
// nothing keeps people from switching to it in that moment.
func (c combiner) lookAgain(ctx context.Context, ref string) {
	all, err := c.holders(ctx, ref)
	if err != nil {
		c.log.WarnContext(ctx, "cannot see whether a branch that has moved was checked out meanwhile", "branch", ref, "error", err)
	}
	for _, h := range all {
		c.log.WarnContext(ctx, "a branch that has moved was checked out meanwhile: if git status shows changes there that nobody made, they are what it has moved by", "branch", ref, "path", h.path)
	}
}

// orMoved tells errMovedOn from other errors, by what is so: the words of git for
// it have changed.
func (c combiner) orMoved(ctx context.Context, ref, before string, err error) error {
	if err == nil {
		return nil
	}
	now, lookErr := c.commit(ctx, ref)
	if lookErr != nil {
		return errors.Join(err, lookErr)
	}
	if now != before {
		return errMovedOn
	}
	return err
}

// move moves the branch together with the checkout that has it. Between the two
// nobody can commit there or switch it to another branch, as git has both locked.
func (p checkedOut) move(ctx context.Context, room *mergeRoom, u unfinishedMove) (err error) {
	change, err := p.lock(ctx, u)
	if err != nil {
		return err
	}
	defer change.abort()
	if err := writeJSON(room.moveFile(), u); err != nil {
		return err
	}
	defer func() {
		if !errors.Is(err, errHalfMoved) {
			os.Remove(room.moveFile()) // if it stays, the next one sees that it is done
		}
	}()
	if err := p.forward(ctx, u.Before, u.After); err != nil {
		return err
	}
	if err := change.commit(); err != nil {
		return p.takeBack(ctx, u, err)
	}
	return nil
}

// lock locks the branch and the HEAD of the checkout that has it.
func (p checkedOut) lock(ctx context.Context, u unfinishedMove) (*refChange, error) {
	change, err := beginRefChange(ctx, p.repo, u)
	if err != nil {
		return nil, err
	}
	// It may have been switched before it was locked.
	now, err := p.repo.Run(ctx, "symbolic-ref", "--quiet", "HEAD")
	if err == nil && now != u.Ref {
		err = errors.New("its HEAD is " + now)
	}
	if err != nil {
		change.abort()
		return nil, fmt.Errorf("the checkout in %s has been switched meanwhile: merge again: %w", p.dir, err)
	}
	return change, nil
}

// takeBack has the files go back as they came when the branch could not follow:
// those with local changes were not touched. git may have failed after it has moved
// the branch, and if another has, the files are as that one knows them.
func (p checkedOut) takeBack(ctx context.Context, u unfinishedMove, failure error) error {
	now, err := p.repo.Run(ctx, "rev-parse", "--verify", u.Ref)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", failure, halfMoved(p.dir, err))
	case now == u.After:
		return nil
	case now == u.Before:
		if err := p.forward(ctx, u.After, u.Before); err != nil {
			return fmt.Errorf("%w: %w", failure, halfMoved(p.dir, err))
		}
	}
	return failure
}

// refLock is the version of git that can hold a ref while something else is done.
// It could earlier, but kept its answers to itself.
var refLock = git.Version{Major: 2, Minor: 34}

// refChange is the change of a ref that is prepared, and then made or not. With
// older versions it is made without preparation: what happens meanwhile is seen
// only then.
type refChange struct {
	late   func() error // makes it, for older versions
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errs   bytes.Buffer
	closed bool
}

// beginRefChange locks a ref that is what it is thought to be, together with the
// HEAD of the checkout that has it.
func beginRefChange(ctx context.Context, r git.Repo, u unfinishedMove) (*refChange, error) {
	if r.Git().Version.Less(refLock) {
		return &refChange{late: func() error {
			_, err := r.Run(ctx, "update-ref", "-m", u.Reason, u.Ref, u.After, u.Before)
			return err
		}}, nil
	}
	c := &refChange{cmd: r.Command(ctx, "update-ref", "-m", u.Reason, "--stdin")}
	c.cmd.Stderr = &c.errs
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	err = c.say("start\n", "start: ok")
	if err == nil {
		err = c.say(fmt.Sprintf("update %s %s %s\nprepare\n", u.Ref, u.After, u.Before), "prepare: ok")
	}
	if err != nil {
		c.abort()
		return nil, err
	}
	return c, nil
}

// say tells git something and waits for its answer.
func (c *refChange) say(words, answer string) error {
	if _, err := io.WriteString(c.in, words); err != nil {
		return c.failed(err)
	}
	line, err := c.out.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != answer {
		err = fmt.Errorf("it says %q", line)
	}
	if err != nil {
		return c.failed(err)
	}
	return nil
}

// failed ends the command and says why it has failed.
func (c *refChange) failed(err error) error {
	c.abort()
	if said := strings.TrimSpace(c.errs.String()); said != "" {
		err = errors.New(said)
	}
	return fmt.Errorf("move the branch: git update-ref: %w", err)
}

// commit makes the change.
func (c *refChange) commit() error {
	if c.late != nil {
		return c.late()
	}
	return c.say("commit\n", "commit: ok")
}

// abort ends the command. What was prepared and not made is given up.
func (c *refChange) abort() {
	if c.cmd == nil || c.closed {
		return
	}
	c.closed = true
	c.in.Close()
	c.cmd.Wait() // its answers have said how it went
}
