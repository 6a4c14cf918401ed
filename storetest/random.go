package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

var modelTests = []test{
	{"random steps do what the model says", func(t *testing.T, s *store) { walk(s, rand.NewPCG(1, 1), 600) }},
	{"other random steps do so too", func(t *testing.T, s *store) { walk(s, rand.NewPCG(2, 2), 600) }},
}

// Walk does steps with a new, empty store that are chosen by a source of random
// numbers, compares what each does with a model of a store, and fails the test
// at the first difference. It is for fuzzing; [Run] does it with fixed seeds.
func Walk(t *testing.T, s claudepool.PoolStore, source rand.Source, steps int) {
	walk(newStore(t, s), source, steps)
}

// walker chooses steps.
type walker struct {
	*store
	*rand.Rand
	m    *model
	made int // ids
	now  int // seconds
}

func walk(s *store, source rand.Source, steps int) {
	w := &walker{store: s, Rand: rand.New(source), m: &model{limits: map[string]claudepool.Microdollars{}}}
	for i := range steps {
		w.now += w.IntN(3)
		w.step(fmt.Sprint("step ", i, ", "))
		if i%200 == 199 || i == steps-1 {
			w.compare(fmt.Sprint("after step ", i, ", "))
		}
	}
}

// oneOf chooses one.
func oneOf[T any](w *walker, of ...T) T { return of[w.IntN(len(of))] }

// known chooses a task, the newer ones more often. It returns an empty record
// when there is none.
func (w *walker) known() claudepool.TaskRecord {
	n := len(w.m.tasks)
	if n == 0 {
		return claudepool.TaskRecord{}
	}
	return w.m.tasks[max(w.IntN(n), w.IntN(n))].TaskRecord
}

func (w *walker) step(what string) {
	w.t.Helper()
	switch n := w.IntN(100); {
	case n < 25:
		w.stepCreate(what + "create")
	case n < 50:
		w.stepClaim(what + "claim")
	case n < 90:
		w.stepTransition(what + "transition")
	case n < 94:
		w.stepExtend(what + "extend")
	case n < 97:
		w.stepMessage(what + "message")
	default:
		w.stepMoney(what + "money")
	}
}

// same checks that store and model came to the same.
func (w *walker) same(what string, wantErr, gotErr error, want, got any) {
	w.t.Helper()
	if !errors.Is(gotErr, wantErr) {
		w.t.Fatalf("%s: error %v, want %v", what, gotErr, wantErr)
	}
	if diff := cmp.Diff(want, got, equal, anyVersion); diff != "" {
		w.t.Fatalf("%s (-model +store):\n%s", what, diff)
	}
}

func (w *walker) stepCreate(what string) {
	w.t.Helper()
	w.made++
	id := fmt.Sprintf("task-%05d", w.made+oneOf(w, 0, 0, 0, 0, -1, 3)) // sometimes one that is taken, or out of order
	if parent := w.known(); parent.ID != "" && w.IntN(5) == 0 {
		id = fmt.Sprintf("%s.step-%d", parent.ID, w.IntN(3))
	}
	r := newTask(id, func(r *claudepool.TaskRecord) {
		r.Task.Priority = oneOf(w, 0, 0, 0, 1, -1)
		r.Task.Tags = oneOf(w, nil, nil, []string{"x"}, []string{"y"}, []string{"x", "y"}, []string{"x", "x"})
		r.Task.Slot = oneOf(w, "", "", "", "slot-1")
		r.Task.Role = oneOf(w, "", "", "", "reviewer")
		r.Task.Owner = oneOf(w, "one", "two")
		r.Task.Overrides.MaxCost = oneOf[claudepool.Microdollars](w, 0, 0, cent/2, cent, 3*cent)
		r.LaunchKey = oneOf(w, "warm", "cold")
		r.Lane = oneOf(w, "", "", id, "lane-1", "lane-2")
		if w.IntN(5) == 0 {
			r.NotBefore = at(w.now + w.IntN(20))
		}
		if w.IntN(5) == 0 {
			r.Task.Allowance = &claudepool.Allowance{ID: oneOf(w, "fan-1", "fan-2"), Limit: oneOf(w, 20*cent, 30*cent)}
		}
		if w.IntN(6) == 0 {
			r.Chain = chainOf(oneOf(w, "one", "two"))
		}
		if w.IntN(8) == 0 {
			r.Task.IdempotencyKey, r.Task.Prompt = oneOf(w, "k1", "k2", "k3", "k4"), oneOf(w, "p1", "p1", "p2")
		}
	})
	want, wantCreated, wantErr := w.m.create(r)
	got, created, err := w.CreateTask(w.ctx(), r)
	w.same(what+" "+id, wantErr, err, want, got)
	if created != wantCreated {
		w.t.Fatalf("%s %s: created is %v, want %v", what, id, created, wantCreated)
	}
}

func (w *walker) stepClaim(what string) {
	w.t.Helper()
	r := request(now(w.now-oneOf(w, 0, 0, 0, 5)), func(r *claudepool.ClaimRequest) {
		r.SlotID = oneOf(w, "slot-0", "slot-1", "")
		r.Prefers = oneOf(w, "", "warm", "cold")
		r.Chains = w.IntN(5) == 0
		r.TagLimits = oneOf(w, nil, map[string]int{"x": 1}, map[string]int{"x": 2, "y": 1}, map[string]int{"y": 0})
		if w.IntN(2) == 0 {
			slot, role := oneOf(w, "", "slot-1"), oneOf(w, "", "reviewer")
			r.Accepts = func(s, r string) bool { return (s == "" || s == slot) && (r == "" || r == role) }
		}
		r.Budget = claudepool.BudgetTerms{
			Limit: oneOf(w, 0, 0, w.m.sums(time.Time{}, "").Spent+oneOf(w, 0, cent/2, 5*cent, 20*cent)),
			Since: oneOf(w, time.Time{}, time.Time{}, at(w.now/2), at(w.now-20)), DefaultCap: oneOf(w, 0, 0, 2*cent), Share: w.IntN(4),
		}
	})
	got, err := w.Claim(w.ctx(), r)
	if wrong := w.m.claim(r, got.ID, err); wrong != nil {
		w.t.Fatalf("%s: %v", what, wrong)
	}
	if err == nil {
		w.same(what+" "+string(got.ID), nil, nil, w.m.task(got.ID).TaskRecord, got)
	}
}

func (w *walker) stepTransition(what string) {
	w.t.Helper()
	r := w.known()
	if r.ID == "" {
		return
	}
	tr := transition(r, oneOf(w, claudepool.TaskStates()...), func(tr *claudepool.Transition) {
		if r.State == claudepool.StateRunning && w.IntN(3) == 0 {
			tr.To = claudepool.StatePending
		}
		if w.IntN(6) == 0 {
			tr.From = oneOf(w, claudepool.TaskStates()...)
		}
		if w.IntN(6) == 0 || r.Claim == nil && w.IntN(2) == 0 {
			tr.Fence = r.Fence + oneOf[int64](w, -2, -1, 1)
		}
		if r.Claim != nil && w.IntN(4) == 0 {
			tr.Fence = r.Claim.Fence
		}
		tr.At = at(w.now)
		tr.Outcome = oneOf(w, "", claudepool.OutcomeOK, claudepool.OutcomeAgentError)
		if w.IntN(3) > 0 {
			tr.Attempt = &claudepool.Attempt{
				Cost: claudepool.Microdollars(w.Int64N(int64(2*cent))) - 5, Estimated: w.IntN(5) == 0, SessionID: oneOf(w, "", "s1", "s2"),
				Outcome: tr.Outcome, Started: r.Started, Ended: oneOf(w, time.Time{}, at(w.now), at(w.now-w.IntN(30))),
			}
			if tr.Attempt.Estimated {
				tr.Attempt.Assumed = oneOf(w, 0, tr.Attempt.Cost, tr.Attempt.Cost+1, -1)
			}
		}
		if w.IntN(2) == 0 {
			tr.Result = &claudepool.TaskResult{Output: what}
			if w.IntN(3) == 0 {
				tr.Result.Steps = []claudepool.StepResult{{Name: "one", Cost: 7}, {Name: "two", Cost: claudepool.Microdollars(w.IntN(100))}}
			}
		}
		if w.IntN(4) == 0 {
			tr.NotBefore = at(w.now + w.IntN(20))
		}
		tr.ResumeSession = oneOf(w, "", "s1")
		tr.CountRetry, tr.CountCrash, tr.CountRejection = w.IntN(2) == 0, w.IntN(2) == 0, w.IntN(2) == 0
		tr.Feedback = oneOf(w, "", "better", "worse")
	})
	want, wantErr := w.m.transition(tr)
	got, err := w.Transition(w.ctx(), tr)
	w.same(fmt.Sprintf("%s of %s from %s to %s, fence %d, attempt %v", what, r.ID, tr.From, tr.To, tr.Fence, tr.Attempt != nil), wantErr, err, want, got)
}

func (w *walker) stepExtend(what string) {
	w.t.Helper()
	r := w.known()
	ref := claudepool.ClaimRef{Task: r.ID, Fence: r.Fence - oneOf[int64](w, 0, 0, 0, 1), SlotID: oneOf(w, "", "slot-2"), Asked: w.IntN(3) == 0}
	lease, cost := at(w.now+w.IntN(60)), claudepool.Microdollars(w.Int64N(int64(cent)))
	want := w.m.extend(ref, lease, cost)
	w.same(fmt.Sprint(what, " ", ref), want, w.Extend(w.ctx(), ref, lease, cost), nil, nil)
}

func (w *walker) stepMessage(what string) {
	w.t.Helper()
	id := func() string { return fmt.Sprintf("m%03d", w.IntN(max(1, w.made/4))) }
	to := oneOf(w, "slot-0", "slot-1", claudepool.Coordinator)
	if w.IntN(3) > 0 {
		letter := message(id(), to)
		want := w.m.send(letter)
		w.same(what+" "+letter.ID, want, w.SendMessage(w.ctx(), letter), nil, nil)
		return
	}
	ids := oneOf(w, nil, []string{}, []string{id(), id(), id()})
	want := w.m.messages(to, ids)
	w.m.take(want)
	got, err := w.TakeMessages(w.ctx(), to, ids)
	w.same(fmt.Sprint(what, " taken of ", ids), nil, err, want, got)
}

func (w *walker) stepMoney(what string) {
	w.t.Helper()
	if w.IntN(2) == 0 {
		c := modelCharge{at(w.now - w.IntN(10)), claudepool.Microdollars(w.Int64N(int64(cent / 10)))}
		w.m.charges = append(w.m.charges, c)
		w.same(what, nil, w.Charge(w.ctx(), c.at, c.cost, "why"), nil, nil)
	}
	since := at(w.IntN(w.now + 2))
	got, err := w.Ledger(w.ctx(), claudepool.LedgerQuery{Since: since})
	w.same(what+" since "+since.String(), nil, err, w.m.sums(since, ""), got)
}

// compare compares all that can be seen.
func (w *walker) compare(what string) {
	w.t.Helper()
	var want, got []claudepool.TaskRecord
	states := map[claudepool.TaskState]int{}
	for _, t := range w.m.byID() {
		want = append(want, t.TaskRecord)
		states[t.State]++
		var attempts []claudepool.Attempt
		for _, c := range t.claims {
			if c.attempt != nil {
				attempts = append(attempts, *c.attempt)
			}
		}
		w.same(what+"attempts of "+string(t.ID), nil, nil, attempts, w.attempts(t.ID))
	}
	for r, err := range w.Tasks(w.ctx(), claudepool.TaskFilter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		got = append(got, r)
	}
	w.same(what+"tasks", nil, nil, want, got)
	for _, to := range []string{"slot-0", "slot-1", claudepool.Coordinator} {
		waiting, err := w.Messages(w.ctx(), to)
		w.same(what+"messages to "+to, nil, err, w.m.messages(to, nil), waiting)
	}
	counts, err := w.Count(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, state := range claudepool.TaskStates() {
		if counts[state] != states[state] {
			w.t.Fatalf("%s%d tasks are %s, want %d", what, counts[state], state, states[state])
		}
	}
	f := claudepool.TaskFilter{States: []claudepool.TaskState{oneOf(w, claudepool.TaskStates()...)}, Tag: oneOf(w, "", "x"), Owner: oneOf(w, "", "one"), IdempotencyKey: oneOf(w, "", "", "k1"), Limit: w.IntN(20)}
	var ids []claudepool.TaskID
	for _, t := range w.m.byID() {
		if f.Match(&t.TaskRecord) && (f.Limit == 0 || len(ids) < f.Limit) {
			ids = append(ids, t.ID)
		}
	}
	w.same(fmt.Sprintf("%stasks that match %+v", what, f), nil, nil, ids, w.ids(f))
}
