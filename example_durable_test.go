package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// nightly finishes a night's work that it may have begun in an earlier run, if
// that run was cut off: it submits what is not in the file yet, and waits for all.
func nightly(ctx context.Context, b *claudepool.PoolBuilder, file string, work map[string]string) (err error) {
	store, err := sqlitestore.Open(ctx, file, sqlitestore.Options{})
	if err != nil {
		return err // sqlitestore.ErrInUse when another program has the file, and so on
	}
	defer func() { err = errors.Join(err, store.Close()) }() // after the pool

	pool, err := b.Store(store).Build(ctx) // goes on with what the file holds
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }() // hands back what still runs

	for key, prompt := range work {
		// With a key it is the same task in each run, and is paid for once.
		id, err := pool.Submit(ctx, claudepool.Task{Prompt: prompt, IdempotencyKey: key})
		if err != nil {
			return err
		}
		r, err := pool.Wait(ctx, id)
		if err != nil {
			return err
		}
		fmt.Println(key, r.State, r.Output)
	}
	return nil
}

// What a program was told to do outlives it.
func ExamplePoolBuilder_Store() {
	b, cleanup := offline()
	defer cleanup()
	dir, err := os.MkdirTemp("", "claudepool-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for range 2 { // the second time nothing is asked
		if err := nightly(context.Background(), b, filepath.Join(dir, "pool.db"), map[string]string{"changelog": "[[reply:written]]"}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// changelog completed written
	// changelog completed written
}
