package claude

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

const (
	lineChunk = 64 << 10 // read at once
	lineKeep  = 1 << 20  // a larger buffer is not kept for the next line
)

// lineReader splits a stream into lines of any length up to max.
type lineReader struct {
	r   *bufio.Reader
	max int
	buf []byte
}

func newLineReader(r io.Reader, max int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, lineChunk), max: max}
}

// next returns the next line without its end. The slice is valid until the
// next call. A last line without its end comes with [io.ErrUnexpectedEOF].
func (l *lineReader) next() ([]byte, error) {
	if cap(l.buf) > lineKeep {
		l.buf = nil
	}
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > l.max+1 {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrLineTooLong, l.max)
		}
		switch {
		case err == nil && len(l.buf) == 0:
			return trimEnd(part), nil // the common case copies nothing
		case err == nil:
			l.buf = append(l.buf, part...)
			return trimEnd(l.buf), nil
		case err == bufio.ErrBufferFull:
			l.buf = append(l.buf, part...)
		default:
			l.buf = append(l.buf, part...)
			if len(l.buf) > 0 && err == io.EOF {
				return l.buf, io.ErrUnexpectedEOF
			}
			return l.buf, err
		}
	}
}

func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}
