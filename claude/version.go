package claude

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The floors: the lowest versions of the CLI that can do something.
const (
	floorAny   = "2.1.240" // ids on messages, a reset cost, clean signals
	floorReuse = "2.1.280" // permission rules can be read back, so a reset can be proven
	floorSpare = "2.1.299" // claim_session
)

// Capabilities are what a CLI can do.
type Capabilities struct {
	Path    string // absolute
	Version string // such as "2.1.330"

	WarmReuse      bool // [Process.Reset] can be proven
	Spares         bool // [Park] works
	permissionNone bool // --permission-prompts none
	listRules      bool // list_permission_rules
	planHolds      bool // plan mode is read-only even where bypass is allowed
	echoesAlways   bool // every result names its message; before, only the good ones of the model did
}

// capabilitiesOf decides what a version can do. It is the only place that does.
func capabilitiesOf(path, version string) (Capabilities, error) {
	if compareVersions(version, floorAny) < 0 {
		return Capabilities{}, &VersionError{Path: path, Found: version, Need: floorAny}
	}
	reuse := compareVersions(version, floorReuse) >= 0
	return Capabilities{
		Path: path, Version: version,
		WarmReuse: reuse, permissionNone: reuse, listRules: reuse, echoesAlways: reuse, planHolds: reuse,
		Spares: compareVersions(version, floorSpare) >= 0,
	}, nil
}

// probeKey tells one program file from another, and from what it was before an update.
type probeKey struct {
	path    string
	modTime time.Time
	size    int64
}

// probes remembers the versions that were found. It is the only state of this
// package that outlives a process.
var probes sync.Map // probeKey → version string

const probeTimeout = 30 * time.Second

// Probe finds the program at path (a path, or a name looked up in PATH; empty
// means "claude") and asks it for its version, once for each state of the file
// in the life of this program. env is the environment for that, as
// [Environment] makes it.
//
// Errors are [ErrNotFound], [ErrNotClaude] and [*VersionError].
func Probe(ctx context.Context, path string, env []string) (Capabilities, error) {
	abs, err := find(path)
	if err != nil {
		return Capabilities{}, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return Capabilities{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	key := probeKey{abs, info.ModTime(), info.Size()}
	version, ok := probes.Load(key)
	if !ok {
		v, err := askVersion(ctx, abs, env)
		if err != nil {
			return Capabilities{}, err
		}
		version, _ = probes.LoadOrStore(key, v)
	}
	return capabilitiesOf(abs, version.(string))
}

func find(path string) (string, error) {
	name := cmp.Or(path, "claude")
	found, err := exec.LookPath(name)
	if err != nil {
		where := "in PATH (" + os.Getenv("PATH") + ")"
		if strings.ContainsRune(name, filepath.Separator) {
			where = "there"
		}
		return "", fmt.Errorf("%w: looked for %q %s: %w; install it with %q or give its path", ErrNotFound, name, where, errors.Unwrap(err), "npm install -g @anthropic-ai/claude-code")
	}
	abs, err := filepath.Abs(found)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return abs, nil
}

// versionLine is what the CLI says, such as "2.1.330 (Claude Code)".
var versionLine = regexp.MustCompile(`^([0-9]+\.[0-9]+\.[0-9]+)\S* \(Claude Code\)`)

func askVersion(ctx context.Context, path string, env []string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("it did not answer --version within %v", probeTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = env
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", fmt.Errorf("claude: probe %s: %w", path, context.Cause(ctx))
	}
	if m := versionLine.FindSubmatch(bytes.TrimSpace(out)); m != nil {
		return string(m[1]), nil
	}
	said := strings.TrimSpace(string(out[:min(len(out), 100)]))
	if err != nil {
		return "", fmt.Errorf("%w: %s --version failed: %w (output %q)", ErrNotClaude, path, err, said)
	}
	return "", fmt.Errorf("%w: %s --version says %q", ErrNotClaude, path, said)
}

// compareVersions compares dotted numbers. What is not a number counts as 0.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if c := cmp.Compare(versionPart(as, i), versionPart(bs, i)); c != 0 {
			return c
		}
	}
	return 0
}

func versionPart(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}
