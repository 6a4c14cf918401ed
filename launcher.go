package claudepool

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/proctree"
)

// claudeLauncher starts the Claude CLI.
type claudeLauncher struct {
	path string
	env  map[string]string
}

// recoverOrphans ends what pools of this user left behind that were killed
// together with everything that watched over their processes.
func recoverOrphans(ctx context.Context, log *slog.Logger) {
	ended, err := proctree.Recover(ctx)
	for _, r := range ended {
		log.Warn("processes of a dead program were ended", "host", r.Host, "processes", len(r.Procs))
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		log.Error("processes of dead programs could not all be looked for", "err", err)
	}
}

// Probe implements [Prober].
func (l claudeLauncher) Probe(ctx context.Context) (Ability, error) {
	c, err := claude.Probe(ctx, l.path, claude.Environment(os.Environ(), l.env))
	if err != nil {
		return Ability{}, err
	}
	return Ability{Version: c.Version, Warm: c.WarmReuse, Spares: c.Spares}, nil
}

// Launch implements [Launcher]. A process without a credential is no use to
// anybody: it is ended at once.
func (l claudeLauncher) Launch(ctx context.Context, o claude.Options) (Agent, error) {
	p, err := claude.Start(ctx, o)
	if err != nil {
		return nil, err // not p, which would be an Agent that is not nil
	}
	if p.Info().KeySource == "none" {
		return nil, errors.Join(claude.ErrNotLoggedIn, p.Close(ctx))
	}
	return p, nil
}

// Park implements [SpareLauncher].
func (l claudeLauncher) Park(ctx context.Context, o claude.Options) (Spare, error) {
	s, err := claude.Park(ctx, o)
	if err != nil {
		return nil, err
	}
	return claudeSpare{s}, nil
}

// claudeSpare is a parked Claude CLI.
type claudeSpare struct{ *claude.Spare }

// Claim implements [Spare].
func (s claudeSpare) Claim(ctx context.Context, o claude.Options) (Agent, error) {
	p, err := s.Spare.Claim(ctx, o)
	if err != nil {
		return nil, err
	}
	return p, nil
}
