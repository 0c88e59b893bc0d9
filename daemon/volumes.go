package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// lastWordsTimeout bounds how long a datanode that stops for want of disks tries to tell the namenodes what it lost:
// a message that waits needs one round trip. Without it they find out when its stream breaks.
const lastWordsTimeout = 3 * time.Second

// volumeWatch counts the volumes of a datanode that went out of service.
type volumeWatch struct {
	tolerated, all int
	exceeded       chan struct{} // closed when there are too many
	mu             struct {
		sync.Mutex
		out []datanode.VolumeState
	}
}

func newVolumeWatch(options disk.Options) *volumeWatch {
	all := len(options.Directories)
	return &volumeWatch{
		all: all, tolerated: disk.TolerableFailures(options.FailedVolumesTolerated, all), exceeded: make(chan struct{}),
	}
}

// note is disk.Options.OnVolume.
func (w *volumeWatch) note(state datanode.VolumeState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.out = append(w.mu.out, state)
	if len(w.mu.out) == w.tolerated+1 {
		close(w.exceeded)
	}
}

// err names the volumes that are out of service.
func (w *volumeWatch) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := make([]string, 0, len(w.mu.out))
	for _, v := range w.mu.out {
		texts = append(texts, fmt.Sprintf("%s is %s (%s)", v.Directory, v.Health, v.Error))
	}
	e := fault.New(fault.Disk, "datanode", "%d of %d disks are out of service, %d may be: %s",
		len(w.mu.out), w.all, w.tolerated, strings.Join(texts, "; "))
	e.Hint = "mend or replace them and start the datanode again (datanode.failed_volumes_tolerated)"
	return e
}

// stopWithout ends the daemon when too many volumes are out of service, after the namenodes were told what is lost.
func (d *Daemon) stopWithout(volumes *volumeWatch, control *agent.Agent) {
	told := make(chan struct{})
	d.watchers.Go(func() {
		select {
		case <-volumes.exceeded:
		case <-d.closing:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lastWordsTimeout)
		defer cancel()
		control.Announce(ctx)
		close(told)
	})
	d.watch("chunk store", told, volumes.err)
}
