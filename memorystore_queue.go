package claudepool

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// memTask is a task of a [MemoryStore] and what surrounds its record.
type memTask struct {
	rec     *TaskRecord
	shared  bool       // a listing holds on to rec; see edit
	claims  []memClaim // by fence
	passed  int        // how often it was passed over for a warm process
	retired bool       // it is terminal, and nothing is to be recorded of it any more
	chain   *memTask   // whose step it runs, or nil
	steps   []*memTask // of a chain: those that are retired before it

	queue *taskHeap // where it waits, or nil
	pos   int       // in queue
}

// edit returns the record to be changed. What a listing holds on to stays as
// it is: then the record is replaced by a copy.
func (t *memTask) edit() *TaskRecord {
	if t.shared {
		t.rec, t.shared = new(*t.rec), false
	}
	return t.rec
}

// pin is what a task demands of its slot. The zero value is nothing.
type pin struct{ slot, role string }

func (t *memTask) pin() pin { return pin{t.rec.Task.Slot, t.rec.Task.Role} }

// byRank orders tasks as they are to be claimed.
func byRank(a, b *memTask) bool {
	if pa, pb := a.rec.Task.Priority, b.rec.Task.Priority; pa != pb {
		return pa > pb
	}
	return a.rec.ID < b.rec.ID
}

// byStart orders tasks by their earliest start.
func byStart(a, b *memTask) bool { return a.rec.NotBefore.Before(b.rec.NotBefore) }

// taskHeap is a binary heap whose tasks know their place in it, so that any of
// them can be removed.
type taskHeap struct {
	before func(a, b *memTask) bool
	tasks  []*memTask
}

// first returns the first task, or nil.
func (h *taskHeap) first() *memTask {
	if len(h.tasks) == 0 {
		return nil
	}
	return h.tasks[0]
}

func (h *taskHeap) push(t *memTask) {
	h.tasks = append(h.tasks, t)
	t.queue = h
	h.up(len(h.tasks)-1, t)
}

func (h *taskHeap) remove(t *memTask) {
	last := len(h.tasks) - 1
	moved := h.tasks[last]
	h.tasks[last] = nil
	h.tasks = h.tasks[:last]
	if moved != t {
		h.down(t.pos, moved)
		h.up(moved.pos, moved)
	}
	t.queue = nil
}

// up puts t at i or nearer to the root.
func (h *taskHeap) up(i int, t *memTask) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(t, h.tasks[parent]) {
			break
		}
		h.put(i, h.tasks[parent])
		i = parent
	}
	h.put(i, t)
}

// down puts t at i or farther from the root.
func (h *taskHeap) down(i int, t *memTask) {
	for {
		child := 2*i + 1
		if child >= len(h.tasks) {
			break
		}
		if right := child + 1; right < len(h.tasks) && h.before(h.tasks[right], h.tasks[child]) {
			child = right
		}
		if !h.before(h.tasks[child], t) {
			break
		}
		h.put(i, h.tasks[child])
		i = child
	}
	h.put(i, t)
}

func (h *taskHeap) put(i int, t *memTask) { h.tasks[i], t.pos = t, i }

// lineKey names a line: the pin and the allowance of its tasks, and tags that
// all of them have. All chains have one.
type lineKey struct {
	chains bool
	pin
	allowance string
	tags      string
}

// key returns the key of the line for t, given its limited tags.
func (t *memTask) key(tags []string) lineKey {
	if t.rec.Chain != nil {
		return lineKey{chains: true}
	}
	return lineKey{false, t.pin(), allowanceID(t.rec), tagKey(tags)}
}

func allowanceID(r *TaskRecord) string {
	if r.Task.Allowance == nil {
		return ""
	}
	return r.Task.Allowance.ID
}

// line holds waiting tasks that stand or fall together: all have the same pin
// and allowance, and the same tags out of those that were found at their limit. A claim looks
// at the head of each open line only, so tasks it cannot take cost it nothing,
// however many they are.
type line struct {
	taskHeap
	lineKey
	tags []string
}

// laneState is what is known of a lane of tasks of which only one may run. Those
// that were found to wait for another are held back, in heaps of the same pin
// and tags. While none runs, at least the first of each heap's kind is not.
type laneState struct {
	busy bool
	held map[lineKey]*taskHeap
}

// taskQueue holds the pending tasks. Those with an earliest start wait in
// delayed, those behind another of their lane are held back, all others stand
// in a line. A task whose tag was found at its limit moves, once, to the line
// of its limited tags, which is closed while one of them is at its limit.
type taskQueue struct {
	lines   map[lineKey]*line
	delayed taskHeap
	lanes   map[string]laneState // in which a task runs or is held back
}

func newTaskQueue() taskQueue {
	return taskQueue{lines: map[lineKey]*line{}, delayed: taskHeap{before: byStart}, lanes: map[string]laneState{}}
}

// add lets t wait.
func (q *taskQueue) add(t *memTask) {
	if t.rec.NotBefore.IsZero() {
		q.ready(t)
	} else {
		q.delayed.push(t)
	}
}

// ready lets t wait for nothing but its turn.
func (q *taskQueue) ready(t *memTask) {
	if q.lanes[t.rec.Lane].busy {
		q.hold(t)
	} else {
		q.line(t, nil).push(t)
	}
}

// remove takes t out.
func (q *taskQueue) remove(t *memTask) {
	t.queue.remove(t)
	if lane := q.lanes[t.rec.Lane]; !lane.busy && len(lane.held) > 0 {
		q.unhold(lane, t.key(t.rec.Task.Tags))
		q.setLane(t.rec.Lane, lane)
	}
}

// line returns the line for t, given its limited tags.
func (q *taskQueue) line(t *memTask, tags []string) *line {
	key := t.key(tags)
	l := q.lines[key]
	if l == nil {
		l = &line{taskHeap: taskHeap{before: byRank}, lineKey: key, tags: tags}
		q.lines[key] = l
	}
	return l
}

// tagKey returns a text that is the same for the same tags.
func tagKey(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	var b strings.Builder
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		b.WriteString(strconv.Quote(tag))
	}
	return b.String()
}

// hold keeps t back until its lane is free.
func (q *taskQueue) hold(t *memTask) {
	lane := q.lanes[t.rec.Lane]
	if lane.held == nil {
		lane.held = map[lineKey]*taskHeap{}
		q.lanes[t.rec.Lane] = lane
	}
	key := t.key(t.rec.Task.Tags)
	if lane.held[key] == nil {
		lane.held[key] = &taskHeap{before: byRank}
	}
	lane.held[key].push(t)
}

// unhold lets the first of the tasks with that key stand in a line.
func (q *taskQueue) unhold(lane laneState, key lineKey) {
	h := lane.held[key]
	if h == nil {
		return
	}
	if t := h.first(); t != nil {
		h.remove(t)
		q.line(t, nil).push(t)
	}
	if h.first() == nil {
		delete(lane.held, key)
	}
}

// occupy notes that a task of the lane runs, vacate that it does no more.
func (q *taskQueue) occupy(name string) {
	if name != "" {
		q.setLane(name, laneState{busy: true, held: q.lanes[name].held})
	}
}

func (q *taskQueue) vacate(name string) {
	lane := q.lanes[name]
	lane.busy = false
	for key := range lane.held {
		q.unhold(lane, key)
	}
	q.setLane(name, lane)
}

func (q *taskQueue) setLane(name string, lane laneState) {
	if lane.busy || len(lane.held) > 0 {
		q.lanes[name] = lane
	} else {
		delete(q.lanes, name)
	}
}

// mature moves the tasks whose time has come.
func (q *taskQueue) mature(now time.Time) {
	for t := q.delayed.first(); t != nil && !t.rec.NotBefore.After(now); t = q.delayed.first() {
		q.delayed.remove(t)
		q.ready(t)
	}
}

// next returns when the next task that waits for its time can start, or zero.
func (q *taskQueue) next() time.Time {
	if t := q.delayed.first(); t != nil {
		return t.rec.NotBefore
	}
	return time.Time{}
}

// claimView is what decides whether a claim can take a task, money aside.
type claimView struct {
	now     time.Time
	chains  bool           // whether it takes chains or tasks for a slot
	limits  map[string]int // by tag
	running map[string]int // by tag
	accepts map[pin]bool   // the answers of the claim's Accepts
	short   []string       // allowances that wait for what others of them have reserved
}

// unasked returns the pins of waiting tasks that accepts says nothing about.
func (q *taskQueue) unasked(accepts map[pin]bool) []pin {
	var pins []pin
	for key, l := range q.lines {
		if _, asked := accepts[key.pin]; !asked && key.pin != (pin{}) && l.first() != nil && !slices.Contains(pins, key.pin) {
			pins = append(pins, key.pin)
		}
	}
	return pins
}

// full reports whether as many tasks with the tag run as may.
func (v *claimView) full(tag string) bool {
	limit, limited := v.limits[tag]
	return limited && v.running[tag] >= limit
}

// takes reports whether nothing about t itself forbids to take it now.
func (q *taskQueue) takes(v *claimView, t *memTask) bool {
	return !t.rec.NotBefore.After(v.now) && !q.lanes[t.rec.Lane].busy && !slices.ContainsFunc(t.rec.Task.Tags, v.full)
}

// open appends to lines those that v can take tasks from, and forgets those
// that are empty.
func (q *taskQueue) open(v *claimView, lines []*line) []*line {
	for key, l := range q.lines {
		switch {
		case l.chains != v.chains:
		case l.first() == nil:
			if key != (lineKey{}) {
				delete(q.lines, key)
			}
		case (l.pin == pin{} || v.accepts[l.pin]) && !slices.ContainsFunc(l.tags, v.full) && !slices.Contains(v.short, l.allowance):
			lines = append(lines, l)
		}
	}
	return lines
}

// best returns the first task in rank that v takes, or nil, and the lines that
// are open. Tasks it meets on the way and cannot take are set aside where they
// are not met again.
func (q *taskQueue) best(v *claimView, lines []*line) (*memTask, []*line) {
	lines = q.open(v, lines)
	for {
		var best *memTask
		for _, l := range lines {
			if t := l.first(); t != nil && (best == nil || byRank(t, best)) {
				best = t
			}
		}
		switch {
		case best == nil || q.takes(v, best):
			return best, lines
		case best.rec.NotBefore.After(v.now): // an earlier claim had a later clock
			q.remove(best)
			q.delayed.push(best)
			lines = q.open(v, lines[:0]) // with who waited behind it
		case q.lanes[best.rec.Lane].busy:
			best.queue.remove(best)
			q.hold(best)
		default:
			best.queue.remove(best)
			limited := slices.DeleteFunc(slices.Clone(best.rec.Task.Tags), func(tag string) bool { _, ok := v.limits[tag]; return !ok })
			q.line(best, limited).push(best)
		}
	}
}

// preferLookahead is how many tasks a claim looks at for one that fits its warm process.
const preferLookahead = 8

// preferred returns the first task with the launch key among those that follow
// first, and those that it would pass over, first included. It returns nil when
// there is none within reach.
func (q *taskQueue) preferred(v *claimView, lines []*line, first *memTask, key string) (*memTask, []*memTask) {
	passed := make([]*memTask, 0, preferLookahead)
	looked := 0
	for t := range inOrder(lines) {
		if looked++; looked > preferLookahead || t.rec.Task.Priority != first.rec.Task.Priority {
			break
		}
		if !q.takes(v, t) {
			continue
		}
		if t.rec.LaunchKey == key {
			return t, passed
		}
		if t.passed >= MaxPassed {
			break
		}
		passed = append(passed, t)
	}
	return nil, nil
}

// inOrder iterates over the tasks of the lines in rank, without changing the
// heaps: the next one is always a root or a child of one that came before.
func inOrder(lines []*line) func(yield func(*memTask) bool) {
	return func(yield func(*memTask) bool) {
		next := make([]*memTask, 0, 2*preferLookahead)
		for _, l := range lines {
			if t := l.first(); t != nil {
				next = append(next, t)
			}
		}
		for len(next) > 0 {
			i := 0
			for j, t := range next {
				if byRank(t, next[i]) {
					i = j
				}
			}
			t := next[i]
			next[i] = next[len(next)-1]
			next = next[:len(next)-1]
			for child := 2*t.pos + 1; child <= 2*t.pos+2 && child < len(t.queue.tasks); child++ {
				next = append(next, t.queue.tasks[child])
			}
			if !yield(t) {
				return
			}
		}
	}
}
