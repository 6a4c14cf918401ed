package claudepool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// keyedRequests are requests in all forms that take an idempotency key. about
// tells apart two that want something else; before is a task whose session can
// be continued.
var keyedRequests = map[string]func(ctx context.Context, p *claudepool.Pool, key, about string, before claudepool.TaskID) (claudepool.TaskID, error){
	"a task": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.Submit(ctx, claudepool.Task{Prompt: about, IdempotencyKey: key})
	},
	"a task of an owner": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.Submit(ctx, claudepool.Task{Prompt: about, IdempotencyKey: key, Owner: "me"})
	},
	"a task with a cap": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.Submit(ctx, claudepool.Task{Prompt: about, IdempotencyKey: key, Overrides: claudepool.TaskOverrides{MaxCost: 9000}})
	},
	"a task for a slot that is gone": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.Submit(ctx, claudepool.Task{Prompt: about, IdempotencyKey: key, Slot: "slot-1"})
	},
	"a task that continues one that is gone": func(ctx context.Context, p *claudepool.Pool, key, about string, before claudepool.TaskID) (claudepool.TaskID, error) {
		return p.Submit(ctx, claudepool.Task{Prompt: about, IdempotencyKey: key, Session: claudepool.Session{Task: before}})
	},
	"a skill that was edited": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.SubmitSkill(ctx, "edited", map[string]string{"what": about}, claudepool.Task{IdempotencyKey: key})
	},
	"a skill that is gone": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.SubmitSkill(ctx, "removed", map[string]string{"what": about}, claudepool.Task{IdempotencyKey: key})
	},
	"a chain with a cap": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		c := claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", about), prompt("b", "b")}, MaxCost: 9000}
		return p.SubmitChain(ctx, c, claudepool.ChainOptions{IdempotencyKey: key})
	},
	"a chain with skills that were edited and are gone": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		with := map[string]string{"what": about}
		c := claudepool.Chain{Steps: []claudepool.ChainStep{
			{Name: "a", Action: claudepool.StepAction{Skill: "edited", Arguments: with}},
			{Name: "b", Action: claudepool.StepAction{Skill: "removed", Arguments: with}},
		}}
		return p.SubmitChain(ctx, c, claudepool.ChainOptions{IdempotencyKey: key})
	},
	"a fan-out of chains": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		c := claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", about)}}
		ids, err := p.FanOutChains(ctx, []claudepool.Chain{threeSteps(), c}, claudepool.ChainOptions{IdempotencyKey: key})
		if err != nil {
			return "", err
		}
		return ids[1], nil
	},
	"a workflow that was edited": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.InvokeWorkflow(ctx, "edited", map[string]string{"what": about}, claudepool.ChainOptions{IdempotencyKey: key})
	},
	"a workflow that is gone": func(ctx context.Context, p *claudepool.Pool, key, about string, _ claudepool.TaskID) (claudepool.TaskID, error) {
		return p.InvokeWorkflow(ctx, "removed", map[string]string{"what": about}, claudepool.ChainOptions{IdempotencyKey: key})
	},
}

// hides makes a store that says of one task that it is not there.
func hides(s claudepool.PoolStore, id claudepool.TaskID) claudepool.PoolStore {
	return &faultyStore{PoolStore: s, task: func(r claudepool.TaskRecord) error {
		if r.ID == id {
			return claudepool.ErrUnknownTask
		}
		return nil
	}}
}

// Who submits again after a crash gets what was accepted, whatever the pool that
// came after could still accept.
func TestP1AKeyNamesItsTaskWhateverHasChanged(t *testing.T) {
	t.Parallel()
	for name, reopen := range map[string]func(t *testing.T) func() claudepool.PoolStore{
		"memory": func(t *testing.T) func() claudepool.PoolStore {
			s := durable{stored(t)}
			return func() claudepool.PoolStore { return s }
		},
		"file": func(t *testing.T) func() claudepool.PoolStore {
			path := filepath.Join(t.TempDir(), "pool.db")
			var s *sqlitestore.Store
			t.Cleanup(func() { s.Close() })
			return func() claudepool.PoolStore {
				if s != nil {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
				var err error
				if s, err = sqlitestore.Open(context.WithoutCancel(t.Context()), path, sqlitestore.Options{Synchronous: sqlitestore.Normal}); err != nil {
					t.Fatal(err)
				}
				return s
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := reopen(t)
			project := t.TempDir()
			const skill, workflow = "---\narguments: [what]\n---\nDo {what}.", "arguments: [what]\nsteps: [{name: a, value: \"Do {what}.\"}]"
			for _, name := range []string{"edited", "removed"} {
				putSkill(t, project, name, skill)
				putWorkflow(t, project, name+".yaml", workflow)
			}
			o := claudepool.SourceOptions{Project: project, NoBuiltins: true}
			first, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
				SlotMemory: -1, Slots: 2, Store: open(), Launcher: &fakeLauncher{turn: echo}, Budget: 1_000_000,
				Skills: newSkills(t, o), Workflows: newWorkflows(t, o),
			}).Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			before := submit(t, first, claudepool.Task{Prompt: "remember 7"})
			wait(t, first, before) // and spends some of the money
			first.Pause()
			want := map[string]claudepool.TaskID{}
			for name, request := range keyedRequests {
				if want[name], err = request(t.Context(), first, name, "this", before); err != nil {
					t.Fatalf("%s, for the first time: %v", name, err)
				}
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}

			putSkill(t, project, "edited", "---\narguments: [what, how]\n---\nDo {what} otherwise.")
			putWorkflow(t, project, "edited.yaml", "arguments: [what, how]\nsteps: [{name: other, value: \"Do {what} otherwise.\"}]")
			for _, path := range []string{"skills/removed", "workflows/removed.yaml"} {
				if err := os.RemoveAll(filepath.Join(project, ".claude-pool", filepath.FromSlash(path))); err != nil {
					t.Fatal(err)
				}
			}
			second := build(t, claudepool.PoolConfig{
				Store: hides(open(), before), Launcher: &fakeLauncher{turn: echo}, Budget: 1, // less than was spent
				Skills: newSkills(t, o), Workflows: newWorkflows(t, o),
			})
			got := map[string]claudepool.TaskID{}
			for name, request := range keyedRequests {
				if got[name], err = request(t.Context(), second, name, "this", before); err != nil {
					t.Errorf("%s, again: %v", name, err)
				}
				if id, err := request(t.Context(), second, name, "that", before); !errors.Is(err, claudepool.ErrKeyReused) {
					t.Errorf("%s with the key of another = %s, %v; want ErrKeyReused", name, id, err)
				}
				if id, err := request(t.Context(), second, "new "+name, "this", before); err == nil {
					t.Errorf("%s with a new key was accepted as %s", name, id)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tasks, first and again (-want +got):\n%s", diff)
			}
		})
	}
}

func TestP1AFanOutAgainAfterTheMoneyWasSpent(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Budget: 1_000_000})
	tasks := prompts(3, "task %d")
	for i := range tasks {
		tasks[i].IdempotencyKey = tasks[i].Prompt
	}
	o := claudepool.FanOutOptions{MaxCost: 500_000}
	want, err := p.FanOut(t.Context(), tasks, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetBudget(want.Census.Cost); err != nil {
		t.Fatal(err)
	}
	got, err := p.FanOut(t.Context(), tasks, o)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("the fan-out again (-want +got):\n%s%v", diff, err)
	}
	one, err := p.Run(t.Context(), tasks[1])
	if diff := cmp.Diff(want.Results[1], one); diff != "" || err != nil {
		t.Errorf("one of the tasks again (-want +got):\n%s%v", diff, err)
	}
	_, err = p.FanOut(t.Context(), append(tasks, claudepool.Task{Prompt: "one more"}), o)
	if _, spent := errors.AsType[*claudepool.BudgetExhausted](err); !spent {
		t.Errorf("FanOut with one more = %v, want BudgetExhausted", err)
	}
	tasks[2].Prompt = "another"
	if _, err := p.FanOut(t.Context(), tasks, o); !errors.Is(err, claudepool.ErrKeyReused) {
		t.Errorf("FanOut with another prompt = %v, want ErrKeyReused", err)
	}
}

func TestANewKeyIsOneTaskHoweverManySubmitIt(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	p.Pause()
	ids := make([]claudepool.TaskID, 16)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			var err error
			if ids[i], err = p.Submit(t.Context(), claudepool.Task{Prompt: "x", IdempotencyKey: "k"}); err != nil {
				t.Errorf("Submit: %v", err)
			}
		})
	}
	all.Wait()
	var stored []claudepool.TaskID
	for r, err := range p.Tasks(t.Context(), claudepool.TaskFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, r.ID)
	}
	for i, id := range ids {
		if len(stored) != 1 || id != stored[0] {
			t.Fatalf("submission %d got %s; stored are %v, want the one task", i, id, stored)
		}
	}
}
