// Package id makes identifiers that sort by the time they were made.
package id

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// alphabet is Crockford's base 32 in lower case: no i, l, o or u, and the
// order of the digits is the order of their bytes.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// New returns prefix, a hyphen and 26 characters: 48 bits of milliseconds since
// the Unix epoch, then 80 random bits. The result is safe in a file name and
// in a git branch name.
func New(prefix string, at time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMilli())<<16)
	rand.Read(b[6:]) // never fails: crypto/rand ends the program instead
	out := make([]byte, 0, len(prefix)+27)
	out = append(out, prefix...)
	out = append(out, '-')
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	for shift := 125; shift >= 0; shift -= 5 {
		out = append(out, alphabet[bits(hi, lo, uint(shift))])
	}
	return string(out)
}

// bits returns the five bits of hi:lo that start at position shift.
func bits(hi, lo uint64, shift uint) byte {
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
