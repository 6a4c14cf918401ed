package claude

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redactor takes secrets out of texts: the values of variables that look like
// credentials, and everything that has the form of an Anthropic key.
type redactor struct{ values *strings.Replacer }

const redacted = "[redacted]"

// shortest is the length below which a value is taken for a setting, not a
// secret: replacing "1" or "true" would ruin every text.
const shortest = 6

var (
	secretName = regexp.MustCompile(`(?i)(key|token|secret|passw|credential|auth|cookie)`)
	notSecret  = regexp.MustCompile(`(?i)(_sock$|_dir$|_file$|_path$|_region$|_skip_|^claude_code_skip)`)
	secretForm = regexp.MustCompile(`sk-ant-[A-Za-z0-9_-]{8,}`)
)

// newRedactor knows the secrets of env (in the form of [os.Environ]) and of
// the given JSON configurations.
func newRedactor(env []string, configs ...json.RawMessage) *redactor {
	secrets := map[string]bool{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		addSecret(secrets, k, v)
	}
	for _, c := range configs {
		var v any
		if json.Unmarshal(c, &v) == nil {
			walkSecrets(secrets, "", v)
		}
	}
	values := make([]string, 0, len(secrets))
	for s := range secrets {
		values = append(values, s)
	}
	// The longest first, so that a secret that contains another goes whole.
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(values))
	for _, v := range values {
		pairs = append(pairs, v, redacted)
	}
	return &redactor{strings.NewReplacer(pairs...)}
}

func addSecret(secrets map[string]bool, name, value string) {
	if u, err := url.Parse(value); err == nil && u.User != nil {
		if pw, ok := u.User.Password(); ok && pw != "" {
			remember(secrets, pw)
		}
	}
	if secretName.MatchString(name) && !notSecret.MatchString(name) {
		remember(secrets, value)
		if _, bare, ok := strings.Cut(value, " "); ok && len(bare) >= shortest {
			remember(secrets, bare) // the token of "Bearer …"
		}
	}
}

// remember keeps the value as it is and as it looks inside a JSON string.
func remember(secrets map[string]bool, value string) {
	if len(value) < shortest {
		return
	}
	secrets[value] = true
	if b, err := json.Marshal(value); err == nil {
		secrets[string(b[1:len(b)-1])] = true
	}
}

// walkSecrets takes every string of a configuration's "env" and "headers", and
// those whose own name says that they are secret.
func walkSecrets(secrets map[string]bool, name string, v any) {
	switch v := v.(type) {
	case string:
		addSecret(secrets, name, v)
	case []any:
		for _, e := range v {
			walkSecrets(secrets, name, e)
		}
	case map[string]any:
		for k, e := range v {
			walkSecrets(secrets, k, e)
		}
	}
}

func (r *redactor) text(s string) string {
	return secretForm.ReplaceAllString(r.values.Replace(s), redacted)
}
