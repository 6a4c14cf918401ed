package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// BenchmarkIdleSlot runs a task on a slot that was idle, so that its reset is
// past, and the same prompt as a turn of a process that package claude drives,
// without a pool. Both processes have the same flags and no history. One
// iteration is a pair of both.
func BenchmarkIdleSlot(b *testing.B) {
	bed := newBed(b)
	s, p := bed.newSlot(), bed.newProcess()
	s.runAndReset("the first turn of a process is not yet a warm one")
	bed.turnAndReset(p, "the first turn of a process is not yet a warm one")
	var slot, raw []time.Duration
	for i := 0; b.Loop(); i++ {
		alternate(i,
			func() {
				slot = append(slot, s.run(taskText(i)))
				s.awaitIdle()
			},
			func() { raw = append(raw, bed.turnAndReset(p, taskText(i))) })
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(slot)), "ms/slot")
	b.ReportMetric(ms(median(raw)), "ms/raw")
	b.ReportMetric(ms(median(slot)-median(raw)), "ms/more")
	b.ReportMetric(float64(median(slot))/float64(median(raw)), "x-raw")
	s.allWarm()
}

func TestIdleSlotAndRawTurnHaveTheSameFlags(t *testing.T) {
	bed := newBed(t)
	s, p := bed.newSlot(), bed.newProcess()
	if s.run(taskText(0)) <= 0 || bed.turnAndReset(p, taskText(0)) <= 0 {
		t.Error("a turn took no time")
	}
	s.awaitIdle()
	if slot, raw := commandLine(t, s.pid()), commandLine(t, p.Info().PID); slot != raw {
		t.Errorf("the slot's process is\n%s\nthe other\n%s", slot, raw)
	}
	s.allWarm()
}

// newProcess starts a process as a slot does.
func (b *bed) newProcess() *claude.Process {
	b.tb.Helper()
	o := b.iso.Options(b.path)
	o.Settings.Model = model
	p, err := claude.Start(b.tb.Context(), o)
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			b.tb.Errorf("Close: %v", err)
		}
	})
	return p
}

// turnAndReset returns how long the turn took; the reset is not in it.
func (b *bed) turnAndReset(p *claude.Process, prompt string) time.Duration {
	b.tb.Helper()
	begin := time.Now()
	r, err := p.Turn(b.tb.Context(), claude.Prompt{Text: prompt}, nil)
	wall := time.Since(begin)
	if err != nil || r.IsError {
		b.tb.Fatalf("Turn: %v %v", r.Errors, err)
	}
	b.answers("the process", prompt, r.Text)
	if err := p.Reset(b.tb.Context(), claude.Settings{Model: model}); err != nil {
		b.tb.Fatalf("Reset: %v", err)
	}
	return wall
}
