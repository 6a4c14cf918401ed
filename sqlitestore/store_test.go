package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
	"github.com/claudepool/claudepool/storetest"
)

func open(t *testing.T, path string, o sqlitestore.Options) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]sqlitestore.Options{
		"alone": {}, "shared": {Peer: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) claudepool.PoolStore {
				return open(t, filepath.Join(t.TempDir(), "pool.db"), o)
			})
		})
	}
}
