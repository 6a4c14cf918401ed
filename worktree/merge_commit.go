package worktree

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// newCommit is a commit to be written, in git's own form: an author line of
// another commit is kept to the byte that way.
type newCommit struct {
	tree     string
	parents  []string
	author   string // "NAME <EMAIL> SECONDS ZONE"; empty: who commits
	encoding string // of message, empty for UTF-8
	message  string
}

// nobody is who commits where git does not know who the person is.
const nobody = "claudepool <claudepool@localhost>"

// write writes a commit. It is not signed, as that may ask for a passphrase.
func (c combiner) write(ctx context.Context, n newCommit) (string, error) {
	committer, err := c.repo.Run(ctx, "var", "GIT_COMMITTER_IDENT")
	if err != nil {
		name, email, _ := strings.Cut(strings.TrimSuffix(nobody, ">"), " <")
		committer, err = c.repo.With("GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+email).Run(ctx, "var", "GIT_COMMITTER_IDENT")
	}
	if err != nil {
		return "", err
	}
	if n.author == "" {
		n.author = committer
	}
	return c.writeAs(ctx, n, committer)
}

func (c combiner) writeAs(ctx context.Context, n newCommit, committer string) (string, error) {
	if strings.Contains(n.message, "\x00") {
		return "", fmt.Errorf("the message of a commit must not contain a zero byte")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", n.tree)
	for _, p := range n.parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n", n.author, committer)
	if n.encoding != "" {
		fmt.Fprintf(&b, "encoding %s\n", n.encoding)
	}
	fmt.Fprintf(&b, "\n%s", n.message)
	return c.repo.Input(strings.NewReader(b.String())).Run(ctx, "hash-object", "-t", "commit", "-w", "--stdin")
}

// read returns what a commit says, without its signature.
func (c combiner) read(ctx context.Context, id string) (newCommit, error) {
	raw, err := c.repo.Bytes(ctx, "cat-file", "commit", id)
	if err != nil {
		return newCommit{}, err
	}
	head, message, _ := strings.Cut(string(raw), "\n\n")
	n := newCommit{message: message}
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "tree":
			n.tree = value
		case "parent":
			n.parents = append(n.parents, value)
		case "author":
			n.author = value
		case "encoding":
			n.encoding = value
		}
	}
	return n, nil
}

// tree returns the tree of a commit.
func (c combiner) tree(ctx context.Context, commit string) (string, error) {
	return c.repo.Run(ctx, "rev-parse", "--verify", commit+"^{tree}")
}

// has reports whether a commit is among the ancestors of another, or is that.
func (c combiner) has(ctx context.Context, commit, ancestor string) (bool, error) {
	return c.repo.Succeeds(ctx, "merge-base", "--is-ancestor", ancestor, commit)
}

// mergeMessage is what a merge commit says.
func mergeMessage(req MergeRequest) string {
	if text := strings.TrimSpace(req.Message); text != "" {
		return text + "\n"
	}
	return fmt.Sprintf("Merge %s into %s\n", req.called(), req.Target)
}

// called is what a message calls the work.
func (r MergeRequest) called() string {
	if r.Commit != "" {
		return r.Branch
	}
	return "branch '" + r.Branch + "'"
}

// logUTF8 is git log of certain commits, in UTF-8 whatever their own encoding.
var logUTF8 = []string{"log", "--no-walk=unsorted", "--encoding=UTF-8", "--no-show-signature", "--no-color"}

// squashMessage is what the one commit says that stands for several.
func (c combiner) squashMessage(ctx context.Context, req MergeRequest, commits []string, author string) (string, error) {
	if text := strings.TrimSpace(req.Message); text != "" {
		return text + "\n", nil
	}
	args := append(logUTF8, "-z")
	if len(commits) == 1 {
		text, err := c.repo.Run(ctx, append(args, "--format=%B", commits[0])...)
		if text = strings.TrimSpace(strings.Trim(text, "\x00")); text != "" || err != nil {
			return text + "\n", err
		}
	}
	title := fmt.Sprintf("Merge %s as one commit\n", req.called())
	if len(commits) == 0 { // nothing but merges: git would take HEAD
		return title, nil
	}
	shown := commits[max(0, len(commits)-MaxCommits):]
	subjects, err := c.repo.Input(strings.NewReader(strings.Join(shown, "\n")+"\n")).Fields(ctx, append(args, "--format=%s", "--stdin")...)
	if err != nil {
		return "", err
	}
	others, err := c.coAuthors(ctx, commits, author)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(title + "\n")
	if n := len(commits) - len(shown); n > 0 {
		fmt.Fprintf(&b, "- %d earlier ones\n", n)
	}
	for _, subject := range subjects {
		fmt.Fprintf(&b, "- %s\n", subject)
	}
	if len(others) > 0 {
		b.WriteString("\n")
	}
	for _, who := range others {
		fmt.Fprintf(&b, "Co-authored-by: %s\n", who)
	}
	return b.String(), nil
}

// coAuthors returns who else has written commits: their authors, and those that
// they name as such.
func (c combiner) coAuthors(ctx context.Context, commits []string, author string) ([]string, error) {
	said, err := c.repo.Input(strings.NewReader(strings.Join(commits, "\n")+"\n")).Lines(ctx, append(logUTF8, "--format=%an <%ae>%n%(trailers:key=Co-authored-by,valueonly,unfold)", "--stdin")...)
	var all []string
	for _, who := range said {
		who = strings.TrimSpace(who)
		if who != "" && !strings.HasPrefix(author, who+" ") && !slices.Contains(all, who) {
			all = append(all, who)
		}
	}
	return all, err
}
