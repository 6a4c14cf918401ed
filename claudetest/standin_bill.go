package claudetest

import (
	"strings"
)

// row is the use of one model, in the CLI's words.
type row struct {
	Input         int `json:"inputTokens"`
	Output        int `json:"outputTokens"`
	CacheRead     int `json:"cacheReadInputTokens"`
	CacheCreation int `json:"cacheCreationInputTokens"`
	Micro         int `json:"microdollars"`
}

// bill is what a session has cost.
type bill struct {
	Models map[string]row `json:"models"`
	APIms  int            `json:"apiMs"`
	since  map[string]row // the last result
}

// price returns the microdollars for a token of input and of output. They are
// the list prices, so that a stand-in costs what the CLI would say.
func price(model string) (in, out int) {
	switch {
	case strings.Contains(model, "opus"):
		return 4, 20
	case strings.Contains(model, "haiku"):
		return 1, 5
	}
	return 2, 10
}

func (b *bill) add(model string, u Usage) {
	in, out := price(model)
	// A token written to the cache costs 1.25 times, one read from it a tenth.
	micro := u.Input*in + u.Output*out + u.CacheCreation*in*5/4 + u.CacheRead*in/10
	plus := func(m map[string]row) map[string]row {
		if m == nil {
			m = map[string]row{}
		}
		r := m[model]
		m[model] = row{r.Input + u.Input, r.Output + u.Output, r.CacheRead + u.CacheRead, r.CacheCreation + u.CacheCreation, r.Micro + micro}
		return m
	}
	b.Models, b.since = plus(b.Models), plus(b.since)
}

func (b *bill) dollars() float64 {
	total := 0
	for _, r := range b.Models {
		total += r.Micro
	}
	return float64(total) / 1e6
}

func rows(m map[string]row) obj {
	out := obj{}
	for model, r := range m {
		out[model] = obj{"inputTokens": r.Input, "outputTokens": r.Output, "cacheReadInputTokens": r.CacheRead, "cacheCreationInputTokens": r.CacheCreation,
			"webSearchRequests": 0, "costUSD": float64(r.Micro) / 1e6, "contextWindow": 200000, "maxOutputTokens": 32000, "thinkingTokens": 0,
			"canonicalModel": model, "provider": "firstParty", "costBasis": "list"}
	}
	return out
}
