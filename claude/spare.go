package claude

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Spare is a started process that waits to be claimed for a task, with any
// directory, prompt and settings. It must be claimed or closed.
type Spare struct {
	p   *Process
	key string

	mu    sync.Mutex
	state spareState
}

type spareState int

const (
	parked spareState = iota
	claiming
	claimed
)

// Park starts a spare for options with the same [Options.SpareKey]. ctx bounds
// only the start. A CLI without spares gives a [*VersionError].
func Park(ctx context.Context, o Options) (*Spare, error) {
	o.Resume, o.Fork, o.SessionID = "", false, ""
	p, err := launch(ctx, o, true)
	if err != nil {
		return nil, err
	}
	return &Spare{p: p, key: o.SpareKey()}, nil
}

// Claim makes the spare a process with these options, ready as after [Start].
// The spare is then used up and need not be closed. Callbacks, Grace, Trace and
// Logger are those of o from now on; the CLI's own ceiling of cost stays that of the spare.
//
// A [*ClaimError] or an [*OptionError] leaves the spare as it was. After any
// other error it has been closed.
func (s *Spare) Claim(ctx context.Context, o Options) (*Process, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := s.fits(&o); err != nil {
		return nil, err
	}
	if err := s.move(parked, claiming); err != nil {
		return nil, err
	}
	err := s.p.claim(ctx, o)
	var refused *ClaimError
	if errors.As(err, &refused) {
		return nil, errors.Join(err, s.move(claiming, parked))
	}
	if err := s.move(claiming, claimed); err != nil {
		return nil, err
	}
	if err == nil {
		err = s.p.settle(ctx)
	}
	if err != nil {
		return nil, s.p.abandon(err)
	}
	return s.p, nil
}

// fits refuses what a spare cannot become.
func (s *Spare) fits(o *Options) error {
	switch {
	case o.Resume != "" || o.Fork || o.SessionID != "":
		return &ClaimError{Code: "options", Reason: "a spare cannot take Resume, Fork or SessionID; start a process"}
	case o.SpareKey() != s.key:
		return &ClaimError{Code: "options", Reason: "the spare was started with other options (compare SpareKey)"}
	}
	return nil
}

func (s *Spare) move(from, to spareState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != from {
		return &ClaimError{Code: "not_a_spare", Reason: "it has been claimed or closed, or is being claimed"}
	}
	s.state = to
	return nil
}

// Close ends a spare that was not claimed. It does nothing to one that was.
func (s *Spare) Close(ctx context.Context) error {
	if err := s.move(parked, claimed); err != nil {
		return nil
	}
	return s.p.Close(ctx)
}

// Done returns a channel that is closed when the spare's process has ended.
func (s *Spare) Done() <-chan struct{} { return s.p.Done() }

// RSS returns the resident memory of the spare in bytes.
func (s *Spare) RSS() (int64, error) { return s.p.RSS() }

// claim turns the parked process into one with the options o.
func (p *Process) claim(ctx context.Context, o Options) error {
	dir, err := o.workDir()
	if err != nil {
		return &ClaimError{Code: "cwd_not_found", Reason: err.Error()}
	}
	r := map[string]any{"subtype": "claim_session", "cwd": dir, "permission_mode": o.Settings.mode()}
	if o.SystemPrompt != "" {
		r["system_prompt"] = []string{o.SystemPrompt}
	}
	if o.AppendSystemPrompt != "" {
		r["append_system_prompt"] = o.AppendSystemPrompt
	}
	if o.Agents != nil {
		r["agents"] = o.Agents
	}
	if len(o.AddDirs) > 0 {
		r["additional_directories"] = o.AddDirs
	}
	answer, err := p.request(ctx, "claim_session", r)
	var refused *ControlError
	if errors.As(err, &refused) {
		code, reason, ok := strings.Cut(refused.Message, ": ")
		if !ok {
			code, reason = refused.Code, refused.Message
		}
		return &ClaimError{Code: code, Reason: reason}
	}
	if err != nil {
		return err
	}
	var a struct {
		Status    string `json:"status"`
		SessionID string `json:"session_id"`
	}
	if err := decode(answer, &a); err != nil {
		return err
	}
	if a.Status != "ok" {
		return fmt.Errorf("claude: claim: the CLI answered %q", a.Status)
	}
	p.adopt(o, Environment(os.Environ(), o.env()))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir, p.session, p.mode = dir, a.SessionID, o.Settings.mode()
	return nil
}
