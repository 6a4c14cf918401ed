package storetest_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	fault, broken := faults[os.Getenv(brokenEnv)]
	storetest.Run(t, func(*testing.T) claudepool.PoolStore {
		if broken {
			return fault.make(claudepool.NewMemoryStore())
		}
		return claudepool.NewMemoryStore()
	})
}

func FuzzMemoryStore(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, seed1, seed2 uint64) {
		storetest.Walk(t, claudepool.NewMemoryStore(), rand.NewPCG(seed1, seed2), 200)
	})
}
