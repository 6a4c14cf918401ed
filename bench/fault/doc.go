// Command fault kills what runs a pool, again and again, and counts what is
// left of the pool's promises.
//
// A host program with a pool on a SQLite file is given random work and a fault;
// then the next host takes up the same file. After each fault a checker that
// knows nothing of the pool's code reads the file, and compares it with what the
// hosts said and with what the agents were asked. README.md says what is checked.
//
//	go run ./bench/fault                      # everything, more than an hour
//	go run ./bench/fault -rounds 100 -only kill
package main
