package storetest_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/claudepool/claudepool"
)

// faults are ways in which a store can be wrong, and the test that has to notice.
var faults = map[string]struct {
	test string // group/name, as Run names them
	make func(claudepool.PoolStore) claudepool.PoolStore
}{
	"keeps the slots of a forgotten pool": {
		"instances/a pool that is forgotten takes its slots with it, and no others",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &census{PoolStore: s, forget: func(s claudepool.PoolStore, id string) error {
				slots, err := s.Slots(context.Background())
				if err != nil {
					return err
				}
				if err := s.DeleteInstance(context.Background(), id); err != nil {
					return err
				}
				for _, r := range slots {
					if r.Version = 0; r.Instance == id {
						if _, err := s.PutSlot(context.Background(), r); err != nil {
							return err
						}
					}
				}
				return nil
			}}
		},
	},
	"gives up the claims of a forgotten pool": {
		"instances/what a forgotten pool has claimed stays claimed",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &census{PoolStore: s, forget: func(s claudepool.PoolStore, id string) error {
				for r, err := range s.Tasks(context.Background(), claudepool.TaskFilter{States: []claudepool.TaskState{claudepool.StateRunning}}) {
					if err != nil {
						return err
					}
					if _, err := s.Transition(context.Background(), claudepool.Transition{Task: r.ID, From: r.State, Fence: r.Fence, To: claudepool.StatePending}); err != nil {
						return err
					}
				}
				return s.DeleteInstance(context.Background(), id)
			}}
		},
	},
	"keeps the first that it hears of a pool": {
		"instances/a pool is stored in the place of what was known of it",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &census{PoolStore: s, put: func(s claudepool.PoolStore, r claudepool.InstanceRecord) error {
				known, err := s.Instances(context.Background())
				if err != nil || slices.ContainsFunc(known, func(k claudepool.InstanceRecord) bool { return k.ID == r.ID }) {
					return err
				}
				return s.PutInstance(context.Background(), r)
			}}
		},
	},
	"ignores the fence of a transition": {
		"transition/only what the state machine allows is done",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				tr.Fence = currentFence(s, tr.Task, tr.Fence)
			}}
		},
	},
	"ignores the fence of an extension": {
		"extend/a lease that has run out can be extended until somebody takes over",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, extend: func(s claudepool.PoolStore, ref *claudepool.ClaimRef) {
				ref.Fence = currentFence(s, ref.Task, ref.Fence)
			}}
		},
	},
	"settles an attempt each time it is reported": {
		"fence/an attempt is settled once however often it is reported",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				if r, err := s.Task(context.Background(), tr.Task); err == nil && tr.Attempt != nil && r.Claim == nil {
					_ = s.Charge(context.Background(), tr.At, tr.Attempt.Cost, "again")
				}
			}}
		},
	},
	"forgets late attempts": {
		"fence/a late result of a lost claim is recorded and paid, and changes no state",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				if r, err := s.Task(context.Background(), tr.Task); err == nil && r.State != claudepool.StateRunning {
					tr.Attempt = nil
				}
			}}
		},
	},
	"overwrites a terminal state": {
		"final/nothing changes a task that has ended",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &forgetful{PoolStore: s}
		},
	},
	"uses up a retry for a crash": {
		"transition/crashes and retries are counted apart",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) {
				tr.CountRetry = tr.CountRetry || tr.CountCrash
			}}
		},
	},
	"releases the reservation of a cancelled task at once": {
		"money/a cancelled task keeps its reservation until its attempt is recorded",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) {
				if tr.To == claudepool.StateCancelled && tr.Attempt == nil {
					tr.Attempt = &claudepool.Attempt{}
				}
			}}
		},
	},
	"looks at the money only when it is spent": {
		"money/over all who claim at once spent and reserved stay within the limit",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(_ claudepool.PoolStore, r *claudepool.ClaimRequest) { r.Budget.Limit *= 3 }}
		},
	},
	"counts what is outside of the window": {
		"money/a window counts what ended at its start or later",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, ledger: func(q *claudepool.LedgerQuery) { q.Since = time.Time{} }}
		},
	},
	"gives each task an allowance of its own": {
		"allowance/tasks with the same allowance share it",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) {
				if a := r.Task.Allowance; a != nil {
					r.Task.Allowance = &claudepool.Allowance{ID: a.ID + string(r.ID), Limit: a.Limit}
				}
			}}
		},
	},
	"starts tasks early": {
		"claim/a task waits for its earliest start, and the next one is told",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(_ claudepool.PoolStore, r *claudepool.ClaimRequest) { r.Now = r.Now.Add(time.Second) }}
		},
	},
	"takes pinned tasks for anybody": {
		"claim/a pinned task goes only to who accepts its pin",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(_ claudepool.PoolStore, r *claudepool.ClaimRequest) {
				r.Accepts = func(_, _ string) bool { return true }
			}}
		},
	},
	"ignores lanes": {
		"lane/of the tasks of a lane one has a claim at a time",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) { r.Lane = "" }}
		},
	},
	"ignores the limits of tags": {
		"tag/a task needs room for each of its tags",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(_ claudepool.PoolStore, r *claudepool.ClaimRequest) { r.TagLimits = nil }}
		},
	},
	"takes the lowest priority first": {
		"claim/the highest priority goes first, then the smallest id",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) { r.Task.Priority = -r.Task.Priority }}
		},
	},
	"knows no owners of keys": {
		"create/an idempotency key belongs to its owner and its prompt",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) { r.Task.Owner = "go" }}
		},
	},
	"gives everybody the same memory": {
		"create/what was put in cannot be changed from outside",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &sharing{s, map[claudepool.TaskID]claudepool.TaskRecord{}}
		},
	},
	"does not look for keys": {
		"list/an idempotency key selects what was submitted with it",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, tasks: func(ctx context.Context, s claudepool.PoolStore, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
				f.IdempotencyKey = ""
				return s.Tasks(ctx, f)
			}}
		},
	},
	"lists what is, not what was": {
		"list/a listing shows tasks as they were when it began",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, tasks: func(ctx context.Context, s claudepool.PoolStore, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
				return func(yield func(claudepool.TaskRecord, error) bool) {
					for r, err := range s.Tasks(ctx, f) {
						if err == nil {
							r, err = s.Task(ctx, r.ID)
						}
						if !yield(r, err) {
							return
						}
					}
				}
			}}
		},
	},
	"keeps quiet about lost changes": {
		"watch/a slow reader holds nobody up, is told that it lost changes, and then finds them",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, watch: func(in <-chan claudepool.Change) <-chan claudepool.Change {
				out := make(chan claudepool.Change)
				go func() {
					defer close(out)
					for c := range in {
						if c.Lost {
							return
						}
						out <- c
					}
				}()
				return out
			}}
		},
	},
	"works for who has gone": {
		"step/a context that has ended makes every step fail without effect",
		func(s claudepool.PoolStore) claudepool.PoolStore { return &faulty{PoolStore: s, deadCtx: true} },
	},
	"goes on when it is closed": {
		"step/a closed store does nothing more",
		func(s claudepool.PoolStore) claudepool.PoolStore { return undead{s} },
	},
	"gives chains to slots": {
		"chain/a chain is claimed as a chain alone, and a task as a task",
		func(s claudepool.PoolStore) claudepool.PoolStore { return &muddled{s, false} },
	},
	"gives tasks to who runs chains": {
		"chain/a chain is claimed as a chain alone, and a task as a task",
		func(s claudepool.PoolStore) claudepool.PoolStore { return &muddled{s, true} },
	},
	"counts the tags of chains": {
		"chain/limits of tags neither hold up a chain nor count it",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(s claudepool.PoolStore, r *claudepool.ClaimRequest) {
				limits := map[string]int{}
				for tag, n := range r.TagLimits {
					limits[tag] = n - len(runningChains(s, tag))
				}
				r.TagLimits = limits
			}}
		},
	},
	"reserves money for chains": {
		"chain/a chain reserves nothing, and needs nothing",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(s claudepool.PoolStore, r *claudepool.ClaimRequest) {
				if !r.Chains {
					r.Budget.Limit -= claudepool.Microdollars(len(runningChains(s, "")))
				}
			}}
		},
	},
	"does not look at what is asked with a key": {
		"create/the same idempotency key must ask for the same steps",
		func(s claudepool.PoolStore) claudepool.PoolStore { return &credulous{s} },
	},
	"counts no rejections": {
		"transition/rejections are counted apart, and the last feedback stays",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) {
				tr.CountRejection = false
			}}
		},
	},
	"loses the feedback": {
		"transition/rejected work goes back to the queue with its session",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) { tr.Feedback = "" }}
		},
	},
	"loses the work that was rejected for good": {
		"transition/rejected for good, the task keeps the work",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) {
				if tr.From == claudepool.StatePendingReview && tr.Result == nil {
					tr.Result = &claudepool.TaskResult{}
				}
			}}
		},
	},
	"leaves the cost of steps out of the result": {
		"transition/what the steps of a result have cost is added to its cost alone",
		func(s claudepool.PoolStore) claudepool.PoolStore { return &stingy{s} },
	},
	"pays for steps again": {
		"transition/what the steps of a result have cost is added to its cost alone",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				if tr.Result != nil {
					for _, step := range tr.Result.Steps {
						_ = s.Charge(context.Background(), tr.At, step.Cost, "again")
					}
				}
			}}
		},
	},
	"gives messages in the order of their sending": {
		"messages/messages come by id, however they were sent",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &postman{PoolStore: s, list: func(all []claudepool.Message) []claudepool.Message {
				slices.Reverse(all)
				return all
			}}
		},
	},
	"loses messages": {
		"messages/reading leaves messages, taking removes them",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &postman{PoolStore: s, send: func(m claudepool.Message) (claudepool.Message, bool) { return m, m.ID != "m2" }}
		},
	},
	"delivers messages elsewhere": {
		"messages/each address has its own messages",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &postman{PoolStore: s, send: func(m claudepool.Message) (claudepool.Message, bool) {
				if m.To == "slot-1" {
					m.To = "slot-0"
				}
				return m, true
			}}
		},
	},
	"keeps messages that were taken": {
		"messages/reading leaves messages, taking removes them",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &postman{PoolStore: s, take: func(s claudepool.PoolStore, to string, _ []string) ([]claudepool.Message, error) {
				return s.Messages(context.Background(), to)
			}}
		},
	},
	"takes more messages than were named": {
		"messages/what is named is taken, and nothing else",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &postman{PoolStore: s, take: func(s claudepool.PoolStore, to string, _ []string) ([]claudepool.Message, error) {
				return s.TakeMessages(context.Background(), to, nil)
			}}
		},
	},
}
