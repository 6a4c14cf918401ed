package sqlitestore

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

// What a line is called leads back to it.
func TestLineKeys(t *testing.T) {
	t.Parallel()
	for _, r := range []claudepool.TaskRecord{
		{},
		{Chain: &claudepool.Chain{}},
		{Task: claudepool.Task{Slot: `a"b`, Role: "<ö>", Tags: []string{"z", "a", "z", "free"}, Allowance: &claudepool.Allowance{ID: "chains"}}},
	} {
		l := lineOf(&r, func(tag string) bool { return tag != "free" })
		got, err := parseLine(l.key())
		if err != nil || got.key() != l.key() || got.chains != l.chains || got.slot != l.slot || got.role != l.role || got.allowance != l.allowance || len(got.tags) != len(l.tags) {
			t.Errorf("%+v is called %s and read as %+v, error %v", l, l.key(), got, err)
		}
	}
	l := lineOf(&claudepool.TaskRecord{Task: claudepool.Task{Tags: []string{"z", "a", "z"}}}, func(string) bool { return true })
	if want := []string{"a", "z"}; !reflect.DeepEqual(l.tags, want) {
		t.Errorf("tags of the line: %v, want %v", l.tags, want)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, key := range []string{"chains", `["","",""]`, `["slot-0","role","a","x","y"]`, `["a"]`, `{}`, `[1,2,3]`, "", "null", `["","","",null]`} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		l, err := parseLine(key)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v, want ErrCorrupt", err)
			}
			return
		}
		again, err := parseLine(l.key())
		if err != nil || again.key() != l.key() {
			t.Errorf("%q is read as %+v, whose key %q is read as %+v, error %v", key, l, l.key(), again, err)
		}
	})
}

// A time comes back as it was, or as the nearest that can be stored.
func FuzzTimestamp(f *testing.F) {
	for _, t := range []time.Time{{}, time.Unix(0, 0), time.Unix(0, -1), time.Date(9999, 12, 31, 23, 59, 59, 999, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)} {
		f.Add(t.Unix(), int64(t.Nanosecond()))
	}
	f.Fuzz(func(t *testing.T, seconds, nanoseconds int64) {
		in := time.Unix(seconds, nanoseconds)
		var out timestamp
		if err := out.Scan(nanos(in)); err != nil {
			t.Fatal(err)
		}
		want := in
		switch {
		case in.IsZero():
		case in.Before(earliest):
			want = earliest
		case in.After(latest):
			want = latest
		}
		if !out.Equal(want) {
			t.Errorf("%v is stored as %v and read as %v, want %v", in, nanos(in), out, want)
		}
	})
}

func TestTimestampThatIsNone(t *testing.T) {
	t.Parallel()
	for _, v := range []any{"yesterday", 1.5, []byte("x"), true} {
		if err := new(timestamp).Scan(v); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: error %v, want ErrCorrupt", v, err)
		}
	}
}
