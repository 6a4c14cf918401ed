package main

import (
	"os"
	"time"
)

// sameWish is how long after one signal another one may be a part of the same
// wish that the server end: clients send SIGINT and, when the server is not gone
// at once, SIGTERM. The Claude CLI leaves 0.1 s between the two.
const sameWish = time.Second

// insists waits until somebody insists, by another signal, on the end of a
// server that is draining since the first signal, or since its client has gone,
// when first is nil. It returns false when done is closed before that.
func insists(signals <-chan os.Signal, first os.Signal, done <-chan struct{}) bool {
	at, polite := time.Now(), true // one more signal may be polite
	for {
		select {
		case s := <-signals:
			switch {
			case first == nil:
				first, at = s, time.Now()
			case polite && s != first && time.Since(at) < sameWish:
				polite = false
			default:
				return true
			}
		case <-done:
			return false
		}
	}
}
