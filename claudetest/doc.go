// Package claudetest is for testing programs that run Claude CLI processes:
// offline, at no cost, and with every misfortune that a long-lived process can
// have. It offers two ways, which share one prompt language.
//
// # The real CLI on a scripted model
//
// [NewAPI] starts a Messages API on loopback, and [Isolate] a place in which
// the real CLI talks to it and to nothing else: its own HOME and configuration
// folder, a fake key, and every other way out closed. Even where a person is
// logged in, nothing is spent and nothing of theirs is read or changed.
//
//	func TestMine(t *testing.T) {
//		cli := claudetest.CLI(t) // skips when there is none
//		api := claudetest.NewAPI(t, nil)
//		iso := claudetest.Isolate(t, api)
//		p, err := claude.Start(t.Context(), iso.Options(cli))
//		…
//		p.Turn(ctx, claude.Prompt{Text: "[[bash:echo hi]]"}, nil) // answers "hi"
//	}
//
// A [Script] decides each answer from the request. [Directives], which a nil
// script means, does what the prompt says, so that one API can serve many
// processes without coordination; [Match], [Sequence] and [Echo] are ready
// made. A [Reply] can be slow, huge, refused, dropped or hanging.
// [API.Requests] and [API.Wait] tell what was asked.
//
// # A stand-in for the CLI
//
// Where even the CLI is too much, for fast tests, for demonstrations on a
// machine with Go alone, and for faults that the real one does not have on
// demand, a program can stand in for it. It speaks the same protocol, keeps
// sessions, runs Bash, Read, Write and Edit, asks for permission and counts
// costs; its model is the prompt language, or a short sentence about the
// prompt. No build step is needed, since your own program stands in when it is
// started again:
//
//	func TestMain(m *testing.M) {
//		claudetest.Main() // when started as the stand-in, it does not return
//		os.Exit(m.Run())
//	}
//
//	func TestCrash(t *testing.T) {
//		o := claudetest.StandIn(t, claudetest.FaultSlowStart.With("2s"))
//		p, err := claude.Start(t.Context(), o)
//		…
//		p.Turn(ctx, claude.Prompt{Text: "[[fault:crash]]"}, nil)
//	}
//
// Outside of tests, [StandInOptions] and [MainScript] do the same, and the
// command claude-standin is a program of its own. A [Fault] holds for the
// whole life of a process, or for one turn when the prompt asks for it.
//
// The stand-in imitates version [StandInVersion]; the tests of this package run
// the same dialogues against the real one and compare line by line. It leaves
// out what a driver of a warm process does not need: subagents, hooks, cron
// jobs, compaction, images, set_cwd and rewind_conversation, messages that are
// folded into a running turn, and a shell directory that persists. MCP servers
// that are not served by the host are listed as connected, but not started.
//
// # The prompt language
//
// [Directives] lists all of it. Some that are used most:
//
//	[[reply:text]]          say text
//	[[bash:command]]        run a command; its output is the answer
//	[[history]]             say what was said before, to find what leaks
//	[[sleep:500ms]]         wait before the answer
//	[[status:529:2]]        overloaded at the first two attempts
//	[[usage:1000,50]]       what it costs
//	[[fault:crash]]         misbehave
package claudetest
