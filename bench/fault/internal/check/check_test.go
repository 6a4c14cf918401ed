package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// scene is a store with a task in each state, of which nothing is wrong, and
// what was said about it.
type scene struct {
	path string
	w    *Witness
	ids  map[string]string // by state
}

func newScene(t *testing.T) *scene {
	t.Helper()
	ctx := t.Context()
	sc := &scene{path: filepath.Join(t.TempDir(), "pool.db"), ids: map[string]string{}}
	sc.w = NewWitness(sc.path)
	s, err := sqlitestore.Open(ctx, sc.path, sqlitestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i, state := range []claudepool.TaskState{
		claudepool.StateCompleted, claudepool.StateFailed, claudepool.StateCancelled, claudepool.StatePendingReview, claudepool.StateRunning, claudepool.StatePending,
	} {
		mark := fmt.Sprintf("r1.%d", i)
		id := fmt.Sprintf("task-%d", i)
		sc.ids[string(state)] = id
		task := claudepool.Task{Prompt: fmt.Sprintf("<<%s>> may:ok,api_error [[reply:%s]]", mark, Answer(mark)), IdempotencyKey: mark}
		_, _, err := s.CreateTask(ctx, claudepool.TaskRecord{ID: claudepool.TaskID(id), Task: task, Submitted: now})
		if err != nil {
			t.Fatal(err)
		}
		sc.w.Said(Line{Op: OpAccepted, ID: id, Key: mark})
		if state == claudepool.StatePending {
			continue
		}
		r, err := s.Claim(ctx, claudepool.ClaimRequest{Holder: "pool-1", Now: now, Lease: time.Minute, Budget: claudepool.BudgetTerms{Limit: 100_000, DefaultCap: 10_000}})
		if err != nil || string(r.ID) != id {
			t.Fatalf("Claim = %s, %v; want %s", r.ID, err, id)
		}
		sc.w.Asked(Prompt{Mark: mark, Text: task.Prompt, Cost: 5000})
		if state == claudepool.StateRunning {
			continue
		}
		tr := claudepool.Transition{Task: r.ID, From: claudepool.StateRunning, Fence: r.Fence, To: state, At: now, Outcome: claudepool.OutcomeOK,
			Attempt: &claudepool.Attempt{Outcome: claudepool.OutcomeOK, Cost: 5000}, Result: &claudepool.TaskResult{Output: Answer(mark)}}
		switch state {
		case claudepool.StateFailed:
			tr.Outcome, tr.Attempt.Outcome = claudepool.OutcomeAPIError, claudepool.OutcomeAPIError
			tr.Result = &claudepool.TaskResult{Failure: &claudepool.Failure{Class: claudepool.OutcomeAPIError, Message: "500"}}
		case claudepool.StateCancelled:
			tr.Outcome, tr.Attempt.Outcome = claudepool.OutcomeCancelled, claudepool.OutcomeCancelled
			sc.w.Said(Line{Op: OpCancelling, ID: id})
		}
		if r, err = s.Transition(ctx, tr); err != nil {
			t.Fatal(err)
		}
		sc.w.Said(Line{Op: OpResult, ID: id, State: string(r.State), Outcome: string(r.Outcome)})
	}
	if err := s.Charge(ctx, now, 100, "a turn that nobody asked for"); err != nil {
		t.Fatal(err)
	}
	if err := s.SendMessage(ctx, claudepool.Message{ID: "msg-1", From: "x", To: "slot-0", Content: "message 1.", Sent: now}); err != nil {
		t.Fatal(err)
	}
	sc.w.Said(Line{Op: OpSent, ID: "msg-1", Text: "message 1."})
	sc.w.Said(Line{Op: OpBudgeting, Amount: 100_000})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return sc
}

func (sc *scene) look(t *testing.T) []string {
	t.Helper()
	_, found, err := sc.w.Look(context.WithoutCancel(t.Context()), false)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// exec changes the file behind the store's back.
func (sc *scene) exec(t *testing.T, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+sc.path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(statement)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	for range 2 {
		if found := sc.look(t); len(found) > 0 {
			t.Errorf("found %q in a store that is in order", found)
		}
	}
	s, _, err := sc.w.Look(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	want := Sums{Tasks: 6, Pending: 1, Running: 1, Review: 1, Completed: 1, Failed: 1, Cancelled: 1, Orphaned: 1, Spent: 20_100, By: map[string]int{"api_error": 1}}
	if diff := cmp.Diff(want, s.Sums(sc.w)); diff != "" {
		t.Errorf("Sums differ (-want +got):\n%s", diff)
	}
	if left := s.Drained(); len(left) != 4 { // three tasks, and a claim
		t.Errorf("Drained = %q, want what is left of three tasks", left)
	}
}

// Whatever is done to the file behind the store's back must be found.
func TestTheCheckerSees(t *testing.T) {
	t.Parallel()
	const unlock = "DROP TRIGGER tasks_final; DROP TRIGGER tasks_moved; DROP TRIGGER tasks_dropped; "
	for name, tt := range map[string]struct{ does, want string }{
		"a task that is gone":                    {"DELETE FROM tasks WHERE id = 'task-5'", "P1: task task-5 was accepted and is not there"},
		"a task in no state":                     {unlock + "UPDATE tasks SET state = 'odd' WHERE id = 'task-5'", `P1: 1 tasks are in the state "odd"`},
		"a waiting task in no line":              {"UPDATE tasks SET place = NULL WHERE id = 'task-5'", "waits in line: false"},
		"a running task without a claim":         {"UPDATE tasks SET claim_fence = NULL WHERE id = 'task-4'", "P3: task task-4"},
		"a claim with an old fence":              {"UPDATE tasks SET fence = 7 WHERE id = 'task-4'", "has the fence 7"},
		"an end that is another":                 {unlock + "UPDATE tasks SET state = 'failed' WHERE id = 'task-0'", "P2: task task-0"},
		"an ended task that waits again":         {unlock + "UPDATE tasks SET state = 'pending', place = 0 WHERE id = 'task-1'", "is now pending"},
		"a result that is another":               {"UPDATE results SET result = replace(result, 'done', 'gone')", "P2: the result of task task-0"},
		"a result that is gone":                  {"DELETE FROM results", "has the result"},
		"a success that is none":                 {"UPDATE results SET result = replace(result, 'done', 'gone')", `has completed with "gone r1.0"`},
		"a failure without a reason":             {`UPDATE results SET result = replace(result, '"500"', '""')`, "has failed without a reason"},
		"a failure of another kind":              {"UPDATE tasks SET outcome = 'launch' WHERE id = 'task-1'; UPDATE results SET result = replace(result, 'api_error', 'launch')", "has failed (500)"},
		"an attempt that is not in the ledger":   {"DELETE FROM ledger WHERE task = 'task-0'", "the ledger lacks attempt 1 of task-0"},
		"an attempt that is in the ledger twice": {"INSERT INTO ledger (at, cost, attempts, task, fence) SELECT at, cost, attempts, task, fence FROM ledger WHERE task = 'task-0'", "P5: the ledger has 5000"},
		"a total that is wrong":                  {"UPDATE totals SET spent = spent - 1", "P5: totals say 20099"},
		"a cost that is wrong":                   {"UPDATE tasks SET cost = cost + 1 WHERE id = 'task-0'", "its attempts 5000"},
		"an estimate that is not marked":         {`UPDATE claims SET attempt = json_set(attempt, '$.outcome', 'lost', '$.message', 'its holder was lost') WHERE task = 1`, "is not marked as estimated"},
		"a reservation that nobody has":          {"UPDATE claims SET open = 1 WHERE task = 1", "P5: claim 1 of task task-0"},
		"a reservation that is lost":             {"UPDATE claims SET open = 0", "has a claim that holds nothing"},
		"more spent than there was":              {"UPDATE claims SET reserved = 90000 WHERE open = 1; UPDATE tasks SET claim_reserved = 90000 WHERE claim_fence IS NOT NULL", "P5: 20100 is spent and 90000 reserved of 100000"},
		"a lost attempt that cost something though nobody was asked": {
			`UPDATE claims SET open = 0, attempt = '{"outcome":"lost","message":"its holder was lost","cost_microdollars":10000,"cost_estimated":true,"cost_assumed_microdollars":10000}' WHERE task = 5`,
			"P5: attempt 1 of task task-4",
		},
		"an assumption that is more than was reserved": {
			`UPDATE claims SET attempt = json_set(attempt, '$.cost_assumed_microdollars', 5000, '$.cost_estimated', json('true')) WHERE task = 1`, "which had reserved 10000, is assumed to have cost 5000",
		},
		"a task without money that had some": {
			"UPDATE tasks SET outcome = 'budget' WHERE id = 'task-1'; UPDATE results SET result = replace(result, 'api_error', 'budget')", "has failed (500)",
		},
		"a crash too many":                 {"UPDATE tasks SET crashes = 1 WHERE id = 'task-5'", "P3: task task-5"},
		"an attempt that nothing explains": {"INSERT INTO claims SELECT task, 2, 0, 0, attempt FROM claims WHERE task = 1", "P1: task task-0"},
		"a wrong count":                    {"UPDATE counts SET tasks = 3 WHERE state = 'pending'", "counts says 3 tasks are pending"},
		"a message that is gone":           {"DELETE FROM messages", "P1: message msg-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t)
			if found := sc.look(t); len(found) > 0 {
				t.Fatalf("found %q before anything was done", found)
			}
			sc.exec(t, tt.does)
			if found := strings.Join(sc.look(t), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("found\n%s\nwant %q", found, tt.want)
			}
		})
	}
}

func TestTheWitnessRemembers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		does func(*scene)
		want string
	}{
		"a task that ran again": {func(sc *scene) { sc.w.Asked(Prompt{Mark: "r1.0", Text: "again"}) }, "had ended, and an agent was asked again"},
		"one that ran twice":    {func(sc *scene) { sc.w.Asked(Prompt{Mark: "r1.4", Text: "again"}) }, "was claimed 1 times and asked of agents 2 times"},
		"an answer that was not paid for": {
			func(sc *scene) { sc.w.Asked(Prompt{Mark: "r1.0", Cost: 1}) }, "P5: the model has answered task task-0 (r1.0, completed ok) for 5001, which was charged 5000",
		},
		"a cost that nobody has caused": {
			func(sc *scene) { sc.w.answered["r1.0"] = answers{4999, 4999} }, "is known to have cost 5000, and the model has answered for 4999",
		},
		"a prompt of nobody": {func(sc *scene) { sc.w.Asked(Prompt{Mark: "r9.9", Text: "what"}) }, "which is no task's"},
		"a key of two tasks": {func(sc *scene) { sc.w.Said(Line{Op: OpAccepted, ID: "task-1", Key: "r1.0"}) }, "idempotency key r1.0"},
		"a cancellation that was told and did not stay": {
			func(sc *scene) { sc.w.Said(Line{Op: OpCancelled, ID: "task-4", State: "cancelled"}) }, "was told to be cancelled",
		},
		"an end that was told otherwise": {
			func(sc *scene) { sc.w.Said(Line{Op: OpResult, ID: "task-0", State: "failed", Outcome: "lost"}) }, "P2: task task-0 was told to be completed ok, then failed lost",
		},
		"an error that nobody expected": {func(sc *scene) { sc.w.Said(Line{Op: OpFailed, Text: "boom"}) }, "P8: boom"},
		"a cancellation by nobody":      {func(sc *scene) { sc.w.cancelling = map[string]bool{} }, "was cancelled by nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t)
			if found := sc.look(t); len(found) > 0 {
				t.Fatalf("found %q before anything was done", found)
			}
			tt.does(sc)
			if found := strings.Join(sc.look(t), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("found\n%s\nwant %q", found, tt.want)
			}
		})
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "nothing": "", "<<r1.2>> may:ok": "r1.2", "before\n<<r1.2/b.0>> x": "r1.2/b.0", "<<r1.1>> then <<r1.2/b!>>": "r1.2/b!", "done r1.2": "",
	} {
		if got := Mark(text); got != want {
			t.Errorf("Mark(%q) = %q, want %q", text, got, want)
		}
	}
}
