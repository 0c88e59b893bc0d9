package copies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	// leaseRenewal of the load's clients, at which a writer also learns that its pipeline may grow.
	leaseRenewal = 2 * time.Second
	// callPatience bounds one call; an error after it is no violation.
	callPatience = 90 * time.Second
	// retryPause keeps a worker from spinning on errors.
	retryPause = 100 * time.Millisecond
	// fileBytesMax is when a worker begins another file.
	fileBytesMax = 1500 << 10
)

// worker is one user of the cluster.
type worker interface {
	// step makes a few calls and has every acknowledgement judged. Errors: *violation; anything else is a call that
	// was not acknowledged.
	step(ctx context.Context, user *client.Client) error
	// leave ends what is open, before the user goes. Errors as of step.
	leave(ctx context.Context) error
	// verify reads back everything that was acknowledged.
	verify(ctx context.Context, user *client.Client) error
}

// load is all workers.
type load struct {
	address string
	logger  *slog.Logger // of all users
	workers []worker

	mu struct {
		sync.Mutex
		violations []error
		refused    map[string]int // errors of calls, by kind
	}
}

func newLoad(address string, seed uint64, j *judge, logger *slog.Logger) *load {
	l := &load{address: address, logger: logger}
	l.mu.refused = map[string]int{}
	random := func(index int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(100+index))) }
	for i, pace := range []time.Duration{0, 0, 100 * time.Millisecond, 500 * time.Millisecond} {
		l.workers = append(l.workers, &storer{judge: j, random: random(len(l.workers)), pace: pace,
			directory: fmt.Sprintf("/store-%d", i), contents: map[string][]byte{}})
	}
	for i, idle := range []time.Duration{0, 0, 0, 500 * time.Millisecond, 4 * time.Second} {
		l.workers = append(l.workers, &appender{judge: j, random: random(len(l.workers)), idle: idle,
			directory: fmt.Sprintf("/append-%d", i), contents: map[string][]byte{}})
	}
	serial := &atomic.Int64{}
	for range 2 {
		l.workers = append(l.workers, &recorder{judge: j, random: random(len(l.workers)), serial: serial,
			pieces: map[string][]piece{}})
	}
	return l
}

// run lets every worker work until the context ends, and waits for them.
func (l *load) run(ctx context.Context) error {
	var group sync.WaitGroup
	for i, w := range l.workers {
		user, err := client.Dial(ctx, client.Options{Namenodes: []string{l.address}, LeaseRenewal: leaseRenewal,
			Name: fmt.Sprintf("worker-%d", i), Logger: l.logger.With("worker", i)})
		if err != nil {
			return err
		}
		group.Go(func() {
			defer user.Close()
			for ctx.Err() == nil {
				// A call that is under way when the load ends comes to its own end.
				if err := w.step(context.WithoutCancel(ctx), user); err != nil {
					l.note(err)
					pause(ctx, retryPause)
				}
			}
			if err := w.leave(context.WithoutCancel(ctx)); err != nil {
				l.note(err)
			}
		})
	}
	group.Wait()
	return nil
}

// verify reads back everything that was acknowledged, while nobody works.
func (l *load) verify(ctx context.Context, user *client.Client) error {
	var errs []error
	for _, w := range l.workers {
		errs = append(errs, w.verify(ctx, user))
	}
	return errors.Join(errs...)
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var broken *violation
	if errors.As(err, &broken) {
		l.mu.violations = append(l.mu.violations, broken)
		return
	}
	l.mu.refused[fmt.Sprint(fault.KindOf(err))]++
}

func (l *load) violations() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.mu.violations...)
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("calls that failed: %v", l.mu.refused)
}

// noise makes random bytes.
func noise(random *rand.Rand, size int) []byte {
	source := rand.NewChaCha8([32]byte{byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), 1})
	data := make([]byte, size)
	_, _ = source.Read(data) // never fails
	return data
}

// chunkSize of a new file.
func chunkSize(random *rand.Rand) int64 {
	return []int64{64 << 10, 128 << 10, 256 << 10, 1 << 20}[random.IntN(4)]
}

// lost is a violation that a reader sees.
func lost(path, format string, arguments ...any) error {
	now := time.Now()
	return &violation{acknowledgement: acknowledgement{what: "reading", path: path, length: -1, begun: now}, at: now,
		reason: fmt.Sprintf(format, arguments...)}
}
