package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
)

// manualClock shows the time that a test sets.
type manualClock struct {
	clock.Real
	now time.Time
}

func (c *manualClock) Now() time.Time { return c.now }

// proc is what a kernel tells.
type proc struct {
	user, idle, stalled, ticks, received, sent int
}

func (p proc) write(t *testing.T, root string) {
	t.Helper()
	for name, text := range map[string]string{
		"stat":        fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 0 0 0\n", p.user, p.idle),
		"pressure/io": fmt.Sprintf("some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", p.stalled),
		"diskstats": "   7       0 loop0 1 2 3 4 5 6 7 8 0 77 10\n" +
			fmt.Sprintf(" 259       1 nvme0n1p1 657 12 5130 659 446 294 2312 438 0 %d 1439 0 0 0 0 254 340\n", p.ticks),
		"net/dev": "Inter-|   Receive                                                |  Transmit\n" +
			" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls" +
			" carrier compressed\n    lo: 9999999 1 0 0 0 0 0 0 9999999 1 0 0 0 0 0 0\n" +
			fmt.Sprintf("  eth0: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0\n", p.received, p.sent),
	} {
		file := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
}

func TestMeter(t *testing.T) {
	root, manual := t.TempDir(), &manualClock{now: time.Unix(1e9, 0)}
	proc{user: 100, idle: 100, stalled: 1_000_000, ticks: 5000, received: 1 << 20, sent: 1 << 20}.write(t, root)
	m := newMeter(manual, root)
	disk, tmpfs := unix.Mkdev(259, 1), unix.Mkdev(0, 26)
	require.Zero(t, m.Load(), "nothing has passed")

	manual.now = manual.now.Add(2 * time.Second)
	proc{user: 250, idle: 150, stalled: 1_500_000, ticks: 6800, received: 3 << 20, sent: 7 << 20}.write(t, root)
	expected := datanode.SystemLoad{CPUPermille: 750, StalledPermille: 250, ReceivedBytesPerSecond: 1 << 20,
		SentBytesPerSecond: 3 << 20}
	require.Equal(t, expected, m.Load())
	require.EqualValues(t, 900, m.Busy(disk))
	require.Zero(t, m.Busy(tmpfs))

	manual.now = manual.now.Add(windowLeast / 2) // another namenode gets the same
	require.Equal(t, expected, m.Load())

	manual.now = manual.now.Add(time.Second)
	proc{ticks: 9_000_000}.write(t, root) // counters that began anew, one that jumps
	require.Equal(t, datanode.SystemLoad{}, m.Load())
	require.EqualValues(t, 1000, m.Busy(disk))

	require.NoError(t, os.RemoveAll(root))
	manual.now = manual.now.Add(time.Second)
	require.Zero(t, m.Load(), "a machine that does not tell")
}

// The kernel of this machine is understood.
func TestRealMachine(t *testing.T) {
	if _, err := os.Stat("/proc/diskstats"); err != nil {
		t.Skip("no /proc here")
	}
	c := read("/proc")
	require.Positive(t, c.cpu)
	require.NotNil(t, c.disks)
}
