// Package demo chooses what works behind the slots of the examples, so that
// each of them runs on a machine without the Claude CLI and without an account.
package demo

import (
	"fmt"
	"os"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

// Model is the model that the examples ask when they use the real CLI: the
// cheapest.
const Model = "haiku"

// Config returns the start of a pool's configuration. With claude empty, the
// slots run the stand-in of package claudetest: this very program, started once
// more, which is why main must call [claudetest.MainScript] first. Otherwise
// they run the program claude, a path or a name in PATH, with the login of
// whoever runs the example.
//
// The caller must call cleanup when the pool is closed.
func Config(claude string) (c claudepool.PoolConfig, cleanup func(), err error) {
	if claude != "" {
		c.ClaudePath, c.Agent.Model = claude, Model
		return c, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "claudepool-demo-")
	if err != nil {
		return c, nil, fmt.Errorf("make a folder for the stand-in's sessions: %w", err)
	}
	o, err := claudetest.StandInOptions(claudetest.StandInConfig{ConfigDir: dir})
	if err != nil {
		os.RemoveAll(dir)
		return c, nil, err
	}
	c.ClaudePath, c.Env, c.ConfigDir = o.Path, o.Env, o.ConfigDir
	return c, func() { os.RemoveAll(dir) }, nil
}

// Claude is the program that a flag -real stands for: "claude" in PATH, or
// nothing.
func Claude(real bool) string {
	if real {
		return "claude"
	}
	return ""
}
