package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/claudepool/claudepool"
)

// model is a store that is slow and obviously right: it keeps what happened and
// works everything out anew each time. It says which task a claim must give,
// but for the leave to prefer another one, of which it is told.
type model struct {
	tasks   []*modelTask
	charges []modelCharge
	limits  map[string]claudepool.Microdollars // smallest, by allowance
	letters []claudepool.Message
}

type modelTask struct {
	claudepool.TaskRecord
	claims []modelClaim
	passed int
}

type modelClaim struct {
	fence    int64
	reserved claudepool.Microdollars
	released bool
	attempt  *claudepool.Attempt
}

type modelCharge struct {
	at   time.Time
	cost claudepool.Microdollars
}

func (m *model) task(id claudepool.TaskID) *modelTask {
	for _, t := range m.tasks {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// byID returns all tasks, the newest first.
func (m *model) byID() []*modelTask {
	return slices.SortedFunc(slices.Values(m.tasks), func(a, b *modelTask) int { return cmp.Compare(b.ID, a.ID) })
}

func (m *model) create(r claudepool.TaskRecord) (stored claudepool.TaskRecord, created bool, err error) {
	for _, t := range m.tasks {
		if k := r.Task.IdempotencyKey; k != "" && k == t.Task.IdempotencyKey && r.Task.Owner == t.Task.Owner {
			if !r.SameRequest(&t.TaskRecord) {
				return claudepool.TaskRecord{}, false, claudepool.ErrKeyReused
			}
			return t.TaskRecord, false, nil
		}
	}
	if m.task(r.ID) != nil {
		return claudepool.TaskRecord{}, false, claudepool.ErrDuplicate
	}
	r.State = claudepool.StatePending
	if a := r.Task.Allowance; a != nil {
		if limit, ok := m.limits[a.ID]; !ok || a.Limit < limit {
			m.limits[a.ID] = a.Limit
		}
	}
	m.tasks = append(m.tasks, &modelTask{TaskRecord: r})
	return r, true, nil
}

// open reports whether the task has a claim whose holder may be at work.
func (t *modelTask) open() bool { return t.Claim != nil }

// runnable returns the tasks that a claim could take at that time, money aside,
// the best first.
func (m *model) runnable(r claudepool.ClaimRequest, now time.Time) []*modelTask {
	tags, lanes := map[string]int{}, map[string]bool{}
	for _, t := range m.tasks {
		if t.open() {
			lanes[t.Lane] = lanes[t.Lane] || t.Lane != ""
		}
		if t.open() && t.Chain == nil {
			for _, tag := range slices.Compact(slices.Sorted(slices.Values(t.Task.Tags))) {
				tags[tag]++
			}
		}
	}
	var out []*modelTask
	for _, t := range m.tasks {
		ok := t.State == claudepool.StatePending && !t.NotBefore.After(now) && !lanes[t.Lane] && r.Chains == (t.Chain != nil)
		if t.Chain == nil && (t.Task.Slot != "" || t.Task.Role != "") {
			ok = ok && r.Accepts != nil && r.Accepts(t.Task.Slot, t.Task.Role)
		}
		for _, tag := range t.Task.Tags {
			if limit, limited := r.TagLimits[tag]; t.Chain == nil && limited && tags[tag] >= limit {
				ok = false
			}
		}
		if ok {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *modelTask) int {
		return cmp.Or(cmp.Compare(b.Task.Priority, a.Task.Priority), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// sums adds up what was spent since a time and what is reserved: of all, or of
// one allowance when it is named, which what is only assumed does not count for.
func (m *model) sums(since time.Time, allowance string) claudepool.Ledger {
	var l claudepool.Ledger
	enter := func(at time.Time, cost, assumed claudepool.Microdollars) bool {
		if !since.IsZero() && at.Before(since) {
			return false
		}
		if allowance != "" {
			cost, assumed = cost-assumed, 0
		}
		l.Assumed += assumed
		if l.Spent > math.MaxInt64-cost {
			l.Spent = math.MaxInt64
		} else {
			l.Spent += cost
		}
		return true
	}
	for _, t := range m.tasks {
		if a := t.Task.Allowance; allowance != "" && (a == nil || a.ID != allowance) {
			continue
		}
		for _, c := range t.claims {
			if !c.released {
				l.Reserved += c.reserved
			}
			if c.attempt != nil && enter(c.attempt.Ended, c.attempt.Cost, c.attempt.Assumed) {
				l.Attempts++
			}
		}
	}
	if allowance == "" {
		for _, c := range m.charges {
			enter(c.at, c.cost, 0)
		}
	}
	return l
}

// money returns what a claim of t reserves, or why it cannot.
func (m *model) money(t *modelTask, b claudepool.BudgetTerms) (claudepool.Microdollars, *claudepool.BudgetExhausted) {
	if t.Chain != nil {
		return 0, nil
	}
	type budget struct {
		claudepool.BudgetExhausted
		left, share claudepool.Microdollars
	}
	var budgets []budget
	enter := func(scope string, limit claudepool.Microdollars, l claudepool.Ledger, share int) {
		left := max(0, limit-l.Spent-l.Reserved) // the model is not asked for sums that overflow
		budgets = append(budgets, budget{claudepool.BudgetExhausted{Scope: scope, Limit: limit, Spent: l.Spent, Assumed: l.Assumed, Reserved: l.Reserved}, left, claudepool.Microdollars(max(1, share))})
	}
	if a := t.Task.Allowance; a != nil {
		waiting := 0
		for _, o := range m.tasks {
			if o.State == claudepool.StatePending && o.Task.Allowance != nil && o.Task.Allowance.ID == a.ID {
				waiting++
			}
		}
		enter(a.ID, m.limits[a.ID], m.sums(time.Time{}, a.ID), min(b.Share, waiting))
	}
	if b.Limit != 0 {
		enter(claudepool.ScopePool, b.Limit, m.sums(b.Since, ""), b.Share)
	}
	var need claudepool.Microdollars
	seen := t.Cost - t.Assumed
	switch limit := cmp.Or(t.Task.Overrides.MaxCost, b.DefaultCap); {
	case limit > 0 && seen >= limit:
		return 0, &claudepool.BudgetExhausted{Scope: claudepool.ScopeTask, Spent: seen, Limit: limit, Needed: cent}
	case limit > 0:
		need = limit - seen
	case len(budgets) == 0:
		return 0, nil
	default:
		need = math.MaxInt64
		for _, f := range budgets {
			if f.left == 0 {
				f.Needed = cent
				return 0, &f.BudgetExhausted
			}
			need = min(need, min(max(f.left/f.share, cent), f.left))
		}
	}
	for _, f := range budgets {
		if need > f.left {
			f.Needed = need
			return 0, &f.BudgetExhausted
		}
	}
	return need, nil
}

// affordable returns the first of the runnable tasks that does not merely wait
// for what others of its allowance have reserved, and what its claim reserves or
// why it cannot. It takes the allowances that wait out of the tasks; nil means
// that none is left.
func (m *model) affordable(runnable *[]*modelTask, b claudepool.BudgetTerms) (*modelTask, claudepool.Microdollars, *claudepool.BudgetExhausted) {
	for len(*runnable) > 0 {
		t := (*runnable)[0]
		reserved, refused := m.money(t, b)
		a := t.Task.Allowance
		if refused == nil || a == nil || refused.Scope != a.ID || refused.Reserved == 0 {
			return t, reserved, refused
		}
		*runnable = slices.DeleteFunc(slices.Clone(*runnable), func(o *modelTask) bool {
			return o.Task.Allowance != nil && o.Task.Allowance.ID == a.ID
		})
	}
	return nil, 0, nil
}

// claim does what the store did with the request: it gave the task, or failed.
// It returns what is wrong with that.
func (m *model) claim(r claudepool.ClaimRequest, given claudepool.TaskID, failed error) error {
	runnable := m.runnable(r, r.Now)
	var none *claudepool.NotRunnable
	if failed != nil && !errors.As(failed, &none) {
		return failed
	}
	if none != nil {
		var latest time.Time
		for _, t := range m.runnable(r, time.Unix(1<<40, 0)) { // whenever it may be
			if len(runnable) > 0 && t == runnable[0] {
				break
			}
			if latest.IsZero() || t.NotBefore.Before(latest) {
				latest = t.NotBefore
			}
		}
		switch next := none.NextAt; {
		case next.IsZero() && latest.IsZero():
		case next.IsZero(), !next.After(r.Now), !latest.IsZero() && next.After(latest):
			return fmt.Errorf("NextAt is %v at %v, want at most %v", next, r.Now, latest)
		}
	}
	if len(runnable) == 0 {
		if none == nil || none.Budget != nil || none.Task != "" {
			return fmt.Errorf("claim gave %q, %+v, want nothing to be runnable", given, none)
		}
		return nil
	}
	first := runnable[0]
	best, reserved, refused := m.affordable(&runnable, r.Budget)
	if best == nil {
		best = first
		_, refused = m.money(best, r.Budget)
	}
	if refused != nil {
		if none == nil || none.Budget == nil || *none.Budget != *refused || none.Task != best.ID {
			return fmt.Errorf("claim gave %q, %+v, want %s to be refused: %+v", given, none, best.ID, refused)
		}
		return nil
	}
	if none != nil {
		return fmt.Errorf("claim gave nothing (%+v), want %s", none, best.ID)
	}
	t := best
	if given != best.ID {
		i := slices.IndexFunc(runnable, func(t *modelTask) bool { return t.ID == given })
		if i < 0 {
			return fmt.Errorf("claim gave %s, which is not runnable; want %s", given, best.ID)
		}
		t = runnable[i]
		if r.Chains || r.Prefers == "" || t.LaunchKey != r.Prefers || t.Task.Priority != best.Task.Priority {
			return fmt.Errorf("claim gave %s without leave, want %s", given, best.ID)
		}
		for _, p := range runnable[:i] {
			if p.passed++; p.passed > claudepool.MaxPassed {
				return fmt.Errorf("claim gave %s and passed over %s for the %dth time", given, p.ID, p.passed)
			}
		}
		if reserved, refused = m.money(t, r.Budget); refused != nil {
			return fmt.Errorf("claim gave %s, for which there is no money: %w", given, refused)
		}
	}
	t.State, t.Fence, t.Attempts = claudepool.StateRunning, t.Fence+1, t.Attempts+1
	t.Started, t.Ended, t.SlotID = r.Now, time.Time{}, r.SlotID
	if t.First.IsZero() {
		t.First = r.Now
	}
	t.Claim = &claudepool.TaskClaim{Holder: r.Holder, SlotID: r.SlotID, Fence: t.Fence, Lease: r.Now.Add(r.Lease), Reserved: reserved}
	t.claims = append(t.claims, modelClaim{fence: t.Fence, reserved: reserved})
	return nil
}

func (m *model) extend(ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	t := m.task(ref.Task)
	switch {
	case t == nil:
		return claudepool.ErrUnknownTask
	case t.State != claudepool.StateRunning || t.Fence != ref.Fence:
		return claudepool.ErrFenced
	}
	c := *t.Claim
	c.Lease, c.LastCost, c.Asked = lease, max(0, cost), c.Asked || ref.Asked
	if ref.SlotID != "" {
		c.SlotID, t.SlotID = ref.SlotID, ref.SlotID
	}
	if ref.SessionID != "" {
		c.SessionID = ref.SessionID
	}
	t.Claim = &c
	return nil
}

func (m *model) transition(tr claudepool.Transition) (claudepool.TaskRecord, error) {
	t := m.task(tr.Task)
	if t == nil {
		return claudepool.TaskRecord{}, claudepool.ErrUnknownTask
	}
	i := slices.IndexFunc(t.claims, func(c modelClaim) bool { return c.fence == tr.Fence })
	if tr.Attempt != nil && i < 0 {
		return t.TaskRecord, claudepool.ErrFenced
	}
	moves, err := wantTransition(t.State, tr, t.Fence)
	current := moves && t.State == claudepool.StateRunning && tr.Fence == t.Fence
	settled := tr.Attempt != nil && t.claims[i].attempt == nil
	if settled {
		a := *tr.Attempt
		a.TaskID, a.Fence, a.Late, a.Cost = tr.Task, tr.Fence, !current, max(0, a.Cost)
		a.Assumed = min(max(0, a.Assumed), a.Cost)
		if a.Ended.IsZero() {
			a.Ended = tr.At
		}
		t.claims[i].attempt, t.claims[i].released = &a, true
		t.Cost += a.Cost
		t.Assumed += a.Assumed
		t.Estimated = t.Estimated || a.Estimated
		if i == len(t.claims)-1 && a.SessionID != "" {
			t.SessionID = a.SessionID
		}
	}
	if current && tr.To != claudepool.StateCancelled {
		t.claims[i].released = true
	}
	if moves {
		t.apply(tr)
	}
	if n := len(t.claims); t.Claim != nil && t.State != claudepool.StateRunning && t.claims[n-1].released {
		t.Claim = nil
	}
	if t.Result != nil {
		res := *t.Result
		if settled && !moves && i == len(t.claims)-1 && res.Work == nil {
			res.Work = tr.Attempt.Work
		}
		res.TaskID, res.State, res.Outcome, res.Success = t.ID, t.State, t.Outcome, t.Outcome == claudepool.OutcomeOK
		res.Cost, res.Estimated, res.Attempts = t.Cost, t.Estimated, t.Attempts
		for _, step := range res.Steps {
			res.Cost += step.Cost // the model is not asked for sums that overflow
		}
		t.Result = &res
	}
	return t.TaskRecord, err
}

// apply moves a task, its claim and money aside.
func (t *modelTask) apply(tr claudepool.Transition) {
	if t.State == claudepool.StateRunning || tr.To.Terminal() && t.Ended.IsZero() {
		t.Ended = tr.At
	}
	if t.State == claudepool.StateRunning && tr.To == claudepool.StatePending && tr.Attempt == nil {
		if t.Attempts--; t.Attempts == 0 { // as if it had never been claimed
			t.First, t.Started, t.Ended = time.Time{}, time.Time{}, time.Time{}
		}
	}
	t.State = tr.To
	t.Outcome = cmp.Or(tr.Outcome, t.Outcome)
	switch tr.To {
	case claudepool.StatePending:
		t.NotBefore, t.ResumeSession, t.Result = tr.NotBefore, tr.ResumeSession, nil
		if tr.CountRetry {
			t.Retries++
		}
		if tr.CountCrash {
			t.Crashes++
		}
		if tr.CountRejection {
			t.Rejections++
			t.Feedback = tr.Feedback
		}
		return
	case claudepool.StateCancelled:
		t.Fence++
	}
	if tr.Result != nil {
		t.Result = tr.Result
	} else if t.Result == nil {
		t.Result = &claudepool.TaskResult{SlotID: t.SlotID, SessionID: t.SessionID}
	}
}

// send does what the store must do with a message.
func (m *model) send(letter claudepool.Message) error {
	n := 0
	for _, l := range m.letters {
		if l.ID == letter.ID {
			return claudepool.ErrDuplicate
		}
		if l.To == letter.To {
			n++
		}
	}
	if n == claudepool.MaxMessages {
		return claudepool.ErrMailboxFull
	}
	m.letters = append(m.letters, letter)
	return nil
}

// messages returns those to an address that are named, or all.
func (m *model) messages(to string, ids []string) []claudepool.Message {
	var out []claudepool.Message
	for _, l := range m.letters {
		if l.To == to && (ids == nil || slices.Contains(ids, l.ID)) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b claudepool.Message) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// take removes messages.
func (m *model) take(taken []claudepool.Message) {
	m.letters = slices.DeleteFunc(m.letters, func(l claudepool.Message) bool { return slices.Contains(taken, l) })
}
