// Command worktree kills what works in the places of package worktree, again and
// again, and looks whether anything that was written is lost.
//
// A host program takes places of one repository and does in them what agents do,
// good and bad; then it is killed, or ends, and the next host takes up what it has
// left. After each a checker that knows nothing of the package's code looks for
// every file and commit, and whether the person's checkout is as it was.
// README.md says what is checked.
//
//	go run ./bench/worktree                     # 1,000 rounds
//	go run ./bench/worktree -rounds 50 -seed 7
package main
