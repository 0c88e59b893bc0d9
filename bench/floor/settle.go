package floor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	settleStep       = 250 * time.Millisecond
	settleSteps      = 2       // quiet ones in a row
	settleSectorsMax = 2 << 10 // moved in a quiet step: 4 MiB/s, more than idle daemons write
)

// Settle writes out what the directory's file system has in memory and waits until its disk does nothing, for at
// most the given time. Otherwise the removal of earlier files would be charged to the next measurement: a file
// system mounted with discard frees the blocks of removed files only after its commit (tuning.md#settle). quiet is
// false when the time was not enough. A directory that is on no disk of this machine is quiet at once. Errors: that
// of the directory; ctx ended.
func Settle(ctx context.Context, directory string, most time.Duration) (quiet bool, err error) {
	if most <= 0 {
		return true, nil
	}
	failed := func(err error) (bool, error) {
		return false, &fault.Error{Kind: fault.Disk, Op: "wait for the disk to settle", Path: directory, Err: err}
	}
	folder, err := os.Open(directory)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = folder.Close() }() // nothing was written to it
	if err := unix.Syncfs(int(folder.Fd())); err != nil {
		return failed(err)
	}
	var info unix.Stat_t
	if err := unix.Fstat(int(folder.Fd()), &info); err != nil {
		return failed(err)
	}
	path := fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(info.Dev), unix.Minor(info.Dev))
	var wall clock.Real
	deadline, steps := wall.Now().Add(most), 0
	before, err := readActivity(path)
	for err == nil && steps < settleSteps {
		if !wall.Now().Before(deadline) {
			return false, nil
		}
		if err := clock.Sleep(ctx, wall, settleStep); err != nil {
			return false, err
		}
		var now activity
		if now, err = readActivity(path); now.quietSince(before) {
			steps++
		} else {
			steps = 0
		}
		before = now
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	return true, nil
}

// settle settles before or after a measurement. After a disk that did not become
// quiet in time, the next wait is short: it may never be.
func (o *Options) settle(ctx context.Context, directory string) error {
	quiet, err := Settle(ctx, directory, o.Settle)
	if err == nil && !quiet {
		if o.OnRestless != nil {
			o.OnRestless(o.Settle)
		}
		o.Settle = min(o.Settle, SettleAgain)
	}
	return err
}

// SettleAgain is how long to wait at most for a disk that was not quiet in time before.
const SettleAgain = 2 * time.Second

// activity is what a disk has done, and does.
type activity struct {
	sectors  uint64 // read, written and discarded
	discards uint64
	inFlight uint64
}

func (a activity) quietSince(b activity) bool {
	return a.inFlight == 0 && a.discards == b.discards && a.sectors-b.sectors <= settleSectorsMax
}

// readActivity reads a disk's statistics; the kernel's Documentation/block/stat.rst names the fields.
func readActivity(path string) (activity, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return activity{}, err
	}
	return parseActivity(string(text))
}

func parseActivity(text string) (activity, error) {
	var numbers [15]uint64
	fields := strings.Fields(text)
	for i := range min(len(fields), len(numbers)) {
		var err error
		if numbers[i], err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return activity{}, fmt.Errorf("field %d of a disk's statistics: %w", i+1, err)
		}
	}
	if len(fields) < 11 { // kernels before 4.18 do not report discards
		return activity{}, fmt.Errorf("a disk's statistics have %d fields, not 11 or more", len(fields))
	}
	return activity{sectors: numbers[2] + numbers[6] + numbers[13], discards: numbers[11], inFlight: numbers[8]}, nil
}
