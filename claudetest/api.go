package claudetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// DefaultKeep is how many requests an [API] remembers unless [API.Keep] says
// otherwise.
const DefaultKeep = 1000

// maxAttempts bounds the conversations whose attempts are counted, so that an
// API can serve a benchmark for hours. Then the count starts anew.
const maxAttempts = 100_000

// maxBody bounds a request. The real API refuses more than 32 MB.
const maxBody = 64 << 20

// Script decides the answer to a request. It is called from the goroutine of
// the request, so calls overlap when several processes use one [API]: decide
// from the conversation in r, not from an order of arrival. It must not keep
// or change r.
type Script func(r *Request) Reply

// API is a Messages API on loopback that answers from a [Script]. It speaks
// POST /v1/messages, streaming and not, and /v1/messages/count_tokens. All
// methods are safe for concurrent use.
type API struct {
	script Script
	url    string
	server *http.Server
	ctx    context.Context
	end    context.CancelFunc
	served chan struct{}  // closed when the accept loop has ended
	live   sync.WaitGroup // handlers

	mu       sync.Mutex
	closed   bool
	total    int
	requests []*Request
	keep     int
	strays   []string
	attempts map[uint64]int
	waiters  []*waiter
}

// waiter is one call of Wait: the requests it has not looked at, and a signal
// that there are some.
type waiter struct {
	queue []*Request // guarded by API.mu
	wake  chan struct{}
}

// NewAPI starts an [API] that is closed when the test ends. A nil script is
// [Directives].
func NewAPI(t testing.TB, script Script) *API {
	t.Helper()
	a, err := StartAPI(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// StartAPI starts an [API] outside a test. The caller must close it. A nil
// script is [Directives].
func StartAPI(script Script) (*API, error) {
	if script == nil {
		script = Directives
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("claudetest: listen on loopback for the scripted API: %w", err)
	}
	ctx, end := context.WithCancel(context.Background())
	a := &API{
		script: script, url: "http://" + l.Addr().String(),
		ctx: ctx, end: end, served: make(chan struct{}),
		keep: DefaultKeep, attempts: make(map[uint64]int),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages", a.messages)
	mux.HandleFunc("POST /v1/messages/count_tokens", a.countTokens)
	mux.HandleFunc("/", a.stray)
	a.server = &http.Server{Handler: a.counted(mux), BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() {
		defer close(a.served)
		a.server.Serve(l) // always ends with ErrServerClosed, by Close
	}()
	return a, nil
}

// URL is the base URL, such as "http://127.0.0.1:40123", for ANTHROPIC_BASE_URL.
func (a *API) URL() string { return a.url }

// Close ends every open request, hanging ones too, and returns when no
// goroutine of the API is left. Closing twice is harmless.
func (a *API) Close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.end()
	a.server.Close()
	<-a.served
	a.live.Wait()
}

// counted lets Close wait for the handlers, which http.Server.Close does not.
func (a *API) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		if a.closed {
			a.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		a.live.Add(1)
		a.mu.Unlock()
		defer a.live.Done()
		h.ServeHTTP(w, r)
	})
}

func (a *API) messages(w http.ResponseWriter, hr *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, maxBody))
	if err != nil {
		Status(http.StatusRequestEntityTooLarge).write(hr.Context(), w, &Request{})
		return
	}
	r, err := parseRequest(hr.Header, body)
	if err != nil {
		Status(http.StatusBadRequest).Message(err.Error()).write(hr.Context(), w, &Request{})
		return
	}
	a.record(r)
	defer close(r.done)
	if err := a.script(r).write(hr.Context(), w, r); err != nil {
		r.gone = hr.Context().Err() != nil && a.ctx.Err() == nil
		panic(http.ErrAbortHandler) // net/http's way to cut the connection
	}
}

func (a *API) countTokens(w http.ResponseWriter, hr *http.Request) {
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, hr.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]int64{"input_tokens": n / 4})
}

func (a *API) stray(w http.ResponseWriter, hr *http.Request) {
	a.mu.Lock()
	a.strays = append(a.strays, hr.Method+" "+hr.URL.Path)
	a.mu.Unlock()
	http.NotFound(w, hr)
}

// record numbers r, counts its attempt, keeps it and wakes who waits for it.
func (a *API) record(r *Request) {
	a.mu.Lock()
	a.total++
	r.Number = a.total
	if len(a.attempts) >= maxAttempts {
		clear(a.attempts)
	}
	a.attempts[r.key]++
	r.Attempt = a.attempts[r.key]
	a.requests = append(a.requests, r)
	a.trim()
	waiters := slices.Clone(a.waiters)
	for _, w := range waiters {
		w.queue = append(w.queue, r)
	}
	a.mu.Unlock()
	for _, w := range waiters {
		select {
		case w.wake <- struct{}{}:
		default: // it has been woken already
		}
	}
}

func (a *API) trim() {
	if over := len(a.requests) - a.keep; over > 0 {
		a.requests = slices.Delete(a.requests, 0, over)
	}
}

// Keep bounds how many requests are remembered; the oldest go first. Zero
// remembers none, which is what a benchmark wants.
func (a *API) Keep(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep = max(n, 0)
	a.trim()
}

// Requests returns the remembered requests to /v1/messages, the oldest first.
// They must not be changed.
func (a *API) Requests() []*Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// Count returns how many requests to /v1/messages have come in, remembered or not.
func (a *API) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total
}

// Strays lists the requests to anything else, as "METHOD /path": what a
// process asks for beside the model.
func (a *API) Strays() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.strays)
}

// ErrClosed is returned by [API.Wait] when the API was closed meanwhile.
var ErrClosed = errors.New("claudetest: the API is closed")

// Wait returns the first remembered or coming request that meets cond. It ends
// with the error of ctx, or with [ErrClosed].
func (a *API) Wait(ctx context.Context, cond func(*Request) bool) (*Request, error) {
	w := &waiter{wake: make(chan struct{}, 1)}
	a.mu.Lock()
	w.queue = slices.Clone(a.requests)
	a.waiters = append(a.waiters, w)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.waiters = slices.DeleteFunc(a.waiters, func(o *waiter) bool { return o == w })
	}()
	for {
		a.mu.Lock()
		queue := w.queue
		w.queue = nil
		a.mu.Unlock()
		if i := slices.IndexFunc(queue, cond); i >= 0 {
			return queue[i], nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("claudetest: wait for a request (%d came): %w", a.Count(), ctx.Err())
		case <-a.ctx.Done():
			return nil, ErrClosed
		}
	}
}
