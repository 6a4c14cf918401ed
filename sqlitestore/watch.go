package sqlitestore

import (
	"context"
	"database/sql"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/internal/feed"
)

// watchers are told of changes, those that other programs make included.
type watchers struct {
	feed *feed.Feed[claudepool.Change]
	last int64 // the number of the last change that was told; of the writer
}

func newWatchers() watchers { return watchers{feed: feed.New(claudepool.Change{Lost: true})} }

// Watch implements [claudepool.PoolStore]. 1,023 changes can wait for the reader.
func (s *Store) Watch(ctx context.Context) (<-chan claudepool.Change, error) {
	var changes <-chan claudepool.Change
	err := s.await(s.watches, &step{ctx: ctx, run: func(*tx) error {
		s.tell()
		if s.watch.feed.Readers() == 0 {
			if err := s.skip(); err != nil {
				return err
			}
		}
		changes = s.watch.feed.Read(ctx)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// tell tells the watchers what has changed. It runs in the writer.
func (s *Store) tell() {
	if s.watch.feed.Readers() == 0 {
		return
	}
	for {
		n := 0
		err := s.tx.rows("SELECT seq, task, state, outcome, slot, is_chain FROM changes WHERE seq > ? ORDER BY seq LIMIT 1000", []any{s.watch.last}, func(row scanner) error {
			var c claudepool.Change
			var seq int64
			if err := row.Scan(&seq, &c.TaskID, &c.State, &c.Outcome, &c.SlotID, &c.Chain); err != nil {
				return err
			}
			if seq != s.watch.last+1 {
				s.watch.feed.Lose() // others were quicker to forget than this program to look
			}
			s.watch.last = seq
			s.watch.feed.Send(c)
			n++
			return nil
		})
		if err != nil {
			s.watch.feed.Lose() // they look for themselves, and learn what is wrong
			return
		}
		if n < 1000 {
			return
		}
	}
}

// skip leaves untold what has changed so far. It runs in the writer.
func (s *Store) skip() error {
	var last sql.NullInt64
	err := s.tx.row("SELECT max(seq) FROM changes", nil, &last)
	s.watch.last = max(last.Int64, 0)
	return err
}
