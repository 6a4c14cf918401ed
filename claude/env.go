package claude

import (
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// inherited names the variables a process gets from this program: what it needs
// to run, to reach the API, and to log in. A name that ends in * is a prefix.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TMPDIR", "SSH_AUTH_SOCK",
	"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO",
	"ANTHROPIC_*", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR",
	"CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_SKIP_BEDROCK_AUTH", "AWS_*",
	"CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_SKIP_VERTEX_AUTH", "GOOGLE_*", "GCLOUD_*", "CLOUD_ML_REGION", "VERTEX_REGION_*",
}

// inheritedWindows is what no program runs without there.
var inheritedWindows = []string{"SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERPROFILE", "USERNAME", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA"}

// overruling are inherited by their prefix but would quietly win over Options.
var overruling = []string{"ANTHROPIC_MODEL"}

// markers tell a process that it runs inside another session, and connect it
// to that one. No process gets them, whoever asks.
var markers = []string{
	"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_CHILD_SESSION",
	"CLAUDE_CODE_CHILD_NOTES_DIR", "CLAUDE_CODE_EXECPATH", "CLAUDE_CODE_MESSAGING_SOCKET",
	"CLAUDE_CODE_MESSAGING_TOKEN", "CLAUDE_CODE_SESSION_ATTENDED", "CLAUDE_EFFORT", "CLAUDE_PID", "AI_AGENT",
}

// recipe makes the CLI behave in a process that lives for many tasks.
var recipe = map[string]string{
	"TERM": "dumb",
	// The only sure sign that a turn is over.
	"CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
	// What outlives a turn would reach into the next task.
	"CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
	"CLAUDE_CODE_DISABLE_CRON":             "1",
	"CLAUDE_CODE_DISABLE_AUTO_MEMORY":      "1",
	// The model sees the tools of in-process servers at once.
	"ENABLE_TOOL_SEARCH": "false",
	// A server that accepts and never answers costs two minutes, not six.
	"API_TIMEOUT_MS":                           "120000",
	"DISABLE_AUTOUPDATER":                      "1",
	"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}

// Environment returns the sealed environment of a process, sorted: out of
// parent (in the form of [os.Environ]) only what a process needs, then what
// makes the CLI behave, then add, which wins. Variables that mark a nested
// session are left out even if add has them. An empty value in add sets an
// empty variable.
func Environment(parent []string, add map[string]string) []string {
	allowed := inherited
	if runtime.GOOS == "windows" {
		allowed = slices.Concat(inherited, inheritedWindows)
	}
	env := map[string]string{}
	for _, kv := range parent {
		k, v, _ := strings.Cut(kv, "=")
		if isInherited(allowed, k) && !slices.Contains(overruling, k) {
			env[k] = v
		}
	}
	maps.Copy(env, recipe)
	maps.Copy(env, add)
	for _, k := range markers {
		delete(env, k)
	}
	out := make([]string, 0, len(env))
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

func isInherited(allowed []string, name string) bool {
	if runtime.GOOS == "windows" {
		name = strings.ToUpper(name)
	}
	for _, a := range allowed {
		if prefix, ok := strings.CutSuffix(a, "*"); ok && strings.HasPrefix(name, prefix) || a == name {
			return true
		}
	}
	return false
}

// configDir is the folder in which the CLI keeps its configuration and its
// transcripts, in a process with this environment that starts in dir. Empty
// means that the environment does not tell.
func configDir(env []string, dir string) string {
	config, home := "", ""
	for _, kv := range env {
		switch k, v, _ := strings.Cut(kv, "="); {
		case k == "CLAUDE_CONFIG_DIR":
			config = v
		case k == "HOME", k == "USERPROFILE" && runtime.GOOS == "windows" && home == "":
			home = v
		}
	}
	switch {
	case config == "" && home == "":
		return ""
	case config == "":
		config = filepath.Join(home, ".claude")
	}
	if !filepath.IsAbs(config) {
		config = filepath.Join(dir, config)
	}
	return config
}
