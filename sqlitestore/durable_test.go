package sqlitestore_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// BenchmarkCreate is the price of keeping a task, alone and among others.
func BenchmarkCreate(b *testing.B) {
	for _, sync := range []sqlitestore.Synchronous{sqlitestore.Full, sqlitestore.Normal} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", sync, callers), func(b *testing.B) {
				s, err := sqlitestore.Open(b.Context(), filepath.Join(b.TempDir(), "pool.db"), sqlitestore.Options{Synchronous: sync})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				create(b, s, callers)
			})
		}
	}
}

// create creates b.N tasks.
func create(b *testing.B, s claudepool.PoolStore, callers int) {
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for {
				i := n.Add(1)
				if i > int64(b.N) {
					return
				}
				r := claudepool.TaskRecord{ID: claudepool.TaskID(fmt.Sprintf("task-%09d", i)), Task: claudepool.Task{Prompt: "do it", Owner: "go"}, Submitted: noon}
				if _, _, err := s.CreateTask(b.Context(), r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
