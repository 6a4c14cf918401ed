package check

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Witness remembers what was said about the pools on one store, and how the
// store was. It is not safe for concurrent use.
type Witness struct {
	path    string
	budget  int64 // the largest there was; 0 means none
	least   int64 // the smallest there was
	cap     int64 // of a task without one, under a budget
	excused map[string]bool

	accepted   map[string]bool
	keys       map[string]string // ids by idempotency key
	cancelling map[string]bool
	states     map[string]Line // what was told of a task that has ended
	messages   map[string]string
	unexpected findings

	prompts  map[string]int // by mark
	answered map[string]answers
	told     map[string]bool
	fresh    []Prompt // since the last look
	Resumed  int
	last     *Snapshot
}

// answers are those of the model to the requests for a task: what they have cost
// together, and the dearest.
type answers struct{ cost, most int64 }

// NewWitness returns one for the store at path. Tasks may fail with the classes
// in excused whatever they were asked, for the fault explains them.
func NewWitness(path string, excused ...string) *Witness {
	w := &Witness{
		path: path, excused: map[string]bool{}, accepted: map[string]bool{}, keys: map[string]string{}, cancelling: map[string]bool{},
		states: map[string]Line{}, messages: map[string]string{}, prompts: map[string]int{}, answered: map[string]answers{}, told: map[string]bool{},
	}
	for _, class := range excused {
		w.excused[class] = true
	}
	return w
}

// Accepted returns how many tasks and chains were accepted.
func (w *Witness) Accepted() int { return len(w.accepted) }

// Said takes down a line of a program.
func (w *Witness) Said(l Line) {
	switch l.Op {
	case OpAccepted:
		w.accepted[l.ID] = true
		if l.Key == "" {
			break
		}
		if was, known := w.keys[l.Key]; known && was != l.ID {
			w.unexpected.add("P1: the idempotency key %s has named task %s and then %s", l.Key, was, l.ID)
		}
		w.keys[l.Key] = l.ID
	case OpCancelling:
		w.cancelling[l.ID] = true
	case OpCancelled, OpApproved, OpResult:
		w.tell(l)
	case OpBudgeting:
		w.budget, w.cap = max(w.budget, l.Amount), max(w.cap, l.Cap)
		if w.least == 0 {
			w.least = l.Amount
		}
		w.least = min(w.least, l.Amount)
	case OpSent:
		w.messages[l.ID] = l.Text
	case OpFailed:
		w.unexpected.add("P8: %s", l.Text)
	}
}

// tell takes down the state of a task that somebody was told.
func (w *Witness) tell(l Line) {
	if t := (&task{state: l.State}); !t.terminal() {
		return
	}
	if was, known := w.states[l.ID]; known && (was.State != l.State || was.Outcome != "" && l.Outcome != "" && was.Outcome != l.Outcome) {
		w.unexpected.add("P2: task %s was told to be %s %s, then %s %s", l.ID, was.State, was.Outcome, l.State, l.Outcome)
	}
	w.states[l.ID] = l
}

// Asked takes down a request to the model.
func (w *Witness) Asked(p Prompt) {
	if p.Cost > 0 {
		a := w.answered[p.Mark]
		w.answered[p.Mark] = answers{a.cost + p.Cost, max(a.most, p.Cost)}
	}
	if p.Text == "" {
		return
	}
	w.prompts[p.Mark]++
	w.fresh = append(w.fresh, p)
	if p.Resumed {
		w.Resumed++
	}
	for id, text := range w.messages {
		if !w.told[id] && strings.Contains(p.Text, text) {
			w.told[id] = true
		}
	}
}

// Look reads the store and returns what is wrong. No program may be at work in
// it, unless live says so: then nothing is known of what is under way. Prompts
// up to now must have been taken down.
func (w *Witness) Look(ctx context.Context, live bool) (*Snapshot, []string, error) {
	s, err := read(ctx, w.path, live)
	if err != nil {
		return nil, nil, err
	}
	f := append(w.unexpected, s.sound(w)...)
	w.unexpected = nil
	for id := range w.accepted {
		if s.tasks[id] == nil {
			f.add("P1: task %s was accepted and is not there", id)
		}
	}
	for id, l := range w.states {
		if t := s.tasks[id]; t != nil && (t.state != l.State || l.Outcome != "" && t.outcome != l.Outcome) {
			f.add("P2: task %v was told to be %s %s", t, l.State, l.Outcome)
		}
	}
	for id := range w.messages {
		if s.left[id] || w.told[id] {
			continue
		}
		w.told[id] = true // said once
		f.add("P1: message %s was sent, does not wait and was told to nobody", id)
	}
	if w.last != nil {
		s.after(w.last, &f)
	}
	s.promptsOf(w, live, &f)
	w.last, w.fresh = s, nil
	slices.Sort(f)
	return s, f, nil
}

// after checks what must not have changed since the snapshot before.
func (s *Snapshot) after(before *Snapshot, f *findings) {
	for _, id := range slices.Sorted(maps.Keys(before.tasks)) {
		was, t := before.tasks[id], s.tasks[id]
		switch {
		case t == nil:
			f.add("P1: task %v is not there any more", was)
			continue
		case was.terminal() && (t.state != was.state || t.outcome != was.outcome):
			f.add("P2: task %v is now %s %s", was, t.state, t.outcome)
		case was.terminal() && t.result != was.result && said(t.result) != said(was.result):
			f.add("P2: the result of task %v was %s and is %s", was, was.result, t.result)
		}
		if t.version < was.version || t.fence < was.fence || t.cost < was.cost || t.crashes < was.crashes || t.retries < was.retries || t.rejections < was.rejections || len(t.claims) < len(was.claims) {
			f.add("P3: a counter of task %v went back: %+v, before %+v", t, t, was)
		}
		was.settled(t, f)
		for i, c := range was.claims {
			if i < len(t.claims) && c.attempt != nil && (t.claims[i].attempt == nil || *t.claims[i].attempt != *c.attempt) {
				f.add("P5: attempt %d of task %v was changed", c.fence, t)
			}
		}
	}
	if s.totals.spent < before.totals.spent {
		f.add("P5: %d was spent, and then %d", before.totals.spent, s.totals.spent)
	}
}

// said returns a result without its money, which a late attempt may add to.
func said(result string) string {
	var r map[string]any
	if json.Unmarshal([]byte(result), &r) != nil {
		return result
	}
	delete(r, "cost_microdollars")
	delete(r, "cost_estimated")
	b, err := json.Marshal(r)
	if err != nil {
		return result
	}
	return string(b)
}

// promptsOf checks what agents were asked: nothing that was recorded as ended,
// and no task more often than it was claimed.
func (s *Snapshot) promptsOf(w *Witness, live bool, f *findings) {
	byMark := map[string]*task{}
	for _, t := range s.tasks {
		if !t.isChain {
			byMark[t.mark] = t
		}
	}
	for _, p := range w.fresh {
		t := byMark[p.Mark]
		if t == nil {
			f.add("P1: an agent was asked %q, which is no task's: %.120q", p.Mark, p.Text)
			continue
		}
		if w.last == nil {
			continue
		}
		if was := w.last.tasks[t.id]; was != nil && was.terminal() {
			f.add("P2: task %v had ended, and an agent was asked again: %.120q", was, p.Text)
		}
	}
	for mark, n := range w.prompts {
		if t := byMark[mark]; t != nil && n > len(t.claims) && !live {
			f.add("P3: task %v was claimed %d times and asked of agents %d times", t, len(t.claims), n)
		}
	}
}
