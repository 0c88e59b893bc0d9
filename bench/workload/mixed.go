package workload

import (
	"cmp"
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

// Mix says how often each operation of the workload mixed is drawn. The numbers are shares: only their relations count.
type Mix struct{ Read, Create, Stat, List, Delete int }

// DefaultMix reads mostly.
func DefaultMix() Mix { return Mix{Read: 60, Create: 20, Stat: 10, List: 2, Delete: 8} }

// ParseMix reads "read=60,create=20,stat=10,list=2,delete=8"; what is not named has no share. Error: fault.Invalid.
func ParseMix(text string) (Mix, error) {
	var mix Mix
	for part := range strings.SplitSeq(text, ",") {
		name, share, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(share)
		field := map[string]*int{"read": &mix.Read, "create": &mix.Create, "stat": &mix.Stat, "list": &mix.List,
			"delete": &mix.Delete}[name]
		if err != nil || n < 0 || n > 1_000_000 || field == nil {
			return Mix{}, fault.New(fault.Invalid, "parse mix",
				"%q: want NAME=SHARE with read, create, stat, list or delete", part)
		}
		*field = n
	}
	if mix.total() == 0 {
		return Mix{}, fault.New(fault.Invalid, "parse mix", "%q: all shares are 0", text)
	}
	return mix, nil
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
func makeMixed(workload *Workload) error {
	options := &workload.options
	if options.Mix.total() == 0 {
		options.Mix = DefaultMix()
	}
	options.Files = cmp.Or(options.Files, mixedFilesDefault)
	files := newSmallFiles(workload)
	workload.Phases = []Phase{{
		Kinds: []string{"read", "create", "stat", "list", "delete"}, Floors: []string{floor.Echo, floor.SmallSynced},
		prepare: func(ctx context.Context) error {
			if err := files.folders(ctx); err != nil {
				return err
			}
			// Workers' buffers are not used at once: the load has not begun.
			return eachWorker(ctx, options.Workers, options.Files, func(ctx context.Context, worker, i int) error {
				_, err := files.create(ctx, worker, stockedFrom+uint64(i))
				return err
			})
		},
		op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
			random := rand.New(rand.NewPCG(options.Seed, uint64(number)))
			kind := options.Mix.draw(random.IntN(options.Mix.total()))
			at := random.Uint64()
			file, found := files.made.pick(at)
			if !found && (kind == mixRead || kind == mixStat || kind == mixDelete) {
				kind = mixCreate // deletes have emptied the store
			}
			count, err := int64(0), error(nil)
			switch kind {
			case mixRead:
				count, err = files.read(ctx, worker, file, &files.buffers[worker].in)
			case mixCreate:
				count, err = files.create(ctx, worker, uint64(number))
			case mixStat:
				_, err = workload.client(worker).Stat(ctx, files.path(file))
			case mixList:
				_, err = workload.client(worker).ReadDir(ctx,
					fmt.Sprintf("%s/%02d", options.Directory, at%foldersOfSmall))
			case mixDelete:
				if file, found = files.made.pop(); found {
					_, err = workload.client(worker).Remove(ctx, files.path(file), client.RemoveOptions{})
				}
			}
			if fault.KindOf(err) == fault.NotFound && (kind == mixRead || kind == mixStat) {
				err = nil // another worker deleted it between pick and now
			}
			return load.Done{Kind: kind, Bytes: count}, err
		},
		verify: workload.verifySmall(files),
	}}
	return nil
}

// eachWorker does something for 0..n-1, as many at once as there are workers, each with a worker's number of its own.
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
