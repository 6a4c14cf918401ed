// Package claudetest is for testing programs that run Claude CLI processes,
// offline and at no cost.
package claudetest
