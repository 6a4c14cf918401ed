package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/claudepool/claudepool"
)

// Claim implements [claudepool.PoolStore]. It calls r.Accepts while nothing of
// the store is locked. It does not wait for the disk: [Store.Sync] does.
func (s *Store) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	if r.Chains { // none of these has a bearing on them
		r.TagLimits, r.Accepts, r.Prefers, r.Budget = nil, nil, "", claudepool.BudgetTerms{}
	}
	accepts := map[[2]string]bool{}
	for {
		var rec claudepool.TaskRecord
		var none *claudepool.NotRunnable
		var unasked map[[2]string]struct{}
		err := s.note(ctx, func(x *tx) error {
			v := &view{now: clamped(r.Now), chains: r.Chains, limits: r.TagLimits, accepts: accepts, unasked: map[[2]string]struct{}{}}
			c := claiming{x, v, r}
			var t *taskRow
			var err error
			t, none, err = c.claim()
			rec, unasked = claudepool.TaskRecord{}, nil
			if r.Accepts != nil {
				unasked = v.unasked
			}
			if t != nil {
				rec = t.rec
			}
			return err
		})
		switch {
		case err != nil:
			return claudepool.TaskRecord{}, err
		case len(unasked) > 0:
			for pin := range unasked {
				accepts[pin] = r.Accepts(pin[0], pin[1])
			}
		case none != nil:
			return claudepool.TaskRecord{}, none
		default:
			return rec, nil
		}
	}
}

// claiming is a claim under way.
type claiming struct {
	*tx
	*view
	r claudepool.ClaimRequest
}

// claim takes the best task, or says why there is none. It takes none as long
// as there are pins without an answer.
func (c claiming) claim() (*taskRow, *claudepool.NotRunnable, error) {
	now := nanos(c.r.Now)
	c.saw(c.view.now)
	for tag := range c.limits {
		c.tx.limited[tag] = true
	}
	if err := c.mature(now); err != nil {
		return nil, nil, err
	}
	if len(c.limits) > 0 {
		running, err := c.countRunning()
		if err != nil {
			return nil, nil, err
		}
		c.running = running
	}
	heads, err := c.heads()
	if err != nil {
		return nil, nil, err
	}
	for _, h := range heads {
		c.open(h.line) // asks for the pins
	}
	if len(c.unasked) > 0 && c.r.Accepts != nil {
		return nil, nil, nil
	}
	t, reserved, none, err := c.affordable(heads)
	if t == nil || err != nil {
		return nil, none, err
	}
	if c.r.Prefers != "" && t.rec.LaunchKey != c.r.Prefers {
		if t, reserved, err = c.preferred(heads, t, reserved); err != nil {
			return nil, nil, err
		}
	}
	return t, nil, c.start(t, reserved)
}

// affordable returns the best task that there is money for, and what it
// reserves; or why there is none. A task that waits for what others of its
// allowance have reserved holds up that allowance only.
func (c claiming) affordable(heads []*head) (*taskRow, claudepool.Microdollars, *claudepool.NotRunnable, error) {
	none := &claudepool.NotRunnable{}
	for {
		t, err := c.best(heads)
		if err != nil {
			return nil, 0, nil, err
		}
		if t == nil {
			break
		}
		reserved, refused, err := c.reserve(t)
		if err != nil {
			return nil, 0, nil, err
		}
		if refused == nil {
			return t, reserved, nil, nil
		}
		waits := refused.Scope == allowanceID(&t.rec) && refused.Reserved > 0
		if none.Budget == nil || !waits {
			none.Budget, none.Task = refused, t.rec.ID
		}
		if !waits {
			break
		}
		c.short = append(c.short, refused.Scope)
	}
	var next timestamp
	err := c.row("SELECT min(not_before) FROM tasks WHERE place = 1", nil, &next)
	none.NextAt = next.Time
	return nil, 0, none, err
}

// best returns the first task in rank that can be taken, or nil. Tasks that it
// meets on the way and that cannot be taken are set aside where they are not met
// again. The heads become those of the lines as they are then.
func (c claiming) best(heads []*head) (*taskRow, error) {
	for {
		var best *head
		for _, h := range heads {
			if h.id != "" && c.open(h.line) && (best == nil || h.before(best)) {
				best = h
			}
		}
		if best == nil {
			return nil, nil
		}
		t, err := c.task(best.id)
		if err != nil {
			return nil, err
		}
		aside, err := c.setAside(t)
		if err != nil || !aside {
			return t, err
		}
		// With it gone others of its lane may stand in any line.
		for _, h := range heads {
			found, err := c.next(h)
			if err != nil {
				return nil, err
			}
			if !found {
				h.id = ""
			}
		}
	}
}

// setAside lets a task that stands in line and cannot be taken wait elsewhere.
// It reports whether that was so.
func (c claiming) setAside(t *taskRow) (bool, error) {
	r := &t.rec
	if r.NotBefore.After(c.r.Now) { // an earlier claim had a later clock
		if err := c.move(t, forTime, t.line.String); err != nil {
			return true, err
		}
		return true, c.release(r.Lane)
	}
	busy, err := c.busy(r.Lane)
	switch {
	case err != nil:
		return false, err
	case busy:
		return true, c.move(t, forLane, t.line.String)
	case slices.ContainsFunc(r.Task.Tags, c.view.full):
		limited := lineOf(r, func(tag string) bool { _, ok := c.limits[tag]; return ok })
		return true, c.move(t, inLine, limited.key())
	}
	return false, nil
}

// reserve returns how much a claim of t reserves, or why that cannot be had.
func (c claiming) reserve(t *taskRow) (claudepool.Microdollars, *claudepool.BudgetExhausted, error) {
	if t.rec.Chain != nil {
		return 0, nil, nil // its steps are paid for one by one
	}
	var budgets []claudepool.Funds
	if id := allowanceID(&t.rec); id != "" {
		f, err := c.allowance(id, c.r.Budget.Share)
		if err != nil {
			return 0, nil, err
		}
		budgets = append(budgets, f)
	}
	if c.r.Budget.Limit != 0 {
		sums, err := c.ledger(c.r.Budget.Since)
		if err != nil {
			return 0, nil, err
		}
		budgets = append(budgets, claudepool.Funds{
			Scope: claudepool.ScopePool, Limit: c.r.Budget.Limit, Spent: sums.Spent, Assumed: sums.Assumed, Reserved: sums.Reserved, Share: max(1, c.r.Budget.Share),
		})
	}
	reserved, refused := c.r.Budget.Reserve(&t.rec, budgets...)
	return reserved, refused, nil
}

// start gives t, which waits, to the one who asked.
func (c claiming) start(t *taskRow, reserved claudepool.Microdollars) error {
	if reserved > 0 { // of all together no more than can be counted
		total, err := c.reserved("")
		if err != nil {
			return err
		}
		reserved = claudepool.AddCost(total, reserved) - total
	}
	t.rec.Begin(c.r, reserved)
	t.dequeue()
	if err := c.update(t); err != nil {
		return err
	}
	_, err := c.change("INSERT INTO claims (task, fence, reserved, open) VALUES (?, ?, ?, 1)", t.seq, t.rec.Fence, int64(reserved))
	return err
}

// preferLookahead is how many tasks a claim looks at for one that fits its warm process.
const preferLookahead = 8

// candidate is a task that a claim may take in the place of the first.
type candidate struct {
	seq       int64
	id        claudepool.TaskID
	launchKey string
	lane      string
	tags      []string
	notBefore time.Time
	passed    int
}

// preferred returns the first task with the launch key that the claim prefers,
// among those of the same priority within reach, and what it reserves; else t.
// Those that it passes over remember it.
func (c claiming) preferred(heads []*head, t *taskRow, reserved claudepool.Microdollars) (*taskRow, claudepool.Microdollars, error) {
	all, err := c.candidates(heads, t.rec.Task.Priority)
	if err != nil {
		return nil, 0, err
	}
	var passed []int64
	for _, o := range all {
		busy, err := c.busy(o.lane)
		if err != nil {
			return nil, 0, err
		}
		if busy || o.notBefore.After(c.r.Now) || slices.ContainsFunc(o.tags, c.view.full) {
			continue
		}
		if o.launchKey != c.r.Prefers {
			if o.passed >= claudepool.MaxPassed {
				break
			}
			passed = append(passed, o.seq)
			continue
		}
		other, err := c.task(o.id)
		if err != nil {
			return nil, 0, err
		}
		need, refused, err := c.reserve(other)
		if refused != nil || err != nil {
			return t, reserved, err
		}
		for _, seq := range passed {
			if _, err := c.change("UPDATE tasks SET passed = passed + 1 WHERE seq = ?", seq); err != nil {
				return nil, 0, err
			}
		}
		return other, need, nil
	}
	return t, reserved, nil
}

// candidates returns the first tasks of the open lines with a priority, in rank.
func (c claiming) candidates(heads []*head, priority int) ([]candidate, error) {
	var all []candidate
	for _, h := range heads {
		if !c.open(h.line) {
			continue
		}
		err := c.rows(`SELECT seq, id, launch_key, lane, tags, not_before, passed FROM tasks
			WHERE place = 0 AND line = ? AND priority = ? ORDER BY id LIMIT ?`, []any{h.key, priority, preferLookahead}, func(row scanner) error {
			var o candidate
			var tags sql.RawBytes
			var at timestamp
			err := row.Scan(&o.seq, &o.id, &o.launchKey, &o.lane, &tags, &at, &o.passed)
			if err == nil && tags != nil {
				err = json.Unmarshal(tags, &o.tags)
			}
			o.notBefore = at.Time
			all = append(all, o)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all[:min(len(all), preferLookahead)], nil
}

// allowance returns what is known of an allowance, for so many claims.
func (x *tx) allowance(id string, share int) (claudepool.Funds, error) {
	f := claudepool.Funds{Scope: id}
	var waiting int
	err := x.row("SELECT allowance, spent, waiting FROM allowances WHERE id = ?", []any{id}, &f.Limit, &f.Spent, &waiting)
	if err == nil {
		f.Share = max(1, min(share, waiting))
		f.Reserved, err = x.reserved(id)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = errors.Join(ErrCorrupt, errors.New("a task has an allowance that is not there: "+id))
	}
	return f, err
}

// reserved returns what open claims hold, of all tasks or of those with an allowance.
func (x *tx) reserved(allowance string) (claudepool.Microdollars, error) {
	query, args := "SELECT reserved FROM claims INDEXED BY claims_open WHERE open = 1", []any(nil)
	if allowance != "" {
		query = "SELECT c.reserved FROM claims c INDEXED BY claims_open JOIN tasks t ON t.seq = c.task WHERE c.open = 1 AND t.allowance = ?"
		args = []any{allowance}
	}
	var sum claudepool.Microdollars
	err := x.rows(query, args, func(row scanner) error {
		var r claudepool.Microdollars
		err := row.Scan(&r)
		sum = claudepool.AddCost(sum, r)
		return err
	})
	return sum, err
}
