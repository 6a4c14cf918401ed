package sqlitestore_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/sqlitestore"
)

// fill puts one of everything into a store: the last three hours, and a day long
// before.
func fill(t *testing.T, s claudepool.PoolStore, now time.Time) {
	t.Helper()
	tags := func(tags ...string) edit { return func(r *claudepool.TaskRecord) { r.Task.Tags = tags } }
	says := func(text string) func(*claudepool.Transition) {
		return func(tr *claudepool.Transition) { tr.Result = &claudepool.TaskResult{Output: text} }
	}

	old := user{s, t, now.Add(-72 * time.Hour)}
	old.create("a-old", tags("docs"))
	old.after(10*time.Minute).end(old.after(time.Minute).claim(), claudepool.OutcomeOK, 50_000, says("long ago"))

	u := user{s, t, now.Add(-3 * time.Hour)}
	u.create("b-done", tags("docs", "ci"), func(r *claudepool.TaskRecord) {
		r.Task.Overrides = claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{Model: "haiku"}}
		r.Task.IdempotencyKey = "key"
	})
	u.after(5*time.Minute).end(u.after(time.Minute).claim(), claudepool.OutcomeOK, 20_000, says("it's <done> 100%"))
	u.create("c-retried", tags("ci"))
	u.end(u.claim(), claudepool.OutcomeStalled, 5_000, func(tr *claudepool.Transition) {
		tr.To, tr.CountRetry = claudepool.StatePending, true
		tr.Attempt.Message, tr.Attempt.Estimated, tr.Attempt.Assumed = "it fell silent", true, 4_000
	})
	u.after(2*time.Minute).end(u.after(time.Minute).claim(), claudepool.OutcomeAgentError, 10_000, func(tr *claudepool.Transition) {
		tr.Result = &claudepool.TaskResult{Failure: &claudepool.Failure{Class: claudepool.OutcomeAgentError, Message: "it gave up"}}
	})
	u.create("d-reviewed")
	u.after(30*time.Second).end(u.claim(), claudepool.OutcomeOK, 1_000, says("please look"), func(tr *claudepool.Transition) {
		tr.To = claudepool.StatePendingReview
		tr.Attempt.Models = map[string]claude.ModelUsage{"haiku": {Input: 10, Output: 5}}
	})

	u.create("c1", func(r *claudepool.TaskRecord) {
		r.Chain = &claudepool.Chain{Steps: []claudepool.ChainStep{
			{Name: "plan", Action: claudepool.StepAction{Prompt: "plan it"}}, {Name: "build", Action: claudepool.StepAction{Prompt: "build it"}},
		}}
	})
	u.claim(chains)
	step := func(r *claudepool.TaskRecord) { r.Task.Parent = "c1" }
	u.create("c1.plan", step)
	u.end(u.claim(), claudepool.OutcomeOK, 3_000, says("a plan"))
	u.create("c1.build", step)
	build := u.after(time.Minute).claim()
	if build.ID != "c1.build" { // and runs on
		t.Fatalf("claimed %s", build.ID)
	}
	if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: build.ID, Fence: build.Fence, Asked: true}, u.now.Add(2*time.Minute), 0); err != nil {
		t.Fatal(err)
	}

	u.create("e-pinned", func(r *claudepool.TaskRecord) { r.Task.Role = "reviewer" })
	u.create("f-later", func(r *claudepool.TaskRecord) { r.NotBefore = now.Add(time.Hour) })
	u.create("g-first", func(r *claudepool.TaskRecord) { r.Task.Priority = 5 })
	u.end(u.create("h-cancelled"), claudepool.OutcomeCancelled, 0)

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.PutSlot(t.Context(), claudepool.SlotRecord{Instance: "pool-1", ID: "slot-0", Role: "builder", State: claudepool.SlotBusy, PID: 77, Updated: u.now})
	must(err)
	must(s.PutInstance(t.Context(), claudepool.InstanceRecord{ID: "pool-1", Machine: "box", PID: 76, Process: "p", Started: u.now, Seen: now}))
	must(s.SetContext(t.Context(), "branch", "main"))
	must(s.SendMessage(t.Context(), claudepool.Message{ID: "m1", From: "coordinator", To: "slot-0", Content: "hello", Sent: u.now}))
	must(s.Charge(t.Context(), now.Add(-72*time.Hour), 1_000, "a turn that nobody asked for"))
}

// noon is a time at which nothing in a filled store falls on another day.
var noon = time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC)

func TestViews(t *testing.T) {
	t.Parallel()
	s := openNew(t, quick)
	fill(t, s, noon)
	db := raw(t, s.Path())
	for name, c := range map[string]struct {
		query string
		want  []string
	}{
		"v_tasks": {`SELECT id, state, outcome, kind, owner, prompt, tags, model, dollars, attempts, retries, submitted, started, ended, queued_seconds, ran_seconds, total_seconds, slot, idempotency_key, output, failure
				FROM v_tasks WHERE id IN ('b-done', 'c-retried', 'g-first') ORDER BY id`, []string{
			"b-done|completed|ok|task|go|do b-done|ci, docs|haiku|0.02|1|0|2026-03-04T09:00:00.000Z|2026-03-04T09:01:00.000Z|2026-03-04T09:05:00.000Z|60|240|300|slot-0|key|it's <done> 100%|<nil>",
			"c-retried|failed|agent_error|task|go|do c-retried|ci|<nil>|0.015|2|1|2026-03-04T09:00:00.000Z|2026-03-04T09:01:00.000Z|2026-03-04T09:02:00.000Z|0|60|120|slot-0|<nil>||it gave up",
			"g-first|pending|<nil>|task|go|do g-first|<nil>|<nil>|0|0|0|2026-03-04T09:00:00.000Z|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>",
		}},
		"v_tasks has all": {"SELECT kind, count(*) FROM v_tasks GROUP BY kind ORDER BY kind", []string{"chain|1", "step|2", "task|8"}},
		"v_chains":        {"SELECT id, state, steps, step_names, step_tasks, step_tasks_completed, dollars, ended FROM v_chains", []string{"c1|running|2|plan, build|2|1|0.003|<nil>"}},
		"v_steps":         {"SELECT chain, step, id, state, parent FROM v_steps ORDER BY id", []string{"c1|build|c1.build|running|c1", "c1|plan|c1.plan|completed|c1"}},
		"v_attempts": {"SELECT * FROM v_attempts WHERE task = 'c-retried' ORDER BY fence", []string{
			"c-retried|1|stalled|0.005|1|0.004|0|slot-0|pool-1|<nil>|2026-03-04T09:00:00.000Z|2026-03-04T09:00:00.000Z|it fell silent",
			"c-retried|2|agent_error|0.01|0|0|0|slot-0|pool-1|<nil>|2026-03-04T09:01:00.000Z|2026-03-04T09:02:00.000Z|<nil>",
		}},
		"v_running": {"SELECT id, chain, instance, slot, asked, since, lease_until, machine, pid FROM v_running ORDER BY id", []string{
			"c1|1|pool-1|slot-0|0|2026-03-04T09:00:00.000Z|2026-03-04T09:01:00.000Z|box|76",
			"c1.build|0|pool-1|slot-0|1|2026-03-04T09:01:00.000Z|2026-03-04T09:02:00.000Z|box|76",
		}},
		"v_queue": {"SELECT rank, id, waits_for, not_before FROM v_queue", []string{
			"1|g-first|a slot|<nil>", "2|e-pinned|a slot with role reviewer|<nil>", "3|f-later|its earliest start|2026-03-04T13:00:00.000Z",
		}},
		"v_spend_by_day": {"SELECT * FROM v_spend_by_day", []string{"2026-03-04|5|0.039|0.004", "2026-03-01|1|0.051|0"}},
		"v_slots":        {"SELECT * FROM v_slots", []string{"pool-1|slot-0|<nil>|builder|<nil>|busy|77|box|2026-03-04T09:00:00.000Z"}},
		"v_instances":    {"SELECT id, machine, pid, seen, slots, running FROM v_instances", []string{"pool-1|box|76|2026-03-04T12:00:00.000Z|1|2"}},
		"v_messages":     {"SELECT * FROM v_messages", []string{"slot-0|coordinator|hello|2026-03-04T09:00:00.000Z|m1"}},
		"v_context":      {"SELECT * FROM v_context", []string{"branch|main"}},
		"v_reviews":      {"SELECT id, output, dollars, rejections, waits_since FROM v_reviews", []string{"d-reviewed|please look|0.001|0|2026-03-04T09:00:30.000Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, table(t, db, c.query)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.query, diff)
			}
		})
	}
}

// What the page about the store asks has the answer that it should have.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	s := openNew(t, quick)
	fill(t, s, time.Now())
	db := raw(t, s.Path())
	want := [][]string{
		{"b-done|ok|0.02|240|do b-done", "c-retried|agent_error|0.015|60|do c-retried", "c1.plan|ok|0.003|0|do c1.plan", "d-reviewed|ok|0.001|30|do d-reviewed", "h-cancelled|cancelled|0|<nil>|do h-cancelled"},
		{"docs|2|0.07", "ci|2|0.035"},
		{"a-old|540|ok", "b-done|240|ok", "c-retried|60|agent_error"},
		{"agent_error|1|it gave up"},
		{"agent_error|1|0.01", "stalled|1|0.005"},
		nil, // depends on the hour
		{"pool-1|slot-0|c1.build|do c1.build", "pool-1|slot-0|c1|do c1"},
		{"1|g-first|a slot", "2|e-pinned|a slot with role reviewer", "3|f-later|its earliest start"},
		{"c1|running|1 of 2|0.003"},
		{"build|running|<nil>", "plan|completed|a plan"},
		{"d-reviewed|please look"},
	}
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(page, -1)
	if len(queries) != len(want) {
		t.Fatalf("the page has %d queries, this test knows %d", len(queries), len(want))
	}
	for i, q := range queries {
		got := table(t, db, string(q[1]))
		if i == 0 || i == 6 { // several end or run at the same time
			slices.Sort(got)
		}
		if want[i] == nil && len(got) == 1 {
			continue
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("%s(-want +got):\n%s", q[1], diff)
		}
	}
}

// The page names every view, and no other.
func TestDocumentedViews(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile(`(?m)^\| (v_\w+) \|`).FindAllSubmatch(page, -1) {
		named = append(named, string(m[1]))
	}
	slices.Sort(named)
	s := openNew(t, sqlitestore.Options{})
	if diff := cmp.Diff(table(t, raw(t, s.Path()), "SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name"), named); diff != "" {
		t.Errorf("views in the file and on the page (-file +page):\n%s", diff)
	}
}
