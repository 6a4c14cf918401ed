package claudepool_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/sqlitestore"
)

// hostEnv makes this program a host: another program with a pool, of stand-ins
// or real CLIs, as its value says.
const hostEnv = "CLAUDEPOOL_TEST_HOST"

// hostConfig says what a host does.
type hostConfig struct {
	Store  string
	Shared bool              // with other programs
	Path   string            // of the CLI; empty for a stand-in
	Env    map[string]string // of the slots
	Config string            // their folder, if it is not the person's own
	Dir    string            // their working directory
	Slots  int
	Tasks  []claudepool.Task
	Chain  *claudepool.Chain
	// The tasks follow the chain when so many of its steps have ended, and the
	// host reports when so many tasks, steps included, have told their session,
	// and so many a cost.
	Ended, Running, Paid int
}

// hostReport is the line that a host writes.
type hostReport struct {
	Tasks []claudepool.TaskRecord // without the chain itself
	Slots []claudepool.SlotStatus
	Chain claudepool.TaskID
	Err   string
}

func (c hostConfig) open(ctx context.Context) (*sqlitestore.Store, error) {
	return sqlitestore.Open(ctx, c.Store, sqlitestore.Options{Peer: c.Shared})
}

func (c hostConfig) pool(s claudepool.PoolStore) (claudepool.PoolConfig, error) {
	path, err := c.Path, error(nil)
	if path == "" {
		path, err = os.Executable()
	}
	return claudepool.PoolConfig{
		Store: s, Slots: c.Slots, ClaudePath: path, Env: c.Env, ConfigDir: c.Config, WorkDir: c.Dir, SlotMemory: -1, Spares: -1,
	}, err
}

// runHost is a host. It lives until it is killed, or its input ends.
func runHost() int {
	report, err := beHost()
	if err != nil {
		report.Err = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return 1
	}
	io.Copy(io.Discard, os.Stdin) // what it says does not matter
	return 0
}

func beHost() (hostReport, error) {
	var c hostConfig
	var out hostReport
	if err := json.Unmarshal([]byte(os.Getenv(hostEnv)), &c); err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it only makes a failure end
	defer cancel()
	s, err := c.open(ctx)
	if err != nil {
		return out, err
	}
	config, err := c.pool(s)
	if err != nil {
		return out, err
	}
	p, err := claudepool.NewPoolBuilder().Config(config).Build(ctx)
	if err != nil {
		return out, err
	}
	if c.Chain != nil {
		if out.Chain, err = p.SubmitChain(ctx, *c.Chain, claudepool.ChainOptions{}); err != nil {
			return out, err
		}
		if _, err := tasksUntil(ctx, p, func(now progress) bool { return now.ended == c.Ended }); err != nil {
			return out, err
		}
	}
	for _, t := range c.Tasks {
		if _, err := p.Submit(ctx, t); err != nil {
			return out, err
		}
	}
	if out.Tasks, err = tasksUntil(ctx, p, func(now progress) bool { return now.running == c.Running && now.paid >= c.Paid }); err != nil {
		return out, err
	}
	out.Slots, err = slotsThatLive(ctx, p)
	return out, err
}

// slotsThatLive returns the slots once each has a process.
func slotsThatLive(ctx context.Context, p *claudepool.Pool) ([]claudepool.SlotStatus, error) {
	for {
		slots, err := p.FindSlots(ctx, claudepool.SlotFilter{})
		starting := slices.ContainsFunc(slots, func(s claudepool.SlotStatus) bool { return s.PID == 0 })
		if !starting || err != nil {
			return slots, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("slots are %+v: %w", slots, ctx.Err())
		}
	}
}

// progress counts the tasks that have told their session or a cost, and those
// that have ended.
type progress struct{ running, paid, ended int }

// tasksUntil returns the tasks that are no chains, once done holds for them.
func tasksUntil(ctx context.Context, p *claudepool.Pool, done func(progress) bool) ([]claudepool.TaskRecord, error) {
	for {
		var tasks []claudepool.TaskRecord
		var now progress
		for r, err := range p.Tasks(ctx, claudepool.TaskFilter{}) {
			if err != nil {
				return nil, err
			}
			if r.Chain != nil {
				continue
			}
			tasks = append(tasks, r)
			if r.Claim != nil && r.Claim.SessionID != "" {
				now.running++
			}
			if r.Claim != nil && r.Claim.LastCost > 0 {
				now.paid++
			}
			if r.State.Terminal() {
				now.ended++
			}
		}
		if done(now) {
			return tasks, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("tasks have come to %+v: %w", now, ctx.Err())
		}
	}
}

// newHost makes the configuration of a host whose stand-ins take long to answer
// a plain prompt.
func newHost(t *testing.T) hostConfig {
	t.Helper()
	env, err := claudetest.StandInConfig{Pace: time.Minute}.Environ()
	if err != nil {
		t.Fatal(err)
	}
	return hostConfig{Store: filepath.Join(t.TempDir(), "pool.db"), Env: env, Config: t.TempDir(), Dir: t.TempDir(), Slots: 2}
}

// quick is the same host, but with stand-ins that answer at once.
func (c hostConfig) quick(t *testing.T) hostConfig {
	t.Helper()
	env, err := claudetest.StandInConfig{}.Environ()
	if err != nil {
		t.Fatal(err)
	}
	c.Env = env
	return c
}

// openStore opens the store until the test has ended.
func (c hostConfig) openStore(t *testing.T) *sqlitestore.Store {
	t.Helper()
	s, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// succeed builds the pool that goes on with the host's work, in this program. It
// looks at its slots every so often, or with a negative pause never.
func (c hostConfig) succeed(t *testing.T, s claudepool.PoolStore, checkEvery time.Duration) *claudepool.Pool {
	t.Helper()
	config, err := c.pool(s)
	if err != nil {
		t.Fatal(err)
	}
	config.CheckEvery = checkEvery
	return build(t, config)
}

// start starts the host, and returns when it has reported.
func (c hostConfig) start(t *testing.T) (*exec.Cmd, hostReport) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), hostEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); kill(cmd) })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the host reports nothing: %v", err)
	}
	var r hostReport
	if err := json.Unmarshal(line, &r); err != nil || r.Err != "" {
		t.Fatalf("the host reports %s (%v)", line, err)
	}
	return cmd, r
}

// kill ends the host as kill -9 does, and reaps it.
func kill(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait() // its error says that it was killed
}
