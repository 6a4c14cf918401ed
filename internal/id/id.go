// Package id makes identifiers that sort by the time they were made.
package id

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// alphabet is Crockford's base 32 in lower case: no i, l, o or u, and the
// order of the digits is the order of their bytes.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// Source makes identifiers, each greater than the one before, also within one
// millisecond and when the clock goes back. The zero value is ready to use; it
// is safe for concurrent use.
type Source struct {
	mu     sync.Mutex
	millis uint64 // of the last identifier
	hi, lo uint64 // its 80 other bits: 16 and 64
}

// Next returns prefix, a hyphen and 26 characters: 48 bits of milliseconds
// since the Unix epoch, then 80 bits that are random at the first identifier of
// a millisecond and count on from there. The result is safe in a file name and
// in a git branch name.
func (s *Source) Next(prefix string, at time.Time) string {
	s.mu.Lock()
	if now := uint64(at.UnixMilli()); now > s.millis {
		var b [10]byte
		rand.Read(b[:]) // never fails: crypto/rand ends the program instead
		s.millis = now
		s.hi = uint64(binary.BigEndian.Uint16(b[:2])) &^ (1 << 15) // room to count on
		s.lo = binary.BigEndian.Uint64(b[2:])
	} else if s.lo++; s.lo == 0 {
		s.hi++
	}
	hi, lo := s.millis<<16|s.hi&0xffff, s.lo
	s.mu.Unlock()

	out := make([]byte, 0, len(prefix)+27)
	out = append(out, prefix...)
	out = append(out, '-')
	for shift := 125; shift >= 0; shift -= 5 {
		out = append(out, alphabet[digit(hi, lo, uint(shift))])
	}
	return string(out)
}

// digit returns the five bits of hi:lo that start at bit shift.
func digit(hi, lo uint64, shift uint) byte {
	var v uint64
	switch {
	case shift >= 64:
		v = hi >> (shift - 64)
	case shift > 59:
		v = lo>>shift | hi<<(64-shift)
	default:
		v = lo >> shift
	}
	return byte(v & 31)
}
