package claude

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxPrompt bounds the text and the images of a prompt, in bytes as they are
// sent: 16 MiB. No model's context holds as much text, and some versions of the
// CLI send it all the same, to be refused only at a cost.
const MaxPrompt = 16 << 20

// interruptAgain is the time between two attempts to interrupt a turn. One
// takes 10 to 90 ms.
const interruptAgain = 200 * time.Millisecond

// turn is one exchange: a message and what comes until the process is idle again.
type turn struct {
	id    string
	mail  *mailbox
	asks  context.Context // of permission questions
	close context.CancelFunc
	stop  chan struct{} // closed when the turn is to be interrupted
	over  chan struct{} // closed when the turn has ended
	once  sync.Once
	start time.Time
	told  told

	// Guarded by Process.mu.
	begun    bool // the CLI has taken the message up
	answered bool // its result has come
	// disturbed says that a turn nobody asked for ended before this one began.
	disturbed bool
}

// interrupt asks the turn to stop itself.
func (t *turn) interrupt() { t.once.Do(func() { close(t.stop) }) }

// Turn sends a prompt and waits for its result. The process does one at a time:
// another call meanwhile gets [ErrBusy].
//
// Events go to emit, in order, from the goroutine that called Turn. emit may
// be nil. It must not wait for the turn; as long as it runs, Turn does not
// look at its context, and what the process writes is kept in memory.
//
// A nil error means that the CLI has given its result, which may well be a
// failure: see [Result.IsError]. Only the result of this very prompt counts.
//
// When ctx ends, the turn is interrupted. Turn then returns the cause of ctx
// and what there was until then. A process that does not stop within the grace
// time is ended, and the error says so ([ErrUnresponsive]). When the process
// dies, the error is an [*ExitError]. A prompt that cannot be sent gives
// [ErrInvalidPrompt] and leaves the process as it was. [ErrDisturbed] comes with
// a result that the caller should not use, nor the process.
func (p *Process) Turn(ctx context.Context, prompt Prompt, emit func(Event)) (Result, error) {
	if err := context.Cause(ctx); err != nil {
		return Result{}, err
	}
	line, id, err := prompt.message()
	if err != nil {
		return Result{}, err
	}
	if err := p.acquire(); err != nil {
		return Result{ID: id}, err
	}
	defer p.release()
	p.mu.Lock()
	used, stuck := p.used[id], p.stuck
	if !used && !stuck {
		p.used[id] = true
		p.turns++
	}
	p.mu.Unlock()
	switch {
	case used:
		return Result{ID: id}, fmt.Errorf("%w: the id %q was used before in this process", ErrInvalidPrompt, id)
	case stuck:
		return Result{ID: id}, fmt.Errorf("%w: it did not become idle after the turn before; use another", ErrUnresponsive)
	}
	if emit == nil {
		emit = func(Event) {}
	}
	t := p.newTurn(id)
	p.mu.Lock()
	disturbed := p.clean && p.meter.strayCount != p.strangers
	p.clean = false
	p.mu.Unlock()
	if disturbed {
		t.close()
		close(t.over)
		return Result{ID: id}, ErrDisturbed
	}
	err = p.converse(ctx, t, line, emit)
	p.mu.Lock()
	if err == nil && t.disturbed {
		err = ErrDisturbed
	}
	p.mu.Unlock()
	return t.result(), err
}

// message makes the line of a prompt.
func (q Prompt) message() (line []byte, id string, err error) {
	id = q.ID
	if id == "" {
		id = newUUID()
	}
	size := len(q.Text)
	for _, i := range q.Images {
		size += len(i.Data)/3*4 + 4
	}
	switch {
	case !utf8.ValidString(q.Text) || !utf8.ValidString(q.ID):
		return nil, id, fmt.Errorf("%w: it is not valid UTF-8", ErrInvalidPrompt)
	case strings.TrimSpace(q.Text) == "" && len(q.Images) == 0:
		return nil, id, fmt.Errorf("%w: it is empty", ErrInvalidPrompt)
	case size > MaxPrompt:
		return nil, id, fmt.Errorf("%w: it has %d bytes, the most are %d", ErrInvalidPrompt, size, MaxPrompt)
	}
	m := userMessage{Type: "user", UUID: id, Message: userContent{Role: "user"}}
	text := q.Text
	if !q.Commands {
		text, m.ClientComposed = verbatim(text)
	}
	m.Message.Content = text
	if len(q.Images) > 0 {
		content := []any{map[string]any{"type": "text", "text": text}}
		if text == "" {
			content = nil
		}
		for _, i := range q.Images {
			content = append(content, map[string]any{"type": "image", "source": map[string]any{
				"type": "base64", "media_type": i.MediaType, "data": i.Data,
			}})
		}
		m.Message.Content = content
	}
	line, err = encode(m)
	return line, id, err
}

// verbatim keeps the CLI from reading text as anything but text. A line break
// before a "/" costs nothing. Against the expansion of "@path" there is only the
// CLI's own switch, which on older versions also leaves out what the CLI tells
// the model about its surroundings, so it is for prompts with such a word alone.
func verbatim(text string) (_ string, composed bool) {
	if strings.HasPrefix(text, "/") {
		text = "\n" + text
	}
	before := ' '
	for _, r := range text {
		if r == '@' && !unicode.IsLetter(before) && !unicode.IsDigit(before) {
			return text, true
		}
		before = r
	}
	return text, false
}

// newUUID makes a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (p *Process) newTurn(id string) *turn {
	t := &turn{id: id, mail: newMailbox(), stop: make(chan struct{}), over: make(chan struct{}), start: time.Now()}
	t.asks, t.close = context.WithCancel(p.life)
	t.told = told{id: id, start: t.start}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn = t
	return t
}

// converse sends the message of t and sees t through to its end.
func (p *Process) converse(ctx context.Context, t *turn, line []byte, emit func(Event)) error {
	defer close(t.over)
	defer t.close()
	if err := p.send(ctx.Done(), line); err != nil {
		if errors.Is(err, errNotSent) {
			return context.Cause(ctx)
		}
		return err
	}
	grace := p.opts.Load().grace()
	var (
		canceled = ctx.Done()
		stop     = t.stop
		again    <-chan time.Time // the next attempt to interrupt
		deadline <-chan time.Time // of the interrupt, then of the silence after the result
		attempts []*call
		begin    = func(c *call) {
			if c != nil {
				attempts = append(attempts, c)
			}
			again = time.After(interruptAgain)
		}
	)
	for {
		for _, item := range t.mail.take() {
			if t.told.take(item, emit) {
				t.interrupt()
			}
			if t.told.concluded() {
				again, deadline = nil, time.After(grace)
			}
		}
		if t.told.settled() {
			break
		}
		select {
		case <-t.mail.wake:
		case <-canceled:
			canceled = nil
			t.told.stopped = true
			t.interrupt()
		case <-stop:
			stop, deadline = nil, time.After(grace)
			t.close() // nobody's answer is wanted any more
			begin(p.postInterrupt(t, false))
		case <-again:
			begin(p.postInterrupt(t, true))
		case <-deadline:
			if t.told.concluded() {
				// The result stands; what follows must not trust this process.
				p.mu.Lock()
				p.stuck = true
				p.mu.Unlock()
				return context.Cause(ctx)
			}
			p.fail(fmt.Errorf("%w: the turn did not end within %v of the interrupt", ErrUnresponsive, grace))
			deadline = nil
		case <-p.ended:
			for _, item := range t.mail.take() {
				t.told.take(item, emit)
			}
			if t.told.res != nil && !t.told.aborted() {
				return context.Cause(ctx) // the result stands, whatever became of the process
			}
			t.told.unfinished(p.costSoFar())
			return errors.Join(context.Cause(ctx), p.Err())
		}
	}
	// An interrupt on its way would hit whatever comes next.
	wait, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	for _, c := range attempts {
		if _, err := p.await(wait, c); err != nil && wait.Err() != nil {
			p.fail(fmt.Errorf("%w: an interrupt was not answered within %v", ErrUnresponsive, grace))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing && t.told.aborted() {
		return ErrClosed
	}
	return context.Cause(ctx)
}

// postInterrupt asks the CLI to stop t. The first attempt is aimed, so that it
// cannot hit another turn. An aimed one that comes before the turn has begun
// can be lost; the later ones also empty the queue, which loses none.
func (p *Process) postInterrupt(t *turn, queue bool) *call {
	r := map[string]any{"subtype": "interrupt"}
	if queue {
		r["cancel_queued"] = true
	} else {
		r["for_user_message_uuids"] = []string{t.id}
	}
	c, err := p.post(p.life, "interrupt", r)
	if err != nil {
		return nil // the process is ending; the loop sees that
	}
	return c
}

// costSoFar is the last figure known of a turn without a result.
func (p *Process) costSoFar() Microdollars {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meter.total - p.meter.billed
}

// Interrupt stops the turn that runs, if any, and returns when it has ended.
// Its result says Interrupted.
func (p *Process) Interrupt(ctx context.Context) error {
	p.mu.Lock()
	t := p.turn
	p.mu.Unlock()
	if t == nil {
		return nil
	}
	t.interrupt()
	select {
	case <-t.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
