package main

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhichSignalsInsist(t *testing.T) {
	t.Parallel()
	type sent struct {
		after time.Duration
		s     os.Signal
	}
	const soon, late = 100 * time.Millisecond, 2 * time.Second
	intr, term := os.Signal(os.Interrupt), os.Signal(syscall.SIGTERM)
	for name, c := range map[string]struct {
		first os.Signal
		sent  []sent
		want  bool
	}{
		"none":                                {intr, nil, false},
		"the Claude CLI ends its server":      {intr, []sent{{soon, term}}, false},
		"the other way round":                 {term, []sent{{soon, intr}}, false},
		"the same again":                      {intr, []sent{{soon, intr}}, true},
		"the same again, late":                {term, []sent{{late, term}}, true},
		"another one, late":                   {intr, []sent{{late, term}}, true},
		"a third one":                         {intr, []sent{{soon, term}, {soon, intr}}, true},
		"a third one, late":                   {intr, []sent{{soon, term}, {time.Hour, term}}, true},
		"the client is gone, and sends one":   {nil, []sent{{late, intr}}, false},
		"the client is gone, and sends two":   {nil, []sent{{late, intr}, {soon, term}}, false},
		"the client is gone; the same twice":  {nil, []sent{{soon, intr}, {soon, intr}}, true},
		"the client is gone, and sends three": {nil, []sent{{soon, intr}, {soon, term}, {soon, term}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				signals, done := make(chan os.Signal), make(chan struct{})
				got := make(chan bool, 1)
				go func() { got <- insists(signals, c.first, done) }()
				for i, s := range c.sent {
					time.Sleep(s.after)
					signals <- s.s
					synctest.Wait()
					if last := i == len(c.sent)-1; len(got) > 0 && !last {
						t.Fatalf("insisted at signal %d already", i)
					}
				}
				if c.want != (len(got) > 0) {
					t.Errorf("insists: %v, want %v", !c.want, c.want)
				}
				close(done)
				if v := <-got; v != c.want {
					t.Errorf("insists = %v, want %v", v, c.want)
				}
			})
		})
	}
}
