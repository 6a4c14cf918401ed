package mcp

import (
	"context"
	"fmt"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// status is how the pool stands, and who serves it.
type status struct {
	claudepool.PoolStatus
	Server serverInfo `json:"server"`
}

type serverInfo struct {
	Name          string `json:"name"`
	Version       string `json:"version"`
	ClaudeVersion string `json:"claude_version"`
}

func (o status) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d slots: %d idle, %d busy; tasks: %d running, %d pending, %d in review; %v spent",
		o.TotalSlots, o.IdleSlots, o.BusySlots, o.RunningTasks, o.PendingTasks, o.PendingReviewTasks, o.TotalSpend)
	if o.Assumed > 0 {
		fmt.Fprintf(&b, " (%v of it assumed, for attempts that were cut off)", o.Assumed)
	}
	fmt.Fprintf(&b, ", %v reserved", o.Reserved)
	if o.Budget > 0 {
		fmt.Fprintf(&b, " of %v", o.Budget)
	}
	switch {
	case o.Shutdown:
		b.WriteString("; the pool shuts down and takes no more work")
	case o.Hold != nil:
		fmt.Fprintf(&b, "; nothing starts (%s): %s", o.Hold.Class, o.Hold.Reason)
		if !o.Hold.Until.IsZero() {
			fmt.Fprintf(&b, ", until %s", o.Hold.Until.Format(time.RFC3339))
		}
	case o.Paused:
		b.WriteString("; paused, pool_resume goes on")
	}
	return b.String()
}

type metrics struct{ claudepool.Metrics }

func (o metrics) text() string {
	t := o.Total
	return fmt.Sprintf("%d attempts since %s, %v; %d warm, %d in spares, %d in new processes; %d retries, %d crashes",
		t.Count, o.Since.Format(time.RFC3339), o.Spend, o.Warm, o.Claimed, o.Spawned, o.Retries, o.Crashes)
}

func (s *Server) addStatusTools() {
	add(s, ToolsetCore, tool{
		name: "pool_status", hints: reads, about: "Slots, queue, spending and budget of the pool.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, _ none) (status, error) { return s.status(ctx) })
	add(s, ToolsetCore, tool{
		name: "pool_session_metrics", hints: reads, about: "Spending, tokens and timings since the pool started, by model, outcome, slot and tag.",
	}, func(context.Context, *sdk.CallToolRequest, none) (metrics, error) {
		return metrics{s.pool.Metrics()}, nil
	})
}

func (s *Server) status(ctx context.Context) (status, error) {
	p, err := s.pool.Status(ctx)
	if p.Slots == nil {
		p.Slots = []claudepool.SlotStatus{}
	}
	return status{p, serverInfo{Name: "claudepool", Version: s.opts.Version, ClaudeVersion: p.ClaudeVersion}}, err
}
