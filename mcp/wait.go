package mcp

import (
	"context"
	"fmt"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// ending is why a call no longer waits.
type ending int

const (
	ended     ending = iota // what it waited for has come
	impatient               // the caller wants an answer now
	cancelled               // the caller takes the call back
	gone                    // the connection, or the server, is closed
)

// progress is how far the work of a call has come.
type progress struct {
	done, total int
	message     string
}

// attend waits until done is closed, but no longer than limit (0: no limit), and
// reports progress if the caller has asked for it. A caller who has not, and
// set no limit, is kept for [patience] at most.
func (s *Server) attend(ctx context.Context, req *sdk.CallToolRequest, limit time.Duration, done <-chan struct{}, look func(context.Context) progress) ending {
	token := req.Params.GetProgressToken()
	if token == nil && limit == 0 {
		limit = patience
	}
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	var tick <-chan time.Time
	var tell func(progress)
	if token != nil {
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		tick = t.C
		var hush func()
		tell, hush = s.progress(ctx, req.Session, token)
		defer hush()
		tell(look(ctx))
	}
	for {
		select {
		case <-done:
			return ended
		case <-tick:
			tell(look(ctx))
		case <-late:
			return impatient
		case <-s.ctx.Done():
			return gone
		case <-ctx.Done():
			// Time-outs never come this far (see patientTransport), and a
			// connection that ends gives its error as the cause.
			if context.Cause(ctx) == context.Canceled {
				return cancelled
			}
			return gone
		}
	}
}

// attendTask waits until a task has ended or needs the coordinator, as long as
// the caller does, and cancels it if the caller takes the call back.
func (s *Server) attendTask(ctx context.Context, req *sdk.CallToolRequest, id claudepool.TaskID) error {
	ids := []claudepool.TaskID{id}
	done, stop, err := s.when(true, ids)
	if err != nil {
		return err
	}
	defer stop()
	if s.attend(ctx, req, 0, done, s.look(ids)) == cancelled {
		_, err = s.pool.Cancel(context.WithoutCancel(ctx), id)
	}
	return err
}

// progress returns a function that reports progress to a session, and one that
// ends it.
//
// Sending is a plain write that waits for a client which does not read. It is
// therefore done on a goroutine of its own, and what could not be sent in time
// is replaced by what came after it.
func (s *Server) progress(ctx context.Context, session *sdk.ServerSession, token any) (tell func(progress), hush func()) {
	start := time.Now()
	latest := make(chan *sdk.ProgressNotificationParams, 1)
	var sending sync.WaitGroup
	sending.Go(func() {
		for p := range latest {
			if err := session.NotifyProgress(ctx, p); err != nil {
				s.log.DebugContext(ctx, "progress was not sent", "err", err)
			}
		}
	})
	tell = func(p progress) {
		// The protocol wants the value to grow with each notification, also
		// while nothing gets done: the fraction is the time passed. The whole
		// is reached with the answer.
		passed := time.Since(start).Seconds()
		did := min(p.done, max(p.total-1, 0))
		n := &sdk.ProgressNotificationParams{
			ProgressToken: token, Message: p.message,
			Progress: float64(did) + 0.9*passed/(passed+60), Total: float64(p.total),
		}
		select {
		case <-latest:
		default:
		}
		latest <- n // there is room: nobody else sends
	}
	return tell, func() {
		close(latest)
		sending.Wait()
	}
}

// when closes the returned channel once a number of the tasks, all or one, have
// ended or wait for the coordinator. The wait ends with stop.
func (s *Server) when(all bool, ids []claudepool.TaskID) (done <-chan struct{}, stop func(), err error) {
	ctx, cancel := context.WithCancel(s.ctx)
	closed := make(chan struct{})
	err = s.background(func() {
		defer close(closed)
		if all {
			for _, id := range ids {
				if _, err := s.pool.WaitFor(ctx, id, settled); err != nil {
					return
				}
			}
			return
		}
		var each sync.WaitGroup
		for _, id := range ids {
			each.Go(func() {
				if _, err := s.pool.WaitFor(ctx, id, settled); err == nil {
					cancel()
				}
			})
		}
		each.Wait()
	})
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return closed, cancel, nil
}

// settled tells the states in which nothing more comes of a task by itself.
func settled(st claudepool.TaskState) bool {
	return st.Terminal() || st == claudepool.StatePendingReview
}

// look returns the progress of tasks.
func (s *Server) look(ids []claudepool.TaskID) func(context.Context) progress {
	return func(ctx context.Context) progress {
		if len(ids) == 1 {
			if p, ok := s.lookChain(ctx, ids[0]); ok {
				return p
			}
		}
		var running, waiting int
		var cost claudepool.Microdollars
		p := progress{total: len(ids)}
		for _, id := range ids {
			r, err := s.pool.Task(ctx, id)
			if err != nil {
				continue
			}
			cost += r.Cost
			switch {
			case settled(r.State):
				p.done++
			case r.State == claudepool.StateRunning:
				running++
				if r.Claim != nil {
					cost += r.Claim.LastCost
				}
			default:
				waiting++
			}
		}
		p.message = fmt.Sprintf("%d of %d done, %d running, %d waiting, %v so far", p.done, p.total, running, waiting, cost)
		if len(ids) == 1 && p.done == 0 {
			if e, err := s.pool.Explain(ctx, ids[0]); err == nil {
				p.message = fmt.Sprintf("%s: %s, %v so far", e.State, e.Reason, cost)
			}
		}
		return p
	}
}
