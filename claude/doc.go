// Package claude drives one process of the Claude CLI over its stream-json
// protocol.
package claude
