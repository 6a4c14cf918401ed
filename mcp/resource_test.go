package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

// read reads a resource that must be there.
func (f *fixture) read(t *testing.T, uri string) *sdk.ResourceContents {
	t.Helper()
	res, err := f.client.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri})
	if err != nil {
		t.Fatalf("%s: %v", uri, err)
	}
	return res.Contents[0]
}

func TestResources(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Budget: claudepool.USD(2), Transcripts: t.TempDir()}, mcp.Options{MaxOutput: 10})
	f.call(t, "context_set", args{"key": "k", "value": "v"})
	id := string(structured[report](t, f.call(t, "pool_run", args{"prompt": "long 50"})).TaskID)

	for uri, want := range map[string]map[string]any{
		"pool://status":        {"total_slots": 2.0},
		"pool://budget":        {"spent_microdollars": 1000.0, "limit_microdollars": 2e6, "left_microdollars": 2e6 - 1000, "window": "run"},
		"pool://context":       {"k": "v"},
		"pool://slots/slot-1":  {"id": "slot-1"},
		"pool://tasks/" + id:   {"task_id": id, "state": "completed", "owner": "stdio", "session": "fresh"},
		"pool://results/" + id: {"task_id": id, "output": strings.Repeat("x", 50), "success": true},
	} {
		c := f.read(t, uri)
		var got map[string]any
		if err := json.Unmarshal([]byte(c.Text), &got); err != nil || c.MIMEType != "application/json" {
			t.Fatalf("%s is %s %q: %v", uri, c.MIMEType, c.Text, err)
		}
		for k, v := range want {
			if diff := cmp.Diff(v, got[k]); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", uri, k, diff)
			}
		}
	}
	var slots []claudepool.SlotStatus
	if err := json.Unmarshal([]byte(f.read(t, "pool://slots").Text), &slots); err != nil || len(slots) != 2 {
		t.Errorf("pool://slots has %d slots, %v", len(slots), err)
	}
	if c := f.read(t, "pool://transcripts/"+id); c.MIMEType != "application/x-ndjson" {
		t.Errorf("the transcript is %s", c.MIMEType)
	}
}

func TestUnknownResourcesAreNotFound(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	id := string(structured[report](t, f.call(t, "pool_run", args{"prompt": "say x"})).TaskID)
	for _, uri := range []string{
		"pool://nothing", "pool://slots/slot-99", "pool://slots/", "pool://tasks/nope", "pool://results/..%2F..%2Fetc%2Fpasswd",
		"pool://tasks/a%00b", "pool://transcripts/" + strings.Repeat("a", 200),
		"pool://transcripts/" + id, // this pool keeps none
	} {
		_, err := f.client.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri})
		var wire *jsonrpc.Error
		if !errors.As(err, &wire) || wire.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("%s: %v, want not found", uri, err)
		}
	}
}

func TestSubscribersHearOfChanges(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
				var mu sync.Mutex
				updated := map[string]int{}
				c := f.connect(t, &sdk.ClientOptions{ResourceUpdatedHandler: func(_ context.Context, r *sdk.ResourceUpdatedNotificationRequest) {
					mu.Lock()
					defer mu.Unlock()
					updated[r.Params.URI]++
				}}, protocol)
				take := func() map[string]int {
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					got := updated
					updated = map[string]int{}
					return got
				}
				id := string(structured[report](t, f.call(t, "pool_submit", args{"prompt": "hold"})).TaskID)
				uris := []string{"pool://status", "pool://slots", "pool://slots/slot-0", "pool://budget", "pool://context", "pool://tasks/" + id, "pool://results/" + id}
				for _, uri := range uris {
					if err := c.Subscribe(t.Context(), &sdk.SubscribeParams{URI: uri}); err != nil {
						t.Fatalf("%s: %v", uri, err)
					}
				}
				take()
				if got := take(); len(got) != 0 {
					t.Errorf("updates while nothing happened: %v", got)
				}
				f.release()
				got := take()
				for _, uri := range uris {
					if uri != "pool://context" && (got[uri] < 1 || got[uri] > 3) {
						t.Errorf("%s: %d updates at the end of a task, want 1 to 3", uri, got[uri])
					}
				}
				if got["pool://context"] != 0 {
					t.Error("an update of pool://context that did not change")
				}
				f.call(t, "context_set", args{"key": "k", "value": "v"})
				if diff := cmp.Diff(map[string]int{"pool://context": 1}, take()); diff != "" {
					t.Errorf("after context_set (-want +got):\n%s", diff)
				}
				if err := c.Unsubscribe(t.Context(), &sdk.UnsubscribeParams{URI: "pool://context"}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				f.call(t, "context_delete", args{"key": "k"})
				if got := take(); len(got) != 0 {
					t.Errorf("after unsubscribing: %v", got)
				}
			})
		})
	}
}

func TestManyChangesAreToldTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		var told atomic.Int32
		c := f.connect(t, &sdk.ClientOptions{ResourceUpdatedHandler: func(context.Context, *sdk.ResourceUpdatedNotificationRequest) { told.Add(1) }}, "")
		if err := c.Subscribe(t.Context(), &sdk.SubscribeParams{URI: "pool://status"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		told.Store(0)
		start := time.Now()
		for range 20 {
			f.call(t, "pool_run", args{"prompt": "say x"})
		}
		most := int32(time.Since(start)/(250*time.Millisecond)) + 1
		time.Sleep(time.Second)
		if n := told.Load(); n < 1 || n > most {
			t.Errorf("20 tasks made %d updates, want 1 to %d", n, most)
		}
	})
}

func TestSubscribingToNothingIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	c := f.connect(t, nil, "2025-11-25")
	for _, uri := range []string{"pool://nothing", "file:///etc/passwd", "pool://tasks/..%2Fx"} {
		if err := c.Subscribe(t.Context(), &sdk.SubscribeParams{URI: uri}); err == nil {
			t.Errorf("%s was accepted", uri)
		}
	}
}

func TestIDsAreCompleted(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 3}, mcp.Options{})
	id := string(structured[report](t, f.call(t, "pool_run", args{"prompt": "say x"})).TaskID)
	for _, c := range []struct {
		template, argument, typed string
		want                      []string
	}{
		{"pool://slots/{id}", "id", "slot", []string{"slot-0", "slot-1", "slot-2"}},
		{"pool://slots/{id}", "id", "slot-2", []string{"slot-2"}},
		{"pool://results/{task_id}", "task_id", "ta", []string{id}},
		{"pool://results/{task_id}", "task_id", "x", []string{}},
		{"pool://results/{task_id}", "other", "", []string{}},
	} {
		res, err := f.client.Complete(t.Context(), &sdk.CompleteParams{
			Ref:      &sdk.CompleteReference{Type: "ref/resource", URI: c.template},
			Argument: sdk.CompleteParamsArgument{Name: c.argument, Value: c.typed},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(slices.Values(res.Completion.Values))
		if diff := cmp.Diff(c.want, slices.Clip(append([]string{}, got...))); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c, diff)
		}
	}
}
