package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Mix says how often each operation of the workload mixed is drawn. The numbers
// are shares: only their relations count.
type Mix struct{ Read, Create, Stat, List, Delete int }

// DefaultMix reads mostly.
func DefaultMix() Mix { return Mix{Read: 60, Create: 20, Stat: 10, List: 2, Delete: 8} }

// ParseMix reads "read=60,create=20,stat=10,list=2,delete=8"; what is not named
// has no share. Error: fault.Invalid.
func ParseMix(text string) (Mix, error) {
	var m Mix
	for part := range strings.SplitSeq(text, ",") {
		name, share, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(share)
		field := map[string]*int{"read": &m.Read, "create": &m.Create, "stat": &m.Stat, "list": &m.List, "delete": &m.Delete}[name]
		if err != nil || n < 0 || n > 1_000_000 || field == nil {
			return Mix{}, fault.New(fault.Invalid, "parse mix", "%q: want NAME=SHARE with read, create, stat, list or delete", part)
		}
		*field = n
	}
	if m.total() == 0 {
		return Mix{}, fault.New(fault.Invalid, "parse mix", "%q: all shares are 0", text)
	}
	return m, nil
}

func (m Mix) total() int { return m.Read + m.Create + m.Stat + m.List + m.Delete }

// String is what ParseMix reads.
func (m Mix) String() string {
	return fmt.Sprintf("read=%d,create=%d,stat=%d,list=%d,delete=%d", m.Read, m.Create, m.Stat, m.List, m.Delete)
}

// Kinds of the workload mixed, by index.
const (
	mixRead = iota
	mixCreate
	mixStat
	mixList
	mixDelete
)

// draw picks a kind by a number below total.
func (m Mix) draw(n int) int {
	for kind, share := range []int{m.Read, m.Create, m.Stat, m.List, m.Delete} {
		if n < share {
			return kind
		}
		n -= share
	}
	return mixRead
}

// mixedFilesDefault are there before the mix begins.
const mixedFilesDefault = 1000

// makeMixed draws operations on small files at random. Files that are created
// during the run are read during it, and all that are left are read at the end.
func makeMixed(w *Workload) error {
	o := &w.options
	if o.Mix.total() == 0 {
		o.Mix = DefaultMix()
	}
	if o.Files == 0 {
		o.Files = mixedFilesDefault
	}
	s := newSmallFiles(w)
	w.Phases = []Phase{{
		Kinds: []string{"read", "create", "stat", "list", "delete"}, Floors: []string{floor.Echo, floor.SmallSynced},
		prepare: func(ctx context.Context) error {
			if err := s.folders(ctx); err != nil {
				return err
			}
			// Workers' buffers are not used at once: the load has not begun.
			return eachWorker(ctx, o.Workers, o.Files, func(ctx context.Context, worker, i int) error {
				_, err := s.create(ctx, worker, stockedFrom+uint64(i))
				return err
			})
		},
		op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
			random := rand.New(rand.NewPCG(o.Seed, uint64(number)))
			kind := o.Mix.draw(random.IntN(o.Mix.total()))
			at := random.Uint64()
			file, any := s.made.pick(at)
			if !any && (kind == mixRead || kind == mixStat || kind == mixDelete) {
				kind = mixCreate // deletes have emptied the store
			}
			n, err := int64(0), error(nil)
			switch kind {
			case mixRead:
				n, err = s.read(ctx, worker, file, &s.buffers[worker].in)
			case mixCreate:
				n, err = s.create(ctx, worker, uint64(number))
			case mixStat:
				_, err = w.client(worker).Stat(ctx, s.path(file))
			case mixList:
				_, err = w.client(worker).ReadDir(ctx, fmt.Sprintf("%s/%02d", o.Directory, at%foldersOfSmall))
			case mixDelete:
				if file, any = s.made.take(); any {
					_, err = w.client(worker).Remove(ctx, s.path(file), client.RemoveOptions{})
				}
			}
			if fault.KindOf(err) == fault.NotFound && (kind == mixRead || kind == mixStat) {
				err = nil // another worker deleted it between pick and now
			}
			return load.Done{Kind: kind, Bytes: n}, err
		},
		verify: w.verifySmall(s),
	}}
	return nil
}

// eachWorker does something for 0..n-1, as many at once as there are workers,
// each with a worker's number of its own.
func eachWorker(ctx context.Context, workers, n int, do func(ctx context.Context, worker, i int) error) error {
	return each(ctx, min(workers, parallelPrepare), func(ctx context.Context, worker int) error {
		for i := worker; i < n; i += min(workers, parallelPrepare) {
			if err := do(ctx, worker, i); err != nil {
				return err
			}
		}
		return nil
	})
}
