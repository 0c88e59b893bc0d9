// Package machine measures what the machine of a process is busy with: processors, waiting for disks, each disk, and
// the network, as the kernel tells in /proc. Where there is no such kernel everything is 0.
//
// A Meter owns the counters it saw last. It runs no goroutine and asks no disk: /proc answers also while a disk hangs.
package machine

import (
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
)

// windowLeast is the shortest time to measure over: who asks again sooner gets the same answer.
const windowLeast = 500 * time.Millisecond

// Meter compares the counters of the kernel with those of its last reading. Any goroutine may call it.
type Meter struct {
	clock clock.Clock
	root  string // of /proc

	mu struct {
		sync.Mutex
		at     time.Time
		before counters
		load   datanode.SystemLoad
		disks  map[device]int64 // thousandths of the time with work
	}
}

// device is a block device by its numbers.
type device struct{ major, minor uint32 }

// counters since the machine started. What cannot be read stays 0.
type counters struct {
	cpu, idle      float64 // seconds of all processors
	stalled        uint64  // µs in which a process waited for a disk
	received, sent uint64  // bytes
	disks          map[device]uint64
}

// NewMeter begins to measure; the first answers are of the time since.
func NewMeter(c clock.Clock) *Meter { return newMeter(c, procfs.DefaultMountPoint) }

func newMeter(c clock.Clock, root string) *Meter {
	m := &Meter{clock: c, root: root}
	m.mu.at, m.mu.before = c.Now(), read(root)
	return m
}

// Load is what the machine was busy with since the reading before.
func (m *Meter) Load() datanode.SystemLoad {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.measureLocked()
	return m.mu.load
}

// Busy is in how many thousandths of the time a disk had work; 0 for what is no disk. The number is that of a
// file's file system (vfs.Device).
func (m *Meter) Busy(number uint64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.measureLocked()
	return m.mu.disks[deviceOf(number)]
}

func (m *Meter) measureLocked() {
	now := m.clock.Now()
	passed := now.Sub(m.mu.at)
	if passed < windowLeast {
		return
	}
	before, after := m.mu.before, read(m.root)
	m.mu.at, m.mu.before = now, after
	m.mu.load = datanode.SystemLoad{
		StalledPermille: permille(float64(after.stalled)-float64(before.stalled),
			float64(passed.Microseconds())),
		ReceivedBytesPerSecond: perSecond(after.received, before.received, passed),
		SentBytesPerSecond:     perSecond(after.sent, before.sent, passed),
	}
	if all := after.cpu - before.cpu; all > 0 {
		m.mu.load.CPUPermille = permille(all-(after.idle-before.idle), all)
	}
	m.mu.disks = make(map[device]int64, len(after.disks))
	for disk, ticks := range after.disks {
		if earlier, known := before.disks[disk]; known {
			m.mu.disks[disk] = permille(float64(ticks)-float64(earlier), float64(passed.Milliseconds()))
		}
	}
}

// permille is a part in thousandths of the whole, 0..1000; a counter that began anew gives 0.
func permille(part, whole float64) int64 { return int64(min(max(part/whole, 0), 1) * 1000) }

func perSecond(after, before uint64, passed time.Duration) int64 {
	if after < before {
		return 0 // an interface has gone
	}
	return int64(float64(after-before) / passed.Seconds())
}

func read(root string) (now counters) {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return now
	}
	if stat, err := fs.Stat(); err == nil {
		t := stat.CPUTotal
		now.idle = t.Idle + t.Iowait
		now.cpu = now.idle + t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ + t.Steal
	}
	if pressure, err := fs.PSIStatsForResource("io"); err == nil && pressure.Some != nil {
		now.stalled = pressure.Some.Total
	}
	if interfaces, err := fs.NetDev(); err == nil {
		for name, line := range interfaces {
			if name != "lo" {
				now.received, now.sent = now.received+line.RxBytes, now.sent+line.TxBytes
			}
		}
	}
	now.disks = readDisks(root)
	return now
}

func readDisks(root string) map[device]uint64 {
	fs, err := blockdevice.NewFS(root, root) // of sysfs nothing is read
	if err != nil {
		return nil
	}
	list, err := fs.ProcDiskstats()
	if err != nil {
		return nil
	}
	ticks := make(map[device]uint64, len(list))
	for _, disk := range list {
		ticks[device{disk.MajorNumber, disk.MinorNumber}] = disk.IOsTotalTicks
	}
	return ticks
}
