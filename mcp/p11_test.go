package mcp_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

// heard collects progress notifications and when they came.
type heard struct {
	mu     sync.Mutex
	at     []time.Time
	params []sdk.ProgressNotificationParams
}

func (h *heard) options() *sdk.ClientOptions {
	return &sdk.ClientOptions{ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.at = append(h.at, time.Now())
		h.params = append(h.params, *r.Params)
	}}
}

// withToken asks for progress.
func withToken(name string, in args) *sdk.CallToolParams {
	p := &sdk.CallToolParams{Name: name, Arguments: in}
	p.SetProgressToken("token")
	return p
}

// later calls a tool on a goroutine of its own.
func later(t *testing.T, ctx context.Context, c *sdk.ClientSession, p *sdk.CallToolParams) func() (*sdk.CallToolResult, error) {
	t.Helper()
	var wg sync.WaitGroup
	var res *sdk.CallToolResult
	var err error
	wg.Go(func() { res, err = c.CallTool(ctx, p) })
	return func() (*sdk.CallToolResult, error) { wg.Wait(); return res, err }
}

// eachProtocol runs a test in a bubble for each version of the protocol.
func eachProtocol(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, protocol) })
		})
	}
}

func TestP11_ProgressComesAtLeastEvery5Seconds(t *testing.T) {
	t.Parallel()
	for tool, in := range map[string]args{
		"pool_run":       {"prompt": "hold"},
		"pool_fan_out":   {"prompts": []string{"hold", "say b", "hold"}},
		"pool_chain":     {"steps": prompts("say a", "hold", "say {previous_output}")},
		"pool_skill_run": {"skill": "held"},
		"pool_auto":      {"prompt": "auto chain say a|hold|say {previous_output}"},
	} {
		eachProtocol(t, func(t *testing.T, protocol string) {
			f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
			addHeld(t, f)
			var h heard
			c := f.connect(t, h.options(), protocol)
			start := time.Now()
			result := later(t, t.Context(), c, withToken(tool, in))
			time.Sleep(3 * time.Minute)
			f.release()
			res, err := result()
			if err != nil || res.IsError || !strings.Contains(text(res), "held") {
				t.Fatalf("%s: %v, %v", tool, res, err)
			}
			end := time.Now()

			h.mu.Lock()
			defer h.mu.Unlock()
			last, value := start, -1.0
			for i, at := range append(slices.Clone(h.at), end) {
				if gap := at.Sub(last); gap > 5*time.Second {
					t.Errorf("%s: no progress for %v", tool, gap)
				}
				last = at
				if i == len(h.params) {
					break
				}
				p := h.params[i]
				if p.Progress <= value || p.Progress > p.Total {
					t.Errorf("%s: progress %v of %v after %v: it must grow and stay within the total", tool, p.Progress, p.Total, value)
				}
				value = p.Progress
			}
			if tool == "pool_fan_out" && (value < 1 || h.params[0].Total != 3) {
				t.Errorf("the last value is %v of %v, though one task was done", value, h.params[0].Total)
			}
			chain := "running s1 (2 of 3), 1 of 3 steps done, $0.001"
			want := map[string]string{
				"pool_run": "running: runs on slot-", "pool_skill_run": "running: runs on slot-",
				"pool_fan_out": "1 of 3 done, 2 running, 0 waiting, $0.00", "pool_chain": chain, "pool_auto": chain,
			}[tool]
			if got := h.params[len(h.params)-2].Message; !strings.HasPrefix(got, want) || !strings.Contains(got, "$0.00") {
				t.Errorf("%s: the message is %q, want %q… and the cost", tool, got, want)
			}
		})
	}
}

func TestP11_WithoutProgressTheAnswerComesAfter50Seconds(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, protocol string) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		f.client = f.connect(t, nil, protocol)

		start := time.Now()
		early := structured[report](t, f.call(t, "pool_run", args{"prompt": "hold"}))
		if took := time.Since(start); took != 50*time.Second {
			t.Errorf("pool_run answered after %v, want 50s", took)
		}
		if early.State != claudepool.StateRunning || early.TaskID == "" || early.Note == "" {
			t.Errorf("pool_run answered %+v, want a running task", early)
		}
		f.release()
		synctest.Wait()
		if got := structured[report](t, f.call(t, "pool_result", args{"task_id": early.TaskID})); got.Output != "held" || !got.Success {
			t.Errorf("the result afterwards is %+v", got)
		}
	})
}

func TestP11_FanOutWithoutProgressAnswersAfter50Seconds(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, protocol string) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		f.client = f.connect(t, nil, protocol)

		start := time.Now()
		early := structured[fannedOut](t, f.call(t, "pool_fan_out", args{"prompts": []string{"say a", "hold", "say c"}}))
		if took := time.Since(start); took != 50*time.Second {
			t.Errorf("answered after %v, want 50s", took)
		}
		if c := early.Census; c.Asked != 3 || c.OK != 2 || c.Unfinished != 1 {
			t.Errorf("the census is %+v, want 2 of 3 and 1 unfinished", c)
		}
		held := early.Results[1]
		if early.Results[0].Output != "a" || held.State != claudepool.StateRunning || early.Results[2].Output != "c" {
			t.Errorf("the results are %+v", early.Results)
		}
		f.release()
		got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{held.TaskID}}))
		if !got.Done || got.Tasks[0].Output != "held" {
			t.Errorf("pool_wait gave %+v", got)
		}
	})
}

func TestP11_FailFastHoldsAfterTheEarlyAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
		early := structured[fannedOut](t, f.call(t, "pool_fan_out", args{"prompts": []string{"hold", "fail", "hold"}, "fail_fast": true}))
		if early.Census.Unfinished != 3 {
			t.Fatalf("the census is %+v", early.Census)
		}
		f.release()
		last := early.Results[2].TaskID
		got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{last}}))
		if got.Tasks[0].State != claudepool.StateCancelled {
			t.Errorf("the task after the failed one is %s, want cancelled", got.Tasks[0].State)
		}
	})
}

func TestP11_ResultIsNotLostWithTheConnection(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, protocol string) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		var h heard
		gone, cut := f.cuttable(t, h.options(), protocol)
		run := later(t, t.Context(), gone, withToken("pool_run", args{"prompt": "hold"}))
		fan := later(t, t.Context(), gone, withToken("pool_fan_out", args{"prompts": []string{"hold"}}))
		time.Sleep(10 * time.Second)
		cut()
		for _, result := range []func() (*sdk.CallToolResult, error){run, fan} {
			if res, err := result(); err == nil {
				t.Errorf("a closed connection answered %v", res)
			}
		}
		time.Sleep(10 * time.Second)
		tasks := structured[list](t, f.call(t, "pool_list_tasks", args{"state": "running"})).Tasks
		if len(tasks) != 2 {
			t.Fatalf("%d tasks run on after the connection closed, want 2", len(tasks))
		}
		f.release()
		got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{tasks[0].TaskID, tasks[1].TaskID}}))
		for _, r := range got.Tasks {
			if r.Output != "held" || r.Outcome != claudepool.OutcomeOK {
				t.Errorf("the result is %+v", r)
			}
		}
	})
}

// A person who cancels wants the work to stop; a client that ran out of
// patience still wants its result.
func TestP11_CancellationCancelsButATimeoutDoesNot(t *testing.T) {
	t.Parallel()
	for tool, in := range map[string]args{
		"pool_run":       {"prompt": "hold"},
		"pool_fan_out":   {"prompts": []string{"hold", "hold"}},
		"pool_chain":     {"steps": prompts("hold", "hold")},
		"pool_skill_run": {"skill": "held"},
		"pool_auto":      {"prompt": "auto chain hold|say x"},
		"pool_route":     {"prompt": "auto slow single"},
	} {
		for why, want := range map[string]claudepool.TaskState{
			"person":  claudepool.StateCancelled,
			"timeout": claudepool.StateRunning,
		} {
			eachProtocol(t, func(t *testing.T, protocol string) {
				f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
				addHeld(t, f)
				f.client = f.connect(t, nil, protocol)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				result := later(t, ctx, f.client, &sdk.CallToolParams{Name: tool, Arguments: in})
				if why == "person" {
					time.Sleep(10 * time.Second)
					cancel()
				}
				if _, err := result(); err == nil {
					t.Fatal("the call succeeded")
				}
				time.Sleep(5 * time.Second)
				open := 0
				for _, task := range structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks {
					if task.State == claudepool.StateCompleted {
						continue // the decision of pool_auto
					}
					open++
					if task.State != want {
						t.Errorf("%s, %s: the task is %s, want %s", tool, why, task.State, want)
					}
				}
				if open == 0 {
					t.Errorf("%s, %s: there is no task", tool, why)
				}
				f.release()
			})
		}
	}
}

func TestP11_WaitIsShortEvenWithProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		id := structured[report](t, f.call(t, "pool_submit", args{"prompt": "hold"})).TaskID
		start := time.Now()
		res, err := f.client.CallTool(t.Context(), withToken("pool_wait", args{"task_ids": []claudepool.TaskID{id}, "timeout_secs": 7.5}))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 7500*time.Millisecond {
			t.Errorf("answered after %v, want 7.5s", took)
		}
		if got := structured[waited](t, res); got.Done || got.Tasks[0].State != claudepool.StateRunning {
			t.Errorf("got %+v", got)
		}
	})
}

func TestCloseAnswersCallsInProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
		var results []func() (*sdk.CallToolResult, error)
		for range 50 {
			results = append(results, later(t, t.Context(), f.client, withToken("pool_run", args{"prompt": "hold"})))
		}
		time.Sleep(10 * time.Second)
		if err := f.server.Close(); err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			res, err := result()
			if err != nil {
				t.Fatalf("a call was not answered: %v", err)
			}
			got := structured[report](t, res)
			if r, err := f.pool.Task(t.Context(), got.TaskID); err != nil || r.State != got.State || r.State.Terminal() {
				t.Fatalf("the answer says %s, the task is %s (%v); closing the server must not end it", got.State, r.State, err)
			}
		}
	})
}

// A client that asks for progress and does not read must not hold Close up.
func TestCloseDoesNotHangOnAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		write, _ := f.raw(t)
		write(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"pool_run","arguments":{"prompt":"hold"},"_meta":{"progressToken":7}}}`)
		time.Sleep(time.Minute)
		start := time.Now()
		if err := f.server.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}
