package claude

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// meter turns the CLI's cumulative figures into what one turn has used. They
// start at the saved totals of a resumed session, and at zero after a reset.
type meter struct {
	base  Microdollars // the total when the process started or was last reset
	total Microdollars // as last seen, in mid-turn too

	// What results have accounted for so far.
	billed Microdollars
	api    time.Duration
	models map[string]ModelUsage

	strayCost  Microdollars
	strayCount int
}

// spent is the difference between two results.
type spent struct {
	cost   Microdollars
	api    time.Duration
	models map[string]ModelUsage
}

// result takes the figures of a result and returns what is new since the one
// before. Figures that fall mean that the CLI began anew.
func (m *meter) result(r *wireResult) spent {
	total, api, models := USD(r.TotalCostUSD), milliseconds(r.DurationAPIMS), usages(r.ModelUsage)
	if total < m.billed || api < m.api {
		m.base, m.billed, m.api, m.models = 0, 0, 0, nil
	}
	s := spent{cost: total - m.billed, api: api - m.api, models: map[string]ModelUsage{}}
	for name, u := range models {
		if d := u.minus(m.models[name]); d != (ModelUsage{}) {
			s.models[name] = d
		}
	}
	m.total, m.billed, m.api, m.models = total, total, api, models
	return s
}

// start takes the figures that a process starts with.
func (m *meter) start(total Microdollars, api time.Duration, models map[string]ModelUsage) {
	*m = meter{base: total, total: total, billed: total, api: api, models: models, strayCost: m.strayCost, strayCount: m.strayCount}
}

func usages(w map[string]wireUsage) map[string]ModelUsage {
	models := make(map[string]ModelUsage, len(w))
	for name, u := range w {
		models[name] = ModelUsage{
			Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheCreation: u.CacheCreation, Cost: USD(u.CostUSD),
		}
	}
	return models
}

func (u ModelUsage) minus(v ModelUsage) ModelUsage {
	return ModelUsage{
		Input: u.Input - v.Input, Output: u.Output - v.Output,
		CacheRead: u.CacheRead - v.CacheRead, CacheCreation: u.CacheCreation - v.CacheCreation, Cost: u.Cost - v.Cost,
	}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// wireTotals are the figures of get_usage.
type wireTotals struct {
	Session struct {
		TotalCostUSD float64              `json:"total_cost_usd"`
		APIMS        float64              `json:"total_api_duration_ms"`
		ModelUsage   map[string]wireUsage `json:"model_usage"`
	} `json:"session"`
}

var getUsage = map[string]any{"subtype": "get_usage", "skip_behaviors": true}

func readTotals(answer json.RawMessage) (wireTotals, error) {
	var t wireTotals
	if err := decode(answer, &t); err != nil {
		return wireTotals{}, fmt.Errorf("claude: the answer to get_usage: %w", err)
	}
	return t, nil
}

// Cost returns what the process has cost since it started or was last reset.
// It can be asked at any time: in mid-turn the figure rises with each model
// request that has ended, by the tokens of the request under way it lags
// behind. Tests of a model's name, which the CLI makes when the model is
// changed (one token each), are not in it.
func (p *Process) Cost(ctx context.Context) (Microdollars, error) {
	answer, err := p.request(ctx, "get_usage", getUsage)
	if err != nil {
		return 0, err
	}
	t, err := readTotals(answer)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meter.total = USD(t.Session.TotalCostUSD)
	return p.meter.total - p.meter.base, nil
}

// settleCost takes the cost that a process starts with.
func (p *Process) settleCost(ctx context.Context) error {
	answer, err := p.request(ctx, "get_usage", getUsage)
	if err != nil {
		return err
	}
	t, err := readTotals(answer)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meter.start(USD(t.Session.TotalCostUSD), milliseconds(t.Session.APIMS), usages(t.Session.ModelUsage))
	return nil
}
