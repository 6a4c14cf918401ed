package sqlitestore

import (
	"context"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/internal/feed"
)

// watchers are told of changes, those that other programs make included.
type watchers struct {
	feed *feed.Feed[claudepool.Change]
	// Of the writer: whether anybody has ever watched, and the number of the
	// last change that was read for them.
	watched bool
	last    int64
}

func newWatchers() watchers { return watchers{feed: feed.New(claudepool.Change{Lost: true})} }

// Watch implements [claudepool.PoolStore]. 1,023 changes can wait for the reader.
// It is told of a change when that is on the disk.
func (s *Store) Watch(ctx context.Context) (<-chan claudepool.Change, error) {
	var changes <-chan claudepool.Change
	err := s.await(s.watches, &step{ctx: ctx, run: func(*tx) error {
		changes = s.watch.feed.Read(ctx)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// enlist has a watcher begin after what has changed so far. It runs in the writer.
func (s *Store) enlist(st *step) committed {
	if !st.taken.CompareAndSwap(false, true) {
		return committed{}
	}
	c := committed{watch: st}
	if s.watch.watched {
		c.news = s.news()
		return c
	}
	if err := s.tx.row("SELECT ifnull(max(seq), 0) FROM changes", nil, &s.watch.last); err != nil {
		st.err = s.translate(err)
		close(st.done)
		return committed{}
	}
	s.watch.watched = true
	return c
}

// news returns what has changed since it was asked last. It runs in the writer.
func (s *Store) news() []claudepool.Change {
	if !s.watch.watched {
		return nil
	}
	var news []claudepool.Change
	err := s.tx.rows("SELECT seq, task, state, outcome, slot, is_chain FROM changes WHERE seq > ? ORDER BY seq", []any{s.watch.last}, func(row scanner) error {
		var c claudepool.Change
		var seq int64
		if err := row.Scan(&seq, &c.TaskID, &c.State, &c.Outcome, &c.SlotID, &c.Chain); err != nil {
			return err
		}
		if seq != s.watch.last+1 {
			news = append(news, claudepool.Change{Lost: true}) // others were quicker to forget than this program to look
		}
		s.watch.last = seq
		news = append(news, c)
		return nil
	})
	if err != nil {
		news = append(news, claudepool.Change{Lost: true}) // they look for themselves, and learn what is wrong
	}
	return news
}

// publish tells the watchers.
func (w *watchers) publish(news []claudepool.Change) {
	for _, c := range news {
		if c.Lost {
			w.feed.Lose()
		} else {
			w.feed.Send(c)
		}
	}
}
