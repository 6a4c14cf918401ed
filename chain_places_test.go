package claudepool_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// files lists those of a branch.
func files(t *testing.T, repo, branch string) []string {
	t.Helper()
	return strings.Fields(git(t, repo, "ls-tree", "-r", "--name-only", branch))
}

// lister is an editor that answers "list ..." with the rest of the line.
func lister(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
	if list, ok := strings.CutPrefix(p.Text, "list "); ok {
		return claude.Result{Subtype: "success", Text: list}, nil
	}
	return editor(ctx, a, p, emit)
}

func TestP6AChainHasTheWorkOfAllItsSteps(t *testing.T) {
	t.Parallel()
	step := func(name, does string, needs ...string) claudepool.ChainStep {
		return claudepool.ChainStep{Name: name, Needs: needs, Action: claudepool.StepAction{Prompt: does}}
	}
	each := func(s claudepool.ChainStep, of string) claudepool.ChainStep { s.ForEach = of; return s }
	recovers := func(s claudepool.ChainStep, does string) claudepool.ChainStep {
		s.OnFailure = claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: -1}, RecoveryPrompt: does}
		return s
	}
	bad := step("b", "add b")
	bad.Overrides.AppendPrompt = "bad"
	for name, c := range map[string]struct {
		chain claudepool.Chain
		want  []string // in main after the merge, beside what was there
	}{
		"in order":    {claudepool.Chain{Steps: []claudepool.ChainStep{step("a", "add a"), step("b", "add b")}}, []string{"a", "b"}},
		"one session": {claudepool.Chain{OneSession: true, Steps: []claudepool.ChainStep{step("a", "add a"), step("b", "add b"), step("c", "add c")}}, []string{"a", "b", "c"}},
		"several ends": {claudepool.Chain{Steps: []claudepool.ChainStep{
			step("a", "add a"), step("b", "add b", "a"), step("c", "add c", "a"), step("d", "add d"),
		}}, []string{"a", "b", "c", "d"}},
		"for each": {claudepool.Chain{Steps: []claudepool.ChainStep{
			step("a", `list ["x","y"]`), each(step("b", "add {item}"), "steps.a.output"), step("c", "add c"),
		}}, []string{"c", "x", "y"}},
		"for each of nothing": {claudepool.Chain{Steps: []claudepool.ChainStep{
			step("z", "add z"), step("a", "list []"), each(step("b", "add {item}"), "steps.a.output"), step("c", "add c"),
		}}, []string{"c", "z"}},
		"ends with for each of nothing": {claudepool.Chain{Steps: []claudepool.ChainStep{
			step("z", "add z"), step("a", "list []"), each(step("b", "add {item}"), "steps.a.output"),
		}}, []string{"z"}},
		"recovery of a step that has written": {claudepool.Chain{Steps: []claudepool.ChainStep{
			step("a", "add a"), recovers(step("b", "add b\nfail"), "add c"),
		}}, []string{"a", "b", "c"}},
		"recovery of a step whose agent did not start": {claudepool.Chain{Steps: []claudepool.ChainStep{
			step("a", "add a"), recovers(bad, "add c"),
		}}, []string{"a", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			l := &fakeLauncher{turn: lister}
			var tried atomic.Bool
			l.start = func(o claude.Options) error {
				if o.AppendSystemPrompt == "bad" && !tried.Swap(true) {
					return &claude.OptionError{Field: "AppendSystemPrompt", Reason: "no"}
				}
				return nil
			}
			p := isolated(t, repo, claudepool.PoolConfig{Slots: 2, Launcher: l})
			r, err := p.ExecuteChain(t.Context(), c.chain, claudepool.ChainOptions{})
			if err != nil {
				t.Fatalf("ExecuteChain = %+v, %v", r, err)
			}
			m, err := p.MergeTask(t.Context(), r.TaskID, worktree.MergeRequest{CheckedOut: worktree.FastForward})
			if err != nil || !m.Merged {
				t.Fatalf("MergeTask = %+v, %v", m, err)
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(append(c.want, "list.txt"))), files(t, repo, "main")); diff != "" {
				t.Errorf("files of main (-want +got):\n%s", diff)
			}
		})
	}
}

func TestP6AChainGoesOnWhereItsStepsHaveWorked(t *testing.T) {
	t.Parallel()
	again := map[string]func(p *claudepool.Pool, c claudepool.Chain, id claudepool.TaskID) (claudepool.TaskID, error){
		"retry": func(p *claudepool.Pool, _ claudepool.Chain, id claudepool.TaskID) (claudepool.TaskID, error) {
			return p.Retry(t.Context(), id)
		},
		"resume": func(p *claudepool.Pool, c claudepool.Chain, id claudepool.TaskID) (claudepool.TaskID, error) {
			c.Resume = id
			return p.SubmitChain(t.Context(), c, claudepool.ChainOptions{})
		},
	}
	for name, do := range again {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			store := claudepool.NewMemoryStore()
			c := claudepool.Chain{Steps: []claudepool.ChainStep{
				{Name: "a", Action: claudepool.StepAction{Prompt: "add a"}},
				{Name: "b", Action: claudepool.StepAction{Prompt: "fail"}, OnFailure: claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: -1}}},
			}}
			p := isolated(t, repo, claudepool.PoolConfig{Store: store})
			r, err := p.ExecuteChain(t.Context(), c, claudepool.ChainOptions{})
			if _, failed := errors.AsType[*claudepool.TaskError](err); !failed {
				t.Fatal(err)
			}
			home := p.Config().Worktrees.Home
			p.Close()

			turn := func(ctx context.Context, a *fakeAgent, _ claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				return editor(ctx, a, claude.Prompt{Text: "add b"}, emit)
			}
			q := build(t, claudepool.PoolConfig{Store: store, WorkDir: repo, Launcher: &fakeLauncher{turn: turn}, Worktrees: worktree.Options{Home: home}})
			id, err := do(q, c, r.TaskID)
			if err != nil {
				t.Fatal(err)
			}
			if r, err = q.WaitChain(t.Context(), id); err != nil {
				t.Fatalf("WaitChain = %+v, %v", r, err)
			}
			last := wait(t, q, r.Steps[1].TaskID)
			if last.Work == nil {
				t.Fatalf("the step worked in %s, by itself", last.Output)
			}
			if diff := cmp.Diff([]string{"a", "b", "list.txt"}, files(t, repo, last.Work.Branch)); diff != "" {
				t.Errorf("files of the branch (-want +got):\n%s", diff)
			}
		})
	}
}
