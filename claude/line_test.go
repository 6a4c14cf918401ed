package claude

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func readAll(r io.Reader, max int) (lines []string, err error) {
	l := newLineReader(r, max)
	for {
		line, err := l.next()
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			lines = append(lines, string(line))
		}
		if err != nil {
			return lines, err
		}
	}
}

func TestLineReader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*lineChunk)
	huge := strings.Repeat("y", lineKeep+lineChunk)
	for _, tc := range []struct {
		name, in string
		max      int
		want     []string
		err      error
	}{
		{name: "nothing", err: io.EOF},
		{name: "lines", in: "a\nbb\r\n\nc\n", want: []string{"a", "bb", "", "c"}, err: io.EOF},
		{name: "no end", in: "a\nhalf", want: []string{"a", "half"}, err: io.ErrUnexpectedEOF},
		{name: "long", in: long + "\nb\n", want: []string{long, "b"}, err: io.EOF},
		{name: "huge, then small", in: huge + "\nb\n" + huge + "\n", want: []string{huge, "b", huge}, err: io.EOF},
		{name: "just fits", in: "1234\n", max: 4, want: []string{"1234"}, err: io.EOF},
		{name: "does not fit", in: "a\n12345\n", max: 4, want: []string{"a"}, err: ErrLineTooLong},
		{name: "never ends", in: strings.Repeat("z", 2<<20), max: 1 << 20, err: ErrLineTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.max == 0 {
				tc.max = DefaultMaxLine
			}
			for name, r := range map[string]io.Reader{
				"at once": strings.NewReader(tc.in), "in halves": iotest.HalfReader(strings.NewReader(tc.in)), "with data at the end": iotest.DataErrReader(strings.NewReader(tc.in)),
			} {
				got, err := readAll(r, tc.max)
				if !errors.Is(err, tc.err) {
					t.Errorf("%s: error = %v, want %v", name, err, tc.err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s: %s", name, clip(diff, 300))
				}
			}
		})
	}
	broken := errors.New("broken")
	if _, err := readAll(iotest.ErrReader(broken), 10); !errors.Is(err, broken) {
		t.Errorf("error = %v, want that of the reader", err)
	}
}

// Whatever comes, lines joined again are what came.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\nb\n"), 10)
	f.Add([]byte("\r\n\n\nx"), 1)
	f.Fuzz(func(t *testing.T, in []byte, max int) {
		max = 1 + max&0xffff
		l := newLineReader(iotest.OneByteReader(bytes.NewReader(in)), max)
		rest := in
		for {
			line, err := l.next()
			if errors.Is(err, ErrLineTooLong) {
				if i := bytes.IndexByte(rest, '\n'); i >= 0 && i <= max {
					t.Fatalf("a line of %d bytes is refused at %d", i, max)
				}
				return
			}
			if !bytes.HasPrefix(rest, line) {
				t.Fatalf("line %q is not at the start of %q", line, rest)
			}
			rest = rest[len(line):]
			if err != nil {
				if len(rest) > 0 {
					t.Fatalf("%q is left at %v", rest, err)
				}
				return
			}
			rest = bytes.TrimPrefix(rest, []byte("\r"))
			rest = bytes.TrimPrefix(rest, []byte("\n"))
		}
	})
}
