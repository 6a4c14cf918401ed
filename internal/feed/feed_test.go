package feed_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool/internal/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadersGetWhatIsSentFromNowOn(t *testing.T) {
	t.Parallel()
	f := feed.New(-1)
	f.Send(1)
	ctx, cancel := context.WithCancel(t.Context())
	a, b := f.Read(ctx), f.Read(t.Context())
	f.Send(2)
	if got := []int{<-a, <-b}; got[0] != 2 || got[1] != 2 || f.Readers() != 2 {
		t.Errorf("the readers got %v, there are %d", got, f.Readers())
	}
	cancel()
	if v, more := <-a; more {
		t.Errorf("a reader whose context has ended got %d", v)
	}
	f.Close()
	if v, more := <-b; more {
		t.Errorf("a reader of a closed feed got %d", v)
	}
	if _, more := <-f.Read(t.Context()); more || f.Readers() != 0 {
		t.Errorf("a closed feed has %d readers", f.Readers())
	}
}

// However slow a reader is, the last thing it gets tells of every loss.
func TestASlowReaderIsToldOfLosses(t *testing.T) {
	t.Parallel()
	f := feed.New(-1)
	defer f.Close()
	values := f.Read(t.Context())
	for i := range 3000 {
		f.Send(i)
	}
	read := 0
	for v := range values {
		if v == -1 {
			break
		}
		if v != read {
			t.Fatalf("value %d came as number %d", v, read)
		}
		read++
	}
	if read != 1023 {
		t.Errorf("%d values came before the loss, want 1023", read)
	}
	f.Send(5000)
	f.Lose()
	f.Lose()
	if got := []int{<-values, <-values}; got[0] != 5000 || got[1] != -1 {
		t.Errorf("after the loss came %v", got)
	}
	f.Lose()
	if v := <-values; v != -1 {
		t.Errorf("a loss after one that was read came as %d", v)
	}
}

func TestSendersAndReadersComeAndGo(t *testing.T) {
	t.Parallel()
	f := feed.New(-1)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for i := range 500 {
				f.Send(i)
			}
		})
		work.Go(func() {
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				values := f.Read(ctx)
				select {
				case <-values:
				default:
				}
				cancel()
			}
		})
	}
	work.Wait()
	f.Close()
}
