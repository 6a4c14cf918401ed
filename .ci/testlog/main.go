// Testlog reads what go test -json writes and prints what a person wants to
// see of it: a line for each package, then the output of the tests that failed
// and the tests that were skipped, with their reasons.
//
// It ends with 1 when something failed, or when a test was skipped for a reason
// that -skips does not match, and with 1 when nothing was tested at all.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("testlog: ")
	skips := flag.String("skips", "", "regular expression for the reasons that a test may be skipped for; none may without it")
	flag.Parse()
	allowed := func(string) bool { return false }
	if *skips != "" {
		re, err := regexp.Compile(*skips)
		if err != nil {
			log.Fatal("flag -skips: ", err)
		}
		allowed = re.MatchString
	}
	s := summary{out: os.Stdout, allowed: allowed, output: map[test][]string{}}
	if err := s.read(os.Stdin); err != nil {
		log.Fatal(err)
	}
	if !s.print() {
		os.Exit(1)
	}
}

// event is one line of go test -json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
}

// test names a test, or with an empty name the rest of its package.
type test struct{ pkg, name string }

type summary struct {
	out     io.Writer
	allowed func(reason string) bool

	output  map[test][]string
	passed  int
	failed  []test
	refused []string // skipped, and should not have been
	skipped []string // skipped, and may
}

// read reads to the end and prints a line for each package as it comes.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
				fmt.Fprint(s.out, line) // go itself complains
			} else {
				s.take(e)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (s *summary) take(e event) {
	at := test{e.Package, e.Test}
	if e.Package == "" {
		at.pkg = e.ImportPath
	}
	switch e.Action {
	case "output", "build-output":
		s.output[at] = append(s.output[at], e.Output)
		if e.Test == "" && isResult(e.Output) {
			fmt.Fprint(s.out, e.Output)
		}
	case "pass":
		if e.Test != "" {
			s.passed++
			delete(s.output, at)
		}
	case "fail", "build-fail":
		s.failed = append(s.failed, at)
	case "skip":
		if e.Test == "" {
			return // a package without tests
		}
		reason := strings.Join(strings.Fields(strings.Join(s.output[at], " ")), " ")
		line := fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason)
		if s.allowed(reason) {
			s.skipped = append(s.skipped, line)
		} else {
			s.refused = append(s.refused, line)
		}
	}
}

// isResult reports whether a line is go test's last word about a package.
func isResult(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t")
}

// print prints what the lines of the packages do not tell, and reports whether
// all is well.
func (s *summary) print() bool {
	for _, t := range s.failed {
		fmt.Fprintf(s.out, "\n=== failed: %s %s\n%s", t.pkg, t.name, strings.Join(s.output[t], ""))
	}
	for _, line := range s.skipped {
		fmt.Fprintln(s.out, "skipped, as it may be:", line)
	}
	for _, line := range s.refused {
		fmt.Fprintln(s.out, "skipped, and must not be:", line)
	}
	fmt.Fprintf(s.out, "%d tests passed, %d failed, %d skipped\n", s.passed, len(s.failed), len(s.skipped)+len(s.refused))
	return len(s.failed) == 0 && len(s.refused) == 0 && s.passed > 0
}
