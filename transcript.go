package claudepool

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// transcripts keeps what passes between the pool and its agents: one file of
// JSON lines for each attempt, {"dir":"in"|"out","at":…,"msg":…}.
type transcripts struct{ root *os.Root }

func openTranscripts(dir string) (*transcripts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, invalidField("transcripts", "cannot be kept: %v", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, invalidField("transcripts", "cannot be kept: %v", err)
	}
	return &transcripts{root}, nil
}

// close releases the folder. There may be none.
func (t *transcripts) close() error {
	if t == nil {
		return nil
	}
	return t.root.Close()
}

func transcriptName(id TaskID, attempt int) string { return fmt.Sprintf("%s.%d.jsonl", id, attempt) }

// transcriptNames matches every transcriptName.
var transcriptNames = regexp.MustCompile(`^task-[0-9a-z]{26}(\.[0-9a-z]+)*\.[1-9][0-9]*\.jsonl$`)

// prune removes the files that are more than keep allows, the oldest first, but
// none that busy reports as being written to. It reports whether there are more.
// There may be no folder.
func (t *transcripts) prune(ctx context.Context, keep Retention, busy func(name string) bool, now time.Time) (more bool, err error) {
	if t == nil {
		return false, nil
	}
	var all []fs.FileInfo
	err = eachEntry(ctx, t.root, ".", func(e fs.DirEntry) error {
		if !e.Type().IsRegular() || !transcriptNames.MatchString(e.Name()) {
			return nil // none of ours
		}
		info, err := t.root.Lstat(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			return err
		default:
			all = append(all, info)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look through the transcripts: %w", err)
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), strings.Compare(b.Name(), a.Name()))
	})
	removed := 0
	for i := len(all) - 1; i >= 0; i-- {
		f := all[i]
		excess := keep.Count >= 0 && i >= keep.Count
		old := keep.Age >= 0 && now.Sub(f.ModTime()) > keep.Age
		switch {
		case !excess && !old:
			return false, nil // nor are those that are newer
		case busy(f.Name()):
			continue
		case removed == pruneMost:
			return true, nil
		}
		if err := t.root.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("remove a transcript: %w", err)
		}
		removed++
	}
	return false, nil
}

// ErrNoTranscript: no transcript of that attempt is kept.
var ErrNoTranscript = errors.New("no such transcript")

// Transcript opens the transcript of an attempt, counted from 1. The caller
// closes it. [ErrNoTranscript] says that there is none.
func (p *Pool) Transcript(id TaskID, attempt int) (io.ReadCloser, error) {
	if p.transcript == nil {
		return nil, fmt.Errorf("%w: this pool keeps none; give it a folder for them (Transcripts)", ErrNoTranscript)
	}
	f, err := p.transcript.root.Open(transcriptName(id, attempt))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w of attempt %d of task %s", ErrNoTranscript, attempt, id)
	}
	return f, err
}

// transcriptWriter is where a slot's lines go while an attempt runs.
type transcriptWriter struct {
	mu   sync.Mutex
	file *os.File
	buf  *bufio.Writer
	err  error // the first one; what follows is dropped
}

// beginTranscript opens the file of an attempt.
func (s *slot) beginTranscript(r *TaskRecord) {
	t := s.p.transcript
	if t == nil {
		return
	}
	f, err := t.root.OpenFile(transcriptName(r.ID, r.Attempts), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		s.p.log.Warn("transcript cannot be kept", "task", r.ID, "err", err)
		return
	}
	w := &s.lines
	w.mu.Lock()
	w.file, w.buf, w.err = f, bufio.NewWriterSize(f, 64<<10), nil
	w.mu.Unlock()
}

// endTranscript closes the file of the attempt.
func (s *slot) endTranscript() {
	w := &s.lines
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return
	}
	if err := errors.Join(w.err, w.buf.Flush(), w.file.Close()); err != nil {
		s.p.log.Warn("transcript is not complete", "file", w.file.Name(), "err", err)
	}
	w.file, w.buf = nil, nil
}

// trace writes a line to the transcript of the running attempt, if there is one.
func (s *slot) trace(dir claude.Direction, line []byte) {
	w := &s.lines
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf == nil || w.err != nil {
		return
	}
	b, err := json.Marshal(traceLine{dir, time.Now(), line})
	if err != nil { // not JSON: kept as text
		b, err = json.Marshal(traceText{dir, time.Now(), string(line)})
	}
	if err == nil {
		_, err = w.buf.Write(append(b, '\n'))
	}
	w.err = err
}

type traceLine struct {
	Dir claude.Direction `json:"dir"`
	At  time.Time        `json:"at"`
	Msg json.RawMessage  `json:"msg"`
}

type traceText struct {
	Dir  claude.Direction `json:"dir"`
	At   time.Time        `json:"at"`
	Text string           `json:"text"`
}
