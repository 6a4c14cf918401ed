package worktree

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// report fills in what came of the work, as the person's repository has it now.
func (p *Place) report(ctx context.Context, s *salvage, res *Result) error {
	m, w := p.m, p.mark.Work
	head, err := m.commit(ctx, w.Branch)
	if err != nil {
		return err
	}
	res.Head, res.Recovery = head, s.k.refs
	if err := m.compare(ctx, res); err != nil {
		return err
	}
	if res.Target, err = m.target(ctx); err != nil || res.Target == "" || res.Head == res.Base {
		return err
	}
	target, err := m.commit(ctx, "refs/heads/"+res.Target)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil || target == res.Base {
		return err
	}
	// Most work comes after its target.
	if after, err := m.repo.Succeeds(ctx, "merge-base", "--is-ancestor", target, head); err != nil || after {
		return err
	}
	res.Conflicts, err = forecast(ctx, m.plain(), res.Target, head)
	if err != nil && ctx.Err() == nil { // advice only: the work is kept
		m.log.WarnContext(ctx, "conflicts of the work with its target are not known", "work", w.ID, "error", err)
		res.Target, err = "", nil
	}
	return err
}

// target returns the branch that results are compared with, "" when there is none.
func (m *Manager) target(ctx context.Context) (string, error) {
	if m.o.Target != "" {
		return strings.TrimPrefix(m.o.Target, "refs/heads/"), nil
	}
	ref, err := m.repo.Run(ctx, "symbolic-ref", "--quiet", "HEAD")
	if git.ExitCode(err) == 1 {
		return "", nil
	}
	return strings.TrimPrefix(ref, "refs/heads/"), err
}

var statWords = regexp.MustCompile(`(\d+) (file|insertion|deletion)`)

// compare fills in what is between base and head.
func (m *Manager) compare(ctx context.Context, res *Result) error {
	if res.Base == res.Head {
		return nil
	}
	log, err := m.repo.Fields(ctx, "log", "-z", "--format=%H%x00%s%x00%an%x00%aI", "--max-count="+strconv.Itoa(MaxCommits), res.Base+".."+res.Head, "--")
	if err != nil {
		return err
	}
	if len(log)%4 != 0 {
		return fmt.Errorf("git log says %d fields about commits", len(log))
	}
	for i := 0; i < len(log); i += 4 {
		date, err := time.Parse(time.RFC3339, log[i+3])
		if err != nil {
			return fmt.Errorf("git log says that commit %s is of %q", log[i], log[i+3])
		}
		res.Commits = append(res.Commits, CommitInfo{ID: log[i], Subject: log[i+1], Author: log[i+2], Date: date})
	}
	if res.Total = len(res.Commits); res.Total == MaxCommits {
		count, err := m.repo.Run(ctx, "rev-list", "--count", res.Base+".."+res.Head, "--")
		if err != nil {
			return err
		}
		if res.Total, err = strconv.Atoi(count); err != nil {
			return err
		}
	}
	stat, err := m.repo.Run(ctx, "diff", "--no-ext-diff", "--no-textconv", "--shortstat", res.Base, res.Head, "--")
	if err != nil {
		return err
	}
	for _, w := range statWords.FindAllStringSubmatch(stat, -1) {
		n, err := strconv.Atoi(w[1])
		if err != nil {
			return err
		}
		*map[string]*int{"file": &res.Files, "insertion": &res.Insertions, "deletion": &res.Deletions}[w[2]] = n
	}
	return nil
}
