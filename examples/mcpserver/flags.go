package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/mcp"
	"github.com/claudepool/claudepool/worktree"
)

// options are what the flags say.
type options struct {
	pool     claudepool.PoolConfig
	store    storeOptions
	sources  sources
	toolsets []mcp.Toolset
	drain    time.Duration
	level    slog.Level
	demo     bool
	shared   claude.PermissionMode // the loosest of tasks in the person's checkout, if not the ceiling

	mergeCheck   []string
	moveCheckout bool

	warnings []string // to be logged
}

// sources say which skills and workflows there are.
type sources struct {
	dir                 string // of skills, in the place of the project's
	noBuiltins          bool
	noProject, noGlobal bool
	disabled            []string // skills
}

// registries sets the skills and workflows of the pool.
func (o *options) registries() error {
	skills := claudepool.StandardSources(o.pool.WorkDir)
	skills.NoBuiltins = o.sources.noBuiltins
	if o.sources.noProject {
		skills.Project = ""
	}
	if o.sources.noGlobal {
		skills.Home = ""
	}
	workflows := skills
	skills.Dir = o.sources.dir
	all, err := claudepool.NewSkillRegistry(skills)
	if err != nil {
		return err
	}
	for _, name := range o.sources.disabled {
		if _, err := all.Skill(name); err != nil {
			o.warnings = append(o.warnings, fmt.Sprintf("flag --disable-skill: %v; nothing is left out by that name", err))
		}
	}
	skills.Disabled = o.sources.disabled
	if o.pool.Skills, err = claudepool.NewSkillRegistry(skills); err != nil {
		return err
	}
	o.pool.Workflows, err = claudepool.NewWorkflowRegistry(workflows)
	return err
}

// ceiling is the loosest permission mode that a task may ask for.
func (o options) ceiling() claude.PermissionMode {
	if o.pool.AllowBypass {
		return claude.PermissionBypass
	}
	return o.pool.Agent.PermissionMode
}

// checkedOut says what a merge does with a target that is checked out.
func (o options) checkedOut() worktree.CheckedOut {
	if o.moveCheckout {
		return worktree.FastForward
	}
	return worktree.Refuse
}

// parse reads the flags. Each mistake names its flag; it is told on stderr.
func parse(args []string, stderr io.Writer) (options, error) {
	o := options{drain: 4 * time.Second, level: slog.LevelInfo}
	c := &o.pool
	c.Slots, c.MinSlots, c.MaxSlots = 2, 1, 0

	f := flag.NewFlagSet("mcpserver", flag.ContinueOnError)
	f.SetOutput(stderr)
	short := map[string]string{} // by the long form
	both := func(brief, long, usage string, set func(string) error) {
		f.Func(long, usage, set)
		if brief != "" {
			f.Func(brief, usage, set)
			short[long] = brief
		}
	}
	f.Usage = func() {}
	both("n", "slots", "how many `slots` to start with (default 2)", count(&c.Slots))
	both("", "min-slots", "the least `number` of slots when scaling (default 1)", count(&c.MinSlots))
	both("", "max-slots", "the largest `number` of slots when scaling (default 16, or --slots if that is more)", count(&c.MaxSlots))
	both("m", "model", "the `model` of the slots (default: that of the CLI)", text(&c.Agent.Model))
	both("e", "effort", "how long the model may think: `"+oneOf(claude.Efforts())+"`", choice(&c.Agent.Effort, claude.Efforts()))
	both("s", "system-prompt", "replaces the CLI's own system `prompt`", text(&c.Agent.SystemPrompt))
	both("p", "permission-mode", "what the slots may do without asking, and the loosest `mode` that a task may ask for:\n"+
		oneOf(claude.PermissionModes())+" (default plan, which only reads, but for what a task or a skill allows by name; acceptEdits with\n"+
		"--worktree, and then plan for a task with isolation none)", choice(&c.Agent.PermissionMode, claude.PermissionModes()))
	f.BoolVar(&c.AllowBypass, "allow-bypass", false, "allow bypassPermissions, in --permission-mode and to tasks that ask for it")
	both("b", "budget-usd", "what all tasks together may cost, in `dollars` (default: no limit)", dollars(&c.Budget))
	both("", "task-budget-usd", "what a task may cost that has no cap of its own, in `dollars` (default: with --budget-usd an\n"+
		"equal share of what is left, else no limit)", dollars(&c.DefaultCap))
	both("", "budget-window", "which spending counts: `"+oneOf(claudepool.BudgetWindows())+"` (default run, or store with --store)", choice(&c.Window, claudepool.BudgetWindows()))
	both("", "store", "the `file` that holds tasks, results and what was spent, so that they outlive the server; it is made\n"+
		"if it is not there (default: none, they end with the server)", text(&o.store.path))
	f.BoolVar(&o.store.opts.Peer, "peer", false, "share the file of --store with other servers that say --peer too")
	both("", "retain-tasks", "how many tasks that have ended stay in the store, a `number` or all (default 1000000)", bound(&o.store.opts.Retain.Count, 1))
	both("", "retain-days", "for how many `days` they stay in it, or all (default 90)", bound(&o.store.opts.Retain.Age, 24*time.Hour))
	both("", "mcp-config", "a `file` with the MCP servers of the slots, like .mcp.json", servers(&c.Agent.MCPServers))
	f.BoolVar(&c.InheritMCP, "no-strict-mcp-config", false, "let the slots also load the MCP servers of your own configuration")
	isolate := func(string) error { c.Isolation = claudepool.IsolationWorktree; return nil }
	f.BoolFunc("worktree", "each task works in a git worktree and on a branch of its own, unless it says otherwise", isolate)
	f.BoolFunc("w", "each task works in a git worktree and on a branch of its own, unless it says otherwise", isolate)
	short["worktree"] = "w"
	both("", "worktree-copy", "ignored files that every worktree gets a copy of, a `list` such as .env,certs/*.pem", list(&c.Worktrees.Copy))
	both("", "worktree-setup", "a `command` that is run in every worktree before its task, by sh -c", shell(&c.Worktrees.Setup))
	both("", "merge-check", "a `command` that pool_merge can be asked to run on its result before the target moves, by sh -c", shell(&o.mergeCheck))
	f.BoolVar(&o.moveCheckout, "merge-checked-out", false, "let pool_merge move a branch that is checked out, with its files, if nothing is in the way (default: it refuses)")
	both("", "working-dir", "the `folder` in which the slots work (default: the current one)", folder(&c.WorkDir))
	f.BoolVar(&o.sources.noBuiltins, "no-builtins", false, "leave out the skills and workflows that are built in")
	both("", "skills-dir", "a `folder` of skills, in the place of .claude-pool/skills in the project", folder(&o.sources.dir))
	f.BoolVar(&o.sources.noProject, "no-project-skills", false, "leave out the skills and workflows of the project, in .claude-pool of --working-dir")
	f.BoolVar(&o.sources.noGlobal, "no-global-skills", false, "leave out your own skills and workflows, in .claude-pool of your home folder")
	both("", "disable-skill", "a `list` of skills to leave out, separated by commas", skillNames(&o.sources.disabled))
	both("", "claude", "the Claude CLI, a `path` or a name in PATH (default claude)", text(&c.ClaudePath))
	f.BoolVar(&o.demo, "demo", false, "serve a stand-in for the CLI, with canned answers: no account, no network, no cost")
	both("", "toolsets", "which tools to serve, a `list` of "+strings.Join(names(mcp.Toolsets()), ", ")+" (default: all)", toolsets(&o.toolsets))
	both("", "drain-timeout", "how `long` running tasks may go on at the end; with --store those that do not make it go back to its\n"+
		"queue (default 4s). A second signal ends the server at once, but one of SIGINT and SIGTERM that follows the\n"+
		"other within a second does not count: that is how the Claude CLI ends its servers", pause(&o.drain))
	both("", "log-level", "debug, info, warn or error: the least `level` to log (default info)", func(s string) error {
		if err := o.level.UnmarshalText([]byte(s)); err != nil {
			return errors.New("must be debug, info, warn or error")
		}
		return nil
	})

	err := f.Parse(args) // tells what is wrong itself
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(stderr, f, short)
	case err == nil:
		if err = o.check(f.Args()); err != nil {
			fmt.Fprintln(stderr, "mcpserver:", err)
		}
	}
	return o, err
}

// usage lists the flags by their long form.
func usage(w io.Writer, f *flag.FlagSet, short map[string]string) {
	fmt.Fprintln(w, "mcpserver serves a pool of Claude CLI processes to an MCP client over stdio. Its flags:")
	f.VisitAll(func(fl *flag.Flag) {
		if len(fl.Name) == 1 {
			return
		}
		name := "--" + fl.Name
		if s := short[fl.Name]; s != "" {
			name = "-" + s + ", " + name
		}
		value, text := flag.UnquoteUsage(fl)
		fmt.Fprintf(w, "  %s %s\n    \t%s\n", name, value, strings.ReplaceAll(text, "\n", "\n    \t"))
	})
}

// check checks what no flag can say alone.
func (o *options) check(rest []string) error {
	c := &o.pool
	if c.MaxSlots == 0 {
		c.MaxSlots = max(16, c.Slots)
	}
	if c.Agent.PermissionMode == "" {
		c.Agent.PermissionMode = claude.PermissionPlan
		if c.Isolation != "" { // in places of their own, and only there
			c.Agent.PermissionMode, o.shared = claude.PermissionAcceptEdits, claude.PermissionPlan
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: there are only flags", rest[0])
	case c.MinSlots > c.MaxSlots:
		return fmt.Errorf("flag --min-slots: %d is above --max-slots, %d", c.MinSlots, c.MaxSlots)
	case c.Slots < c.MinSlots:
		return fmt.Errorf("flag --slots: %d is below --min-slots, %d", c.Slots, c.MinSlots)
	case c.Slots > c.MaxSlots:
		return fmt.Errorf("flag --slots: %d is above --max-slots, %d", c.Slots, c.MaxSlots)
	case c.Budget > 0 && c.DefaultCap > c.Budget:
		return fmt.Errorf("flag --task-budget-usd: %v is above --budget-usd, %v", c.DefaultCap, c.Budget)
	case c.Agent.PermissionMode == claude.PermissionBypass && !c.AllowBypass:
		return fmt.Errorf("flag --permission-mode: %s also needs --allow-bypass, for the slots could then do everything you can", claude.PermissionBypass)
	case o.store.path == "" && o.store.opts.Peer:
		return errors.New("flag --peer: needs --store, the file that is shared")
	case o.store.path == "" && o.store.opts.Retain != claudepool.Retention{}:
		return errors.New("flags --retain-tasks and --retain-days: need --store, the file whose tasks they are about")
	case o.demo && c.ClaudePath != "":
		return errors.New("flag --claude: cannot be combined with -demo, which needs no CLI")
	}
	return o.registries()
}

func names[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

func oneOf[T ~string](all []T) string { return strings.Join(names(all), "|") }

// The functions below return what sets a variable from the text of a flag, or
// says what is wrong with it. The flag package adds the name of the flag.

func text(dst *string) func(string) error {
	return func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("must not be empty")
		}
		*dst = s
		return nil
	}
}

func choice[T ~string](dst *T, all []T) func(string) error {
	return func(s string) error {
		if !slices.Contains(all, T(s)) {
			return fmt.Errorf("must be one of %s", strings.Join(names(all), ", "))
		}
		*dst = T(s)
		return nil
	}
}

func count(dst *int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return errors.New("must be a whole number, 1 or more")
		}
		*dst = n
		return nil
	}
}

// bound reads how much is kept, in units.
func bound[T int | time.Duration](dst *T, unit T) func(string) error {
	return func(s string) error {
		if s == "all" {
			*dst = -1
			return nil
		}
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || n < 1 || n > math.MaxInt64/int64(unit) {
			return errors.New("must be a whole number, 1 or more, or all")
		}
		*dst = T(n) * unit
		return nil
	}
}

func dollars(dst *claudepool.Microdollars) func(string) error {
	return func(s string) error {
		v, err := strconv.ParseFloat(s, 64)
		m := claudepool.USD(v)
		if err != nil || m <= 0 || m == math.MaxInt64 {
			return errors.New("must be an amount in dollars above zero, such as 2.50; leave the flag out for no limit")
		}
		*dst = m
		return nil
	}
}

func pause(dst *time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return errors.New("must be a duration such as 4s or 1m")
		}
		*dst = d
		return nil
	}
}

func folder(dst *string) func(string) error {
	return func(s string) error {
		info, err := os.Stat(s)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return errors.New("is not a folder")
		}
		*dst = s
		return nil
	}
}

func toolsets(dst *[]mcp.Toolset) func(string) error {
	return func(s string) error {
		var sets []mcp.Toolset
		for name := range strings.SplitSeq(s, ",") {
			set := mcp.Toolset(strings.TrimSpace(name))
			if !slices.Contains(mcp.Toolsets(), set) {
				return fmt.Errorf("must be a list of %s, separated by commas", strings.Join(names(mcp.Toolsets()), ", "))
			}
			sets = append(sets, set)
		}
		*dst = sets
		return nil
	}
}

// skillNames adds to a list, so that the flag can be given more than once.
func skillNames(dst *[]string) func(string) error {
	return func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			name = strings.TrimSpace(name)
			_, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{NoBuiltins: true, Disabled: []string{name}})
			if err != nil {
				return fmt.Errorf("must be names of skills, separated by commas; no skill can be called %q", name)
			}
			*dst = append(*dst, name)
		}
		return nil
	}
}

// list adds to a list of names, so that the flag can be given more than once.
func list(dst *[]string) func(string) error {
	return func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			if name = strings.TrimSpace(name); name == "" {
				return errors.New("must be names, separated by commas")
			}
			*dst = append(*dst, name)
		}
		return nil
	}
}

// shell reads a command line for the shell.
func shell(dst *[]string) func(string) error {
	return func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("must not be empty")
		}
		*dst = []string{"sh", "-c", s}
		return nil
	}
}

// servers reads MCP servers in the form of .mcp.json.
func servers(dst *map[string]claude.MCPServer) func(string) error {
	return func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var file struct {
			Servers map[string]map[string]json.RawMessage `json:"mcpServers"`
		}
		if err := json.Unmarshal(b, &file); err != nil {
			return fmt.Errorf("is no MCP configuration: %w", err)
		}
		if file.Servers == nil {
			return errors.New(`is no MCP configuration: it has no "mcpServers"`)
		}
		all := make(map[string]claude.MCPServer, len(file.Servers))
		for name, fields := range file.Servers {
			if fields["command"] == nil && fields["url"] == nil {
				return fmt.Errorf("server %q has neither a command nor a url", name)
			}
			if all[name], err = json.Marshal(fields); err != nil {
				return fmt.Errorf("server %q: %w", name, err)
			}
		}
		*dst = all
		return nil
	}
}
