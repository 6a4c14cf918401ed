package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// screen shows what the slots do: on a terminal as a few lines that are drawn
// again and again, elsewhere as one line for each thing that happens. It is
// used by one goroutine.
type screen struct {
	out   io.Writer
	live  bool // a terminal that can be drawn on
	begun time.Time
	drawn int // lines that the next drawing replaces

	slots        []*slotLine // in the order of their ids
	total        int
	done, failed int
	cost         claudepool.Microdollars
	budget       claudepool.Microdollars
	message      string // what the pool last said of itself
	prompt       func(claudepool.TaskID) string
}

// slotLine is one slot on the screen.
type slotLine struct {
	id    string
	state claudepool.SlotState
	since time.Time
	task  string // its prompt
	text  string // what the agent has said so far
}

func newScreen(out io.Writer) *screen {
	return &screen{out: out, live: isTerminal(out), begun: time.Now()}
}

// isTerminal reports whether out can be drawn on.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// show follows the pool until total results have come or ctx ends.
func (s *screen) show(ctx context.Context, pool *claudepool.Pool, total int, events <-chan claudepool.Event, ended <-chan claudepool.TaskResult) {
	s.total = total
	s.prompt = func(id claudepool.TaskID) string {
		r, err := pool.Task(ctx, id)
		if err != nil {
			return string(id)
		}
		return r.Task.Prompt
	}
	// What happened before the first event is seen in the status.
	if st, err := pool.Status(ctx); err == nil {
		s.budget = st.Budget
		for _, sl := range st.Slots {
			s.slot(sl.ID).state = sl.State
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for s.done < total {
		select {
		case e := <-events:
			s.happened(e)
		case r := <-ended:
			s.ended(r)
		case <-tick.C:
			s.draw()
		case <-ctx.Done():
			return
		}
	}
	s.draw()
	fmt.Fprintln(s.out)
}

// subscribe makes a channel of what happens in the pool from now on, which a
// select can wait for. The caller must call stop in the end.
func subscribe(ctx context.Context, pool *claudepool.Pool) (events <-chan claudepool.Event, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ch, over := make(chan claudepool.Event), make(chan struct{})
	seq := pool.Events(ctx, claudepool.EventFilter{
		Kinds: []claudepool.EventKind{claudepool.EventSlot, claudepool.EventAgent, claudepool.EventPool},
	})
	go func() {
		defer close(over)
		for e := range seq {
			select {
			case ch <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, func() { cancel(); <-over }
}

// happened takes note of an event.
func (s *screen) happened(e claudepool.Event) {
	switch e.Kind {
	case claudepool.EventSlot:
		l := s.slot(e.SlotID)
		l.state, l.since = e.SlotState, e.At
		if e.SlotState == claudepool.SlotBusy {
			l.task, l.text = s.prompt(e.TaskID), ""
			s.line("%s  starts  %s", l.id, l.task)
		}
	case claudepool.EventAgent:
		if d, ok := e.Agent.(claude.TextDelta); ok {
			s.slot(e.SlotID).text += d.Text
		}
	case claudepool.EventPool:
		s.message = e.Message
		s.line("pool    %s", e.Message)
	}
}

// ended takes note of a result.
func (s *screen) ended(r claudepool.TaskResult) {
	s.done++
	s.cost += r.Cost
	if r.State != claudepool.StateCompleted {
		s.failed++
	}
	s.line("%-6s  %-6s  %s", cmp.Or(r.SlotID, "-"), r.Outcome, answer(r))
}

// slot returns the line of a slot.
func (s *screen) slot(id string) *slotLine {
	for _, l := range s.slots {
		if l.id == id {
			return l
		}
	}
	l := &slotLine{id: id, state: claudepool.SlotStarting, since: time.Now()}
	s.slots = append(s.slots, l)
	slices.SortFunc(s.slots, func(a, b *slotLine) int {
		return strings.Compare(fmt.Sprintf("%9s", a.id), fmt.Sprintf("%9s", b.id)) // slot-10 after slot-9
	})
	return l
}

// line prints one thing that happened, where nothing can be drawn.
func (s *screen) line(format string, args ...any) {
	if !s.live {
		fmt.Fprintf(s.out, "%5.1fs  %s\n", time.Since(s.begun).Seconds(), cut(fmt.Sprintf(format, args...), width-8))
	}
}

// width is how much of a terminal is used.
const width = 79

// draw draws the slots and the progress over the former drawing.
func (s *screen) draw() {
	if !s.live {
		return
	}
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn) // back to the first line
	}
	for _, l := range s.slots {
		line := fmt.Sprintf("%-8s%-10s", l.id, l.state)
		if l.state == claudepool.SlotBusy || l.state == claudepool.SlotDraining && l.task != "" {
			line += fmt.Sprintf("%5.1fs  %s", time.Since(l.since).Seconds(), l.task)
			line = fmt.Sprintf("%-*s  %s", 44, cut(line, 44), tail(l.text, width-46))
		}
		fmt.Fprintf(&b, "%s\x1b[K\n", cut(line, width))
	}
	const bar = 16
	full := bar * s.done / max(s.total, 1)
	sum := fmt.Sprintf("%s%s %d of %d done, %d failed  %v of %v  %.1fs  %s",
		strings.Repeat("█", full), strings.Repeat("░", bar-full), s.done, s.total, s.failed, s.cost, s.budget, time.Since(s.begun).Seconds(), s.message)
	fmt.Fprintf(&b, "%s\x1b[K\n", cut(sum, width))
	s.drawn = len(s.slots) + 1
	io.WriteString(s.out, b.String())
}

// cut makes one line of text, of at most n characters. Nothing in it can steer
// the terminal.
func cut(text string, n int) string {
	r := []rune(plain(text))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}

// tail is cut from the other end.
func tail(text string, n int) string {
	r := []rune(plain(text))
	if len(r) > n {
		return "…" + string(r[len(r)-n+1:])
	}
	return string(r)
}

func plain(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
}
