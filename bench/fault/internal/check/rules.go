package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// The bounds that the pool promises.
const (
	maxCrashes    = 3
	maxRejections = 3 // unless the task says otherwise
)

// defaultRetries is how often a task is tried again that says nothing about it.
const defaultRetries = 2

// completes tells the outcomes with which a task has completed.
var completes = map[string]bool{"ok": true, "partly_denied": true}

// findings gathers what is wrong.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// sound checks what must hold of every snapshot by itself.
func (s *Snapshot) sound(w *Witness) (f findings) {
	counts := map[string]int64{}
	for _, id := range slices.Sorted(maps.Keys(s.tasks)) {
		t := s.tasks[id]
		counts[t.state]++
		t.consistent(&f)
		t.counted(&f)
		t.truthful(&f, s, w)
	}
	for state, n := range s.counts {
		if counts[state] != n {
			f.add("store: counts says %d tasks are %s, there are %d", n, state, counts[state])
		}
		delete(counts, state)
	}
	for state, n := range counts {
		f.add("P1: %d tasks are in the state %q, which there is not", n, state)
	}
	s.money(&f, w.budget)
	s.paid(&f, w)
	return f
}

// consistent checks that all of a task tells of the same state.
func (t *task) consistent(f *findings) {
	kept := t.terminal() || t.state == "pending_review"
	switch {
	case (t.state == "pending") != t.place.Valid:
		f.add("P1: task %v waits in line: %v", t, t.place.Valid)
	case t.state == "running" && (!t.claimFence.Valid || t.claimFence.Int64 != t.fence):
		f.add("P3: task %v has the fence %d and a claim with %v", t, t.fence, t.claimFence)
	case t.state != "running" && t.state != "cancelled" && t.claimFence.Valid:
		f.add("P3: task %v has a claim", t)
	case kept != (t.result != ""):
		f.add("P1: task %v has the result %q", t, t.result)
	}
	if kept && t.result != "" {
		var r struct {
			ID      string `json:"task_id"`
			State   string `json:"state"`
			Outcome string `json:"outcome"`
			Cost    int64  `json:"cost_microdollars"`
		}
		err := json.Unmarshal([]byte(t.result), &r)
		if err != nil || r.ID != t.id || r.State != t.state || r.Outcome != t.outcome || !t.isChain && r.Cost != t.cost {
			f.add("P2: task %v with the cost %d has a result of another: %+v (%v)", t, t.cost, r, err)
		}
	}
}

// counted checks the attempts of a task, what they have cost and what they
// are counted as.
func (t *task) counted(f *findings) {
	var cost, assumed int64
	var estimated bool
	var attempts, good, back, failed, open int
	for _, c := range t.claims {
		if c.open {
			open++
			if !t.claimFence.Valid || t.claimFence.Int64 != c.fence || t.claimReserved.Int64 != c.reserved {
				f.add("P5: claim %d of task %v holds %d, and is not the task's claim (%v, %v)", c.fence, t, c.reserved, t.claimFence, t.claimReserved)
			}
		}
		a := c.attempt
		if c.open || a != nil {
			attempts++
		}
		if a == nil {
			continue
		}
		cost += a.Cost
		assumed += a.Assumed
		estimated = estimated || a.Estimated
		switch {
		case a.Late:
		case completes[a.Outcome]:
			good++
		case a.Outcome == "lost" && a.Message == "the pool was shut down":
			back++
		case a.Outcome == "lost", a.Outcome == "crashed":
			failed++
		}
		switch {
		case a.Message == asWasLost && !a.Estimated && !t.isChain:
			f.add("P5: what the lost attempt %d of task %v has cost, %d, is not marked as estimated", c.fence, t, a.Cost)
		case a.Message == unaskedWasLost && (a.Cost != 0 || a.Estimated):
			f.add("P5: the lost attempt %d of task %v has cost %d though its agent was not asked", c.fence, t, a.Cost)
		case a.Assumed != 0 && (a.Assumed != a.Cost || a.Assumed != c.reserved || !a.Estimated):
			f.add("P5: attempt %d of task %v, which had reserved %d, is assumed to have cost %d of %d", c.fence, t, c.reserved, a.Assumed, a.Cost)
		}
	}
	if t.claimFence.Valid && open == 0 {
		f.add("P5: task %v has a claim that holds nothing", t)
	}
	if cost != t.cost || assumed != t.assumed || estimated != t.estimated {
		f.add("P5: task %v has cost %d (assumed %d, estimated %v), its attempts %d (%d, %v)", t, t.cost, t.assumed, t.estimated, cost, assumed, estimated)
	}
	if attempts != t.attempts {
		f.add("P3: task %v counts %d attempts and has %d", t, t.attempts, attempts)
	}
	if good > 1+t.rejections {
		f.add("P1: task %v has completed %d times, with %d rejections", t, good, t.rejections)
	}
	if t.isChain {
		return // its attempts are those of its host alone
	}
	limit := t.asked.Task.Retry.Max
	if limit == 0 {
		limit = defaultRetries
	}
	if t.crashes > maxCrashes || t.crashes > failed || failed > t.crashes+1 || failed == t.crashes+1 && t.outcome != "lost" && t.outcome != "crashed" {
		f.add("P3: task %v counts %d crashes and has %d attempts that were lost or crashed", t, t.crashes, failed)
	}
	if t.retries > max(limit, 0) {
		f.add("P3: task %v was tried again %d times, of %d", t, t.retries, limit)
	}
	if most := 1 + t.crashes + t.retries + t.rejections + back; t.attempts > most {
		f.add("P3: task %v has %d attempts; %d crashes, %d retries, %d rejections and %d returns to the queue explain %d",
			t, t.attempts, t.crashes, t.retries, t.rejections, back, most)
	}
}

// truthful checks that a task has ended as it can have ended.
func (t *task) truthful(f *findings, s *Snapshot, w *Witness) {
	if !t.terminal() {
		return
	}
	var r struct {
		Output  string
		Failure *struct{ Class, Message string }
	}
	if err := json.Unmarshal([]byte(t.result), &r); err != nil {
		return // said elsewhere
	}
	task := &t.asked.Task
	may := permitted(task.Prompt)
	chain := s.tasks[t.chain.String]
	switch t.state {
	case "completed":
		if !completes[t.outcome] {
			f.add("P4: task %v has completed", t)
		}
		if !t.isChain && (!may[t.outcome] || r.Output != Answer(t.mark)) {
			f.add("P4: task %v has completed with %.80q; it was asked %.80q", t, r.Output, task.Prompt)
		}
		return
	case "cancelled":
		if !w.cancelling[t.id] && !w.cancelling[t.chain.String] && (chain == nil || chain.state == "completed") {
			f.add("P4: task %v was cancelled by nobody", t)
		}
		if t.outcome != "cancelled" {
			f.add("P4: task %v was cancelled", t)
		}
		return
	}
	switch o := t.outcome; {
	case completes[o] || o == "cancelled" || o == "":
		f.add("P4: task %v has failed", t)
	case r.Failure == nil || r.Failure.Class != o || r.Failure.Message == "":
		f.add("P4: task %v has failed without a reason: %+v", t, r.Failure)
	case t.isChain || may[o] || w.excused[o]:
	case o == "lost" || o == "crashed":
		if t.crashes < maxCrashes && (task.OnCrash != "fail" || t.lastMessage() == unaskedWasLost) {
			f.add("P4: task %v has failed after %d crashes", t, t.crashes)
		}
	case o == "rejected":
		most := maxRejections
		if task.Review != nil && task.Review.MaxRejections > 0 {
			most = task.Review.MaxRejections
		}
		if t.rejections != most-1 {
			f.add("P4: task %v was rejected %d times before", t, t.rejections)
		}
	case o == "expired" && task.QueueTimeout > 0:
	case o == "budget" && t.broke(s, w):
	default:
		f.add("P4: task %v has failed (%s); it was asked %.80q", t, r.Failure.Message, task.Prompt)
	}
}
