// Package bench holds the benchmarks of claudepool. Each compares with an
// alternative that is measured in the same run, and prints the ratio.
// README.md has the commands, what each figure means, and results.
//
// The tests run every benchmark once with small numbers. They look at what came
// out, never at how long it took.
package bench
