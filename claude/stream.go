package claude

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// writeChunk bounds one write, writeTime how long the process may let it wait.
	writeChunk = 256 << 10
	writeTime  = 20 * time.Second
	// stderrTail is how much of stderr is kept for errors.
	stderrTail = 4 << 10
)

// send hands line to the writer. It waits only while the writer has much to do.
func (p *Process) send(done <-chan struct{}, line []byte) error {
	select {
	case p.out <- line:
		return nil
	case <-p.ended:
		return p.Err()
	case <-done:
		return errNotSent
	}
}

var errNotSent = errors.New("claude: not sent")

// writeIn is the only writer of stdin.
func (p *Process) writeIn() {
	for {
		select {
		case <-p.ended:
			return
		case line := <-p.out:
			p.traced(DirectionIn, line)
			if err := p.write(line); err != nil {
				if !errors.Is(err, os.ErrClosed) {
					p.writeFailed(err)
				}
				<-p.ended
				return
			}
		}
	}
}

func (p *Process) write(line []byte) error {
	for len(line) > 0 {
		if d, ok := p.tree.Stdin.(interface{ SetWriteDeadline(time.Time) error }); ok {
			if err := d.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				return err
			}
		}
		n, err := p.tree.Stdin.Write(line[:min(len(line), writeChunk)])
		if err != nil {
			return err
		}
		line = line[n:]
	}
	return nil
}

// writeFailed ends the process unless it is ending already: half a line makes
// all later ones worthless.
func (p *Process) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.fail(fmt.Errorf("%w: it has read nothing for %v", ErrUnresponsive, writeTime))
		return
	}
	select {
	case <-p.tree.Done():
	case <-time.After(p.opts.Load().grace()):
		p.fail(fmt.Errorf("write to the process: %w", err))
	}
}

// readOut is the only reader of stdout.
func (p *Process) readOut() {
	defer close(p.read)
	max := p.opts.Load().MaxLine
	if max == 0 {
		max = DefaultMaxLine
	}
	r := newLineReader(p.tree.Stdout, max)
	for {
		line, err := r.next()
		if err == nil {
			p.traced(DirectionOut, line)
			p.receive(line)
			continue
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			// A whole message that only lacks its end is a message.
			if !p.receive(line) {
				p.mu.Lock()
				p.partial = len(line)
				p.mu.Unlock()
			}
		case errors.Is(err, ErrLineTooLong):
			p.fail(err)
			p.discard(p.tree.Stdout)
		case !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, os.ErrClosed):
			p.fail(fmt.Errorf("read from the process: %w", err))
		}
		return
	}
}

// discard reads on so that a process that is being ended does not hang on a
// full pipe.
func (p *Process) discard(r io.Reader) {
	// Its error is the end of the process, which reap reports.
	io.Copy(io.Discard, r)
}

// readStderr keeps the end of stderr.
func (p *Process) readStderr() {
	defer close(p.errOut)
	// Its error is the end of the process, which reap reports.
	io.Copy(&p.stderr, p.tree.Stderr)
}

func (p *Process) traced(dir Direction, line []byte) {
	o := p.opts.Load()
	if o.Trace == nil {
		return
	}
	clean := p.secrets.Load().text(strings.TrimSuffix(string(line), "\n"))
	p.trace.Lock()
	defer p.trace.Unlock()
	o.Trace(dir, []byte(clean))
}

// tail is a writer that keeps the last stderrTail bytes.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if over := len(t.b) - stderrTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(b), nil
}

// String starts with a whole character.
func (t *tail) String() string {
	b := t.b
	for len(b) > 0 && !utf8.RuneStart(b[0]) {
		b = b[1:]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
