package storetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// capped gives a task a cap of its own.
func capped(limit claudepool.Microdollars) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.Task.Overrides.MaxCost = limit }
}

// allowed gives a task an allowance.
func allowed(id string, limit claudepool.Microdollars) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.Task.Allowance = &claudepool.Allowance{ID: id, Limit: limit} }
}

// terms sets the budget of a claim.
func terms(b claudepool.BudgetTerms) func(*claudepool.ClaimRequest) {
	return func(r *claudepool.ClaimRequest) { r.Budget = b }
}

// wantRefused checks why a claim finds no money.
func (s *store) wantRefused(task claudepool.TaskID, want claudepool.BudgetExhausted, edit ...func(*claudepool.ClaimRequest)) {
	s.t.Helper()
	none := s.noClaim(edit...)
	if diff := cmp.Diff(&want, none.Budget); diff != "" || none.Task != task {
		s.t.Errorf("refused task %q (-want +got):\n%s", none.Task, diff)
	}
}

const cent = claudepool.MinShare

var reserveTests = []test{
	{"a claim reserves the cap, else the default cap, else a share of what is left", func(t *testing.T, s *store) {
		for i, c := range []struct {
			name      string
			cap       claudepool.Microdollars
			allowance claudepool.Microdollars
			spent     claudepool.Microdollars
			budget    claudepool.BudgetTerms
			want      claudepool.Microdollars
			refused   *claudepool.BudgetExhausted
		}{
			{name: "no cap and no limit reserve nothing"},
			{name: "shares of no limit are nothing", budget: claudepool.BudgetTerms{Share: 4}},
			{name: "a cap without a limit", cap: 70, want: 70},
			{name: "a default cap without a limit", budget: claudepool.BudgetTerms{DefaultCap: 60}, want: 60},
			{name: "the cap wins", cap: 70, budget: claudepool.BudgetTerms{DefaultCap: 60, Share: 2, Limit: 1000}, want: 70},
			{name: "the default cap wins over the share", budget: claudepool.BudgetTerms{DefaultCap: 60, Share: 2, Limit: 1000}, want: 60},
			{name: "a cap that just fits", cap: 70, spent: 30, budget: claudepool.BudgetTerms{Limit: 100}, want: 70},
			{
				name: "a cap that does not fit", cap: 71, spent: 30, budget: claudepool.BudgetTerms{Limit: 100},
				refused: &claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 30, Limit: 100, Needed: 71},
			},
			{
				name: "a default cap that does not fit", spent: 30, budget: claudepool.BudgetTerms{Limit: 100, DefaultCap: 80},
				refused: &claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 30, Limit: 100, Needed: 80},
			},
			{name: "an equal share", budget: claudepool.BudgetTerms{Limit: 100 * cent, Share: 4}, want: 25 * cent},
			{name: "an equal share of what is left", spent: 20 * cent, budget: claudepool.BudgetTerms{Limit: 100 * cent, Share: 4}, want: 20 * cent},
			{name: "a share is rounded down", budget: claudepool.BudgetTerms{Limit: 10*cent + 1, Share: 2}, want: 5 * cent},
			{name: "one share is all", budget: claudepool.BudgetTerms{Limit: 100 * cent, Share: 1}, want: 100 * cent},
			{name: "no share is one", budget: claudepool.BudgetTerms{Limit: 100 * cent}, want: 100 * cent},
			{name: "a negative share is one", budget: claudepool.BudgetTerms{Limit: 100 * cent, Share: -3}, want: 100 * cent},
			{name: "a share is at least a cent", budget: claudepool.BudgetTerms{Limit: 3 * cent, Share: 100}, want: cent},
			{name: "or what is left if that is less", spent: 2 * cent, budget: claudepool.BudgetTerms{Limit: 2*cent + 5, Share: 100}, want: 5},
			{name: "a budget below a cent", budget: claudepool.BudgetTerms{Limit: 7, Share: 2}, want: 7},
			{
				name: "nothing is left", spent: 100, budget: claudepool.BudgetTerms{Limit: 100, Share: 2},
				refused: &claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 100, Limit: 100, Needed: cent},
			},
			{
				name: "more than all was spent", cap: 1, spent: 150, budget: claudepool.BudgetTerms{Limit: 100},
				refused: &claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 150, Limit: 100, Needed: 1},
			},
			{
				name: "a negative limit pays for nothing", cap: 1, budget: claudepool.BudgetTerms{Limit: -5},
				refused: &claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Limit: -5, Needed: 1},
			},
			{name: "an allowance without a limit", allowance: 40 * cent, budget: claudepool.BudgetTerms{Share: 4}, want: 40 * cent},
			{name: "the smaller share of two budgets", allowance: 40 * cent, budget: claudepool.BudgetTerms{Limit: 20 * cent, Share: 4}, want: 5 * cent},
			{name: "a cap within both budgets", cap: 30, allowance: 30, budget: claudepool.BudgetTerms{Limit: 100}, want: 30},
			{
				name: "a cap above the allowance", cap: 31, allowance: 30, budget: claudepool.BudgetTerms{Limit: 100},
				refused: &claudepool.BudgetExhausted{Scope: "fan", Limit: 30, Needed: 31},
			},
			{
				name: "the allowance is named before the pool", cap: 200, allowance: 30, budget: claudepool.BudgetTerms{Limit: 100},
				refused: &claudepool.BudgetExhausted{Scope: "fan", Limit: 30, Needed: 200},
			},
			{
				name: "the pool is too poor for what the allowance grants", cap: 20, allowance: 30, spent: 90, budget: claudepool.BudgetTerms{Limit: 100},
				refused: &claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 90, Limit: 100, Needed: 20},
			},
		} {
			// Each case is in a window of its own: only what it has spent counts.
			c.budget.Since = at(1000 * (i + 1))
			if c.spent > 0 {
				if err := s.Charge(t.Context(), c.budget.Since, c.spent, "before"); err != nil {
					t.Fatal(err)
				}
			}
			id := claudepool.TaskID(fmt.Sprintf("task-%03d", i))
			s.create(string(id), capped(c.cap), func(r *claudepool.TaskRecord) {
				if c.allowance > 0 {
					r.Task.Allowance = &claudepool.Allowance{ID: fmt.Sprint("fan", i), Limit: c.allowance}
				}
			})
			got, err := s.Claim(t.Context(), request(terms(c.budget)))
			var none *claudepool.NotRunnable
			switch {
			case errors.As(err, &none):
				if c.refused != nil && c.refused.Scope == "fan" {
					c.refused.Scope += fmt.Sprint(i)
				}
				if diff := cmp.Diff(c.refused, none.Budget); diff != "" || none.Task != id {
					t.Errorf("%s: refused task %q (-want +got):\n%s", c.name, none.Task, diff)
				}
				s.move(s.task(id), claudepool.StateCancelled)
			case err != nil:
				t.Errorf("%s: %v", c.name, err)
			default:
				if c.refused != nil || got.Claim.Reserved != c.want {
					t.Errorf("%s: reserved %v, want %v, or refused %+v", c.name, got.Claim.Reserved, c.want, c.refused)
				}
				s.wantLedgerSince(at(1e9), claudepool.Ledger{Reserved: c.want})
				s.finish(got, 0)
			}
		}
	}},
	{"what others have reserved is not left", func(t *testing.T, s *store) {
		budget := terms(claudepool.BudgetTerms{Limit: 10 * cent, Share: 2})
		for i := range 5 {
			s.create(fmt.Sprint("a", i))
		}
		for _, want := range []claudepool.Microdollars{5 * cent, 25 * cent / 10, 125 * cent / 100, cent} {
			if got := s.claim(budget).Claim.Reserved; got != want {
				t.Errorf("reserved %v, want %v", got, want)
			}
		}
		if got := s.claim(budget).Claim.Reserved; got != cent/4 {
			t.Errorf("reserved %v, want the rest", got)
		}
		s.create("a5")
		s.wantRefused("a5", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Reserved: 10 * cent, Limit: 10 * cent, Needed: cent}, budget)
	}},
	{"a cap covers all attempts of a task", func(t *testing.T, s *store) {
		s.create("a", capped(100))
		s.move(s.claim(), claudepool.StatePending, costing(70))
		again := s.claim()
		if again.Claim.Reserved != 30 {
			t.Errorf("second claim reserved %v, want 30", again.Claim.Reserved)
		}
		s.move(again, claudepool.StatePending, costing(30))
		s.wantRefused("a", claudepool.BudgetExhausted{Scope: claudepool.ScopeTask, Spent: 100, Limit: 100, Needed: cent})
		s.move(s.task("a"), claudepool.StateFailed)

		s.create("b") // the default cap does so too
		def := terms(claudepool.BudgetTerms{DefaultCap: 50, Limit: 1e6})
		s.move(s.claim(def), claudepool.StatePending, costing(60))
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: claudepool.ScopeTask, Spent: 60, Limit: 50, Needed: cent}, def)
	}},
	{"what an attempt is only assumed to have cost counts against the budget and no cap", func(t *testing.T, s *store) {
		assumed := func(cost, assumed claudepool.Microdollars) func(*claudepool.Transition) {
			return func(tr *claudepool.Transition) {
				costing(cost)(tr)
				tr.Attempt.Estimated, tr.Attempt.Assumed = true, assumed
			}
		}
		budget := limited(1000)
		s.create("a", capped(100), allowed("x", 150))
		s.move(s.claim(budget), claudepool.StatePending, assumed(100, 100))
		s.wantLedger(claudepool.Ledger{Spent: 100, Assumed: 100, Attempts: 1})
		held := s.claim(budget)
		if held.Cost != 100 || held.Assumed != 100 || !held.Estimated || held.Claim.Reserved != 100 {
			t.Errorf("cost %v, assumed %v, estimated %v, reserved %v; want the cap to be whole", held.Cost, held.Assumed, held.Estimated, held.Claim.Reserved)
		}
		s.move(held, claudepool.StatePending, assumed(70, 200)) // no more than the cost
		s.wantLedger(claudepool.Ledger{Spent: 170, Assumed: 170, Attempts: 2})
		s.move(s.claim(budget), claudepool.StatePending, assumed(30, -1)) // no less than nothing
		if held = s.claim(budget); held.Claim.Reserved != 70 {
			t.Errorf("reserved %v, want what is left of the cap after 30", held.Claim.Reserved)
		}
		s.finish(held, 70)
		s.wantLedger(claudepool.Ledger{Spent: 270, Assumed: 170, Attempts: 4})
		s.wantLedgerSince(at(1e9), claudepool.Ledger{})
		s.wantLedgerSince(at(0), claudepool.Ledger{Spent: 270, Assumed: 170, Attempts: 4})
		got := s.attempts("a")
		if len(got) != 4 || got[0].Assumed != 100 || got[1].Assumed != 70 || got[2].Assumed != 0 || got[3].Assumed != 0 {
			t.Errorf("attempts are %+v", got)
		}

		s.create("b", capped(60), allowed("x", 150)) // of which 100 are known to be spent
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: "x", Spent: 100, Limit: 150, Needed: 60}, budget)
		s.move(s.task("b"), claudepool.StateFailed)
		s.create("c", capped(800))
		s.wantRefused("c", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 270, Assumed: 170, Limit: 1000, Needed: 800}, budget)
	}},
	{"when the best task does not fit none of lower rank is taken", func(t *testing.T, s *store) {
		budget := limited(100)
		s.create("a", capped(60))
		s.create("b", capped(60))
		s.create("c", capped(1), priority(-1))
		s.create("d", notBefore(500))
		a := s.claimIs("a", budget)
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Reserved: 60, Limit: 100, Needed: 60}, budget)
		if got := s.noClaim(budget).NextAt; !got.Equal(at(500)) {
			t.Errorf("NextAt is %v, want %v, also when money is the reason", got, at(500))
		}
		s.finish(a, 40)
		s.claimIs("b", budget)
		s.wantRefused("c", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 40, Reserved: 60, Limit: 100, Needed: 1}, budget)
		s.claimIs("c", limited(101))
	}},
	{"a task that cannot run for another reason blocks nobody by its cost", func(t *testing.T, s *store) {
		s.create("a", capped(600), notBefore(500))
		s.create("b", capped(600), pinned("slot-9", ""))
		s.create("c", capped(600), tagged("x"))
		s.create("d", capped(6))
		s.claimIs("d", limited(100), tagLimit("x", 0))
	}},
	{"a refused claim leaves everything as it was", func(t *testing.T, s *store) {
		before := s.create("a", capped(60))
		s.noClaim(limited(50))
		if diff := cmp.Diff(before, s.task("a"), equal); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		s.wantLedger(claudepool.Ledger{})
		s.claimIs("a", limited(60))
	}},
}

var moneyTests = []test{
	{"settling releases the reservation and enters the true cost, more or less", func(t *testing.T, s *store) {
		for i, cost := range []claudepool.Microdollars{0, 10, 100, 130} {
			s.create(fmt.Sprint("a", i), capped(100))
			held := s.claim()
			s.wantLedgerSince(at(1e6), claudepool.Ledger{Reserved: 100})
			if got := s.finish(held, cost); got.Cost != cost || got.Result.Cost != cost || got.Claim != nil {
				t.Errorf("cost %v, result's %v, claim %v; want %v and no claim", got.Cost, got.Result.Cost, got.Claim, cost)
			}
		}
		s.wantLedger(claudepool.Ledger{Spent: 240, Attempts: 4})
	}},
	{"a claim that is given back unused releases its reservation", func(t *testing.T, s *store) {
		s.create("a", capped(100))
		got := s.move(s.claim(), claudepool.StatePending)
		if got.Claim != nil || len(s.attempts("a")) != 0 {
			t.Errorf("claim %v, attempts %v", got.Claim, s.attempts("a"))
		}
		s.wantLedger(claudepool.Ledger{})
	}},
	{"a cancelled task keeps its reservation until its attempt is recorded", func(t *testing.T, s *store) {
		s.create("a", capped(100))
		held := s.claim()
		s.move(held, claudepool.StateCancelled)
		s.wantLedger(claudepool.Ledger{Reserved: 100})
		s.move(held, claudepool.StateCancelled, costing(20))
		s.wantLedger(claudepool.Ledger{Spent: 20, Attempts: 1})
		if got := s.task("a"); got.Cost != 20 || got.Result.Cost != 20 {
			t.Errorf("cost %v, result's %v", got.Cost, got.Result.Cost)
		}
	}},
	{"the cost of every kind of end counts", func(t *testing.T, s *store) {
		for i, to := range []claudepool.TaskState{
			claudepool.StateCompleted, claudepool.StateFailed, claudepool.StateCancelled, claudepool.StatePending, claudepool.StatePendingReview,
		} {
			s.create(fmt.Sprint("a", i), priority(-i))
			s.move(s.claim(), to, costing(1<<i))
			if to == claudepool.StatePending {
				s.move(s.task("a3"), claudepool.StateCancelled)
			}
		}
		if err := s.Charge(t.Context(), at(1), 1<<5, "a turn nobody asked for"); err != nil {
			t.Fatal(err)
		}
		s.wantLedger(claudepool.Ledger{Spent: 1<<6 - 1, Attempts: 5})
	}},
	{"a window counts what ended at its start or later", func(t *testing.T, s *store) {
		ending := func(id string, seconds int, cost claudepool.Microdollars) {
			t.Helper()
			s.create(id)
			s.move(s.claimIs(claudepool.TaskID(id)), claudepool.StateFailed, func(tr *claudepool.Transition) { tr.At = at(seconds) }, costing(cost))
		}
		ending("a", 100, 1)
		ending("b", 300, 4)
		s.wantLedgerSince(at(200), claudepool.Ledger{Spent: 4, Attempts: 1})
		ending("c", 200, 2)                                      // later than b, of an earlier time
		ending("d", 199, 8)                                      // just outside
		s.create("e")                                            // what began before it and ended in it counts
		s.move(s.claim(), claudepool.StateFailed, costing(1<<5), // Ended says when, not At
			func(tr *claudepool.Transition) { tr.At, tr.Attempt.Ended = at(100), at(250) })
		for seconds, cost := range map[int]claudepool.Microdollars{150: 1 << 6, 200: 1 << 7} {
			if err := s.Charge(t.Context(), at(seconds), cost, "charge"); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			since time.Time
			want  claudepool.Ledger
		}{
			{at(200), claudepool.Ledger{Spent: 4 + 2 + 1<<5 + 1<<7, Attempts: 3}},
			{at(200).Add(1), claudepool.Ledger{Spent: 4 + 1<<5, Attempts: 2}},
			{at(200).In(time.FixedZone("elsewhere", 3600)), claudepool.Ledger{Spent: 4 + 2 + 1<<5 + 1<<7, Attempts: 3}},
			{at(0), claudepool.Ledger{Spent: 1<<8 - 1 - 1<<4, Attempts: 5}},
			{time.Time{}, claudepool.Ledger{Spent: 1<<8 - 1 - 1<<4, Attempts: 5}},
			{at(301), claudepool.Ledger{}},
		} {
			s.wantLedgerSince(c.since, c.want)
		}
		s.create("f")
		s.wantRefused("f", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: 166, Limit: 160, Needed: cent},
			terms(claudepool.BudgetTerms{Limit: 160, Since: at(200)}))
		s.claimIs("f", terms(claudepool.BudgetTerms{Limit: 160, Since: at(201)}))
	}},
	{"sums stop at the largest amount", func(t *testing.T, s *store) {
		const most = math.MaxInt64
		s.create("a", capped(most))
		s.create("b", capped(most))
		a, b := s.claim(), s.claim()
		s.wantLedger(claudepool.Ledger{Reserved: most})
		s.finish(a, most)
		if got := s.finish(b, most); got.Cost != most {
			t.Errorf("cost %v", got.Cost)
		}
		s.wantLedger(claudepool.Ledger{Spent: most, Attempts: 2})
		s.create("c", capped(most))
		s.wantRefused("c", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Spent: most, Limit: most, Needed: most}, limited(most))
		c := s.claim()
		s.move(c, claudepool.StatePending, costing(most-1))
		s.claim()
		s.wantLedger(claudepool.Ledger{Spent: most, Reserved: 1, Attempts: 3})
	}},
	{"no cost is negative", func(t *testing.T, s *store) {
		if err := s.Charge(t.Context(), at(1), -5, "refund"); err != nil {
			t.Fatal(err)
		}
		s.create("a")
		held := s.claim()
		if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: held.Fence}, at(50), -5); err != nil {
			t.Fatal(err)
		}
		if got := s.task("a").Claim.LastCost; got != 0 {
			t.Errorf("last cost is %v", got)
		}
		s.finish(held, -5)
		s.wantLedger(claudepool.Ledger{Attempts: 1})
	}},
	{"over all who claim at once spent and reserved stay within the limit", func(t *testing.T, s *store) {
		const tasks, holders, limit = 300, 8, 40 * cent
		for i := range tasks {
			s.create(fmt.Sprintf("task-%03d", i), func(r *claudepool.TaskRecord) {
				switch i % 3 {
				case 0:
					r.Task.Overrides.MaxCost = claudepool.Microdollars(i%7+1) * cent / 2
				case 1:
					r.Task.Allowance = &claudepool.Allowance{ID: fmt.Sprint(i % 4), Limit: 15 * cent}
				}
			})
		}
		var mu sync.Mutex // guards what follows
		spent, attempts := map[string]claudepool.Microdollars{}, 0
		var wg sync.WaitGroup
		for h := range holders {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(7, uint64(h)))
				for range tasks {
					held, err := s.Claim(t.Context(), request(terms(claudepool.BudgetTerms{Limit: limit, Share: holders})))
					var none *claudepool.NotRunnable
					if errors.As(err, &none) && none.Budget != nil { // out of the way: the next may fit
						cancelled := claudepool.Transition{Task: none.Task, From: claudepool.StatePending, To: claudepool.StateCancelled, At: at(20)}
						if _, err := s.Transition(t.Context(), cancelled); err != nil && !errors.Is(err, claudepool.ErrConflict) {
							t.Errorf("cancel %s: %v", none.Task, err)
						}
						continue
					}
					if errors.As(err, &none) {
						return
					}
					if err != nil {
						t.Errorf("Claim: %v", err)
						return
					}
					sums, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
					if err != nil || sums.Spent+sums.Reserved > limit {
						t.Errorf("with %s claimed, %v is spent and %v reserved of %v; error %v", held.ID, sums.Spent, sums.Reserved, limit, err)
					}
					cost := claudepool.Microdollars(r.Int64N(int64(held.Claim.Reserved) + 1))
					to := claudepool.TaskStates()[3+r.IntN(3)]
					if r.IntN(4) == 0 { // somebody else cancels first
						if _, err := s.Transition(t.Context(), transition(held, claudepool.StateCancelled)); err != nil {
							t.Errorf("cancel %s: %v", held.ID, err)
						}
						to = claudepool.StateCancelled
					}
					if _, err := s.Transition(t.Context(), transition(held, to, costing(cost))); err != nil {
						t.Errorf("settle %s: %v", held.ID, err)
					}
					mu.Lock()
					attempts++
					spent[""] += cost
					if a := held.Task.Allowance; a != nil {
						spent[a.ID] += cost
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		s.wantLedger(claudepool.Ledger{Spent: spent[""], Attempts: attempts})
		var records claudepool.Microdollars
		for r, err := range s.Tasks(t.Context(), claudepool.TaskFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			records += r.Cost
		}
		if records != spent[""] {
			t.Errorf("tasks have cost %v, and %v was settled", records, spent[""])
		}
		for id := range 4 {
			if got := spent[fmt.Sprint(id)]; got > 15*cent {
				t.Errorf("allowance %d of %v has paid %v", id, 15*cent, got)
			}
		}
	}},
}

var allowanceTests = []test{
	{"tasks with the same allowance share it", func(t *testing.T, s *store) {
		for _, id := range []string{"a", "b", "c"} {
			s.create(id, allowed("fan", 100), capped(50))
		}
		a, b := s.claim(), s.claim()
		s.wantRefused("c", claudepool.BudgetExhausted{Scope: "fan", Reserved: 100, Limit: 100, Needed: 50})
		s.finish(a, 20)
		s.wantRefused("c", claudepool.BudgetExhausted{Scope: "fan", Spent: 20, Reserved: 50, Limit: 100, Needed: 50})
		s.finish(b, 30)
		s.claimIs("c")
	}},
	{"it is shared among no more claims than tasks of it wait", func(t *testing.T, s *store) {
		for _, id := range []string{"a", "b", "c"} {
			s.create(id, allowed("fan", 60*cent))
		}
		s.create("d") // has another budget
		for i, want := range []claudepool.Microdollars{20 * cent, 20 * cent, 20 * cent} {
			got := s.claim(terms(claudepool.BudgetTerms{Share: 8}))
			if got.Claim.Reserved != want {
				t.Errorf("claim %d reserved %v, want %v", i, got.Claim.Reserved, want)
			}
		}
		s.create("e", allowed("other", 60*cent))
		s.create("f", allowed("other", 60*cent))
		s.claimIs("d")
		first := s.claim(terms(claudepool.BudgetTerms{Share: 8}))
		if first.Claim.Reserved != 30*cent {
			t.Errorf("reserved %v of two that wait, want half", first.Claim.Reserved)
		}
		s.finish(first, 10*cent)
		if last := s.claim(terms(claudepool.BudgetTerms{Share: 8})); last.Claim.Reserved != 50*cent {
			t.Errorf("reserved %v, want all that is left for the last one", last.Claim.Reserved)
		}
	}},
	{"others neither use it nor are bound by it", func(t *testing.T, s *store) {
		s.create("a", capped(1000))
		s.create("b", allowed("one", 10), capped(10))
		s.create("c", allowed("two", 10), capped(10))
		s.finish(s.claimIs("a"), 1000)
		s.finish(s.claimIs("b"), 10)
		s.claimIs("c")
	}},
	{"a task that waits for it holds up that allowance only", func(t *testing.T, s *store) {
		s.create("a", allowed("fan", 100), capped(60))
		s.create("b", allowed("fan", 100), capped(60))
		s.create("c", allowed("fan", 100), capped(10))
		s.create("d", capped(10))
		s.create("e", allowed("other", 100), capped(10))
		a := s.claimIs("a")
		s.claimIs("d")
		s.claimIs("e")
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: "fan", Reserved: 60, Limit: 100, Needed: 60})
		s.finish(a, 20)
		s.claimIs("b")
		s.claimIs("c")
	}},
	{"of different limits the smallest counts for all", func(t *testing.T, s *store) {
		s.create("a", allowed("fan", 100), capped(60))
		s.create("b", allowed("fan", 50), capped(1))
		s.create("c", allowed("fan", 200), capped(1))
		s.wantRefused("a", claudepool.BudgetExhausted{Scope: "fan", Limit: 50, Needed: 60})
		s.move(s.task("a"), claudepool.StateFailed)
		s.finish(s.claimIs("b"), 50)
		s.wantRefused("c", claudepool.BudgetExhausted{Scope: "fan", Spent: 50, Limit: 50, Needed: 1})
	}},
	{"it has no window, and late costs count", func(t *testing.T, s *store) {
		s.create("a", allowed("fan", 100), capped(50))
		held := s.claim()
		s.move(held, claudepool.StateCancelled)
		s.create("b", allowed("fan", 100), capped(60))
		later := terms(claudepool.BudgetTerms{Limit: 1000, Since: at(5000)})
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: "fan", Reserved: 50, Limit: 100, Needed: 60}, later)
		s.move(held, claudepool.StateCancelled, costing(50))
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: "fan", Spent: 50, Limit: 100, Needed: 60}, later)
		s.wantLedgerSince(at(5000), claudepool.Ledger{})
	}},
	{"an allowance of nothing pays for nothing", func(t *testing.T, s *store) {
		s.create("a", allowed("fan", 0))
		s.wantRefused("a", claudepool.BudgetExhausted{Scope: "fan", Needed: cent})
	}},
}
