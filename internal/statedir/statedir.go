// Package statedir says where this module keeps what it writes down for a user.
package statedir

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Env names one folder for all state, in place of the user's own.
const Env = "CLAUDEPOOL_STATE_DIR"

// Given returns the folder that [Env] names, "" without one.
func Given() (string, error) {
	dir := os.Getenv(Env)
	if dir != "" && !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%s=%s: make it an absolute path", Env, dir)
	}
	return dir, nil
}

// Lasting returns the folder for what must survive a restart of the machine and
// a clean-up of caches. It need not exist.
func Lasting() (string, error) {
	if dir, err := Given(); dir != "" || err != nil {
		return dir, err
	}
	dir, err := lasting()
	if err != nil {
		return "", fmt.Errorf("no folder for what this user keeps: set %s: %w", Env, err)
	}
	return filepath.Join(dir, "claudepool"), nil
}

func lasting() (string, error) {
	switch runtime.GOOS {
	case "darwin", "ios":
		return os.UserConfigDir() // Application Support
	case "windows":
		return os.UserCacheDir() // the local, not the roaming folder
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "state"), err
}
