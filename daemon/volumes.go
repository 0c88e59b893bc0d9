package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// lastWordsTimeout bounds how long a datanode that stops for want of disks tries to tell the namenodes what it lost:
// a message that waits needs one round trip. Without it they find out when its stream breaks.
const lastWordsTimeout = 3 * time.Second

// volumeWatch notices when too many volumes of a datanode are out of service.
type volumeWatch struct {
	setting  int           // datanode.failed_volumes_tolerated
	exceeded chan struct{} // closed when there are too many
	once     sync.Once
	store    atomic.Pointer[disk.Store] // nil until it is open
}

func newVolumeWatch(options disk.Options) *volumeWatch {
	return &volumeWatch{setting: options.FailedVolumesTolerated, exceeded: make(chan struct{})}
}

// note is disk.Options.OnVolume.
func (w *volumeWatch) note(datanode.VolumeState) { w.count() }

// watch counts those of an open store from now on.
func (w *volumeWatch) watch(store *disk.Store) {
	w.store.Store(store)
	w.count()
}

func (w *volumeWatch) count() {
	store := w.store.Load()
	if store == nil {
		return
	}
	if out, all := store.OutOfService(); len(out) > disk.TolerableFailures(w.setting, all) {
		w.once.Do(func() { close(w.exceeded) })
	}
}

// err names the volumes that are out of service.
func (w *volumeWatch) err() error {
	out, all := w.store.Load().OutOfService()
	texts := make([]string, 0, len(out))
	for _, v := range out {
		texts = append(texts, fmt.Sprintf("%s is %s (%s)", v.Directory, v.Health, v.Error))
	}
	e := fault.New(fault.Disk, "datanode", "%d of %d disks are out of service, %d may be: %s",
		len(out), all, disk.TolerableFailures(w.setting, all), strings.Join(texts, "; "))
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
