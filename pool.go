package claudepool

import (
	"context"
	"io"
	"iter"
)

// Pool hands tasks to slots.
type Pool struct{}

type PoolBuilder struct{}

func (p *Pool) Ready(ctx context.Context) error                                      { return nil }
func (p *Pool) Submit(ctx context.Context, t Task) (TaskID, error)                   { return "", nil }
func (p *Pool) Run(ctx context.Context, t Task) (TaskResult, error)                  { return TaskResult{}, nil }
func (p *Pool) Wait(ctx context.Context, id TaskID) (TaskResult, error)              { return TaskResult{}, nil }
func (p *Pool) Task(ctx context.Context, id TaskID) (TaskRecord, error)              { return TaskRecord{}, nil }
func (p *Pool) Attempts(ctx context.Context, id TaskID) ([]Attempt, error)           { return nil, nil }
func (p *Pool) Tasks(ctx context.Context, f TaskFilter) iter.Seq2[TaskRecord, error] { return nil }
func (p *Pool) Cancel(ctx context.Context, id TaskID) (TaskState, error)             { return "", nil }
func (p *Pool) Retry(ctx context.Context, id TaskID) (TaskID, error)                 { return "", nil }
func (p *Pool) Explain(ctx context.Context, id TaskID) (Explanation, error) {
	return Explanation{}, nil
}
func (p *Pool) FanOut(ctx context.Context, ts []Task, o FanOutOptions) (FanOutResult, error) {
	return FanOutResult{}, nil
}
func (p *Pool) Status(ctx context.Context) (PoolStatus, error)         { return PoolStatus{}, nil }
func (p *Pool) Metrics() Metrics                                       { return Metrics{} }
func (p *Pool) Pause()                                                 {}
func (p *Pool) Resume()                                                {}
func (p *Pool) SetBudget(limit Microdollars) error                     { return nil }
func (p *Pool) ScaleUp(ctx context.Context, n int) (int, error)        { return 0, nil }
func (p *Pool) ScaleDown(ctx context.Context, n int) (int, error)      { return 0, nil }
func (p *Pool) SetTargetSlots(ctx context.Context, n int) (int, error) { return 0, nil }
func (p *Pool) ConfigureSlot(ctx context.Context, id string, u SlotUpdate) (SlotStatus, error) {
	return SlotStatus{}, nil
}
func (p *Pool) FindSlots(ctx context.Context, f SlotFilter) ([]SlotStatus, error) { return nil, nil }
func (p *Pool) Claim(ctx context.Context, slotID string) (TaskID, bool, error)    { return "", false, nil }
func (p *Pool) SetContext(ctx context.Context, key, value string) error           { return nil }
func (p *Pool) GetContext(ctx context.Context, key string) (string, error)        { return "", nil }
func (p *Pool) DeleteContext(ctx context.Context, key string) error               { return nil }
func (p *Pool) Context(ctx context.Context) (map[string]string, error)            { return nil, nil }
func (p *Pool) Events(ctx context.Context, f EventFilter) iter.Seq[Event]         { return nil }
func (p *Pool) Transcript(id TaskID, attempt int) (io.ReadCloser, error)          { return nil, nil }
func (p *Pool) Drain(ctx context.Context) (DrainSummary, error)                   { return DrainSummary{}, nil }
func (p *Pool) Close() error                                                      { return nil }
func (p *Pool) Config() PoolConfig                                                { return PoolConfig{} }
func NewPoolBuilder() *PoolBuilder                                                { return nil }
func (b *PoolBuilder) Config(c PoolConfig) *PoolBuilder                           { return b }
func (b *PoolBuilder) Build(ctx context.Context) (*Pool, error)                   { return nil, nil }
