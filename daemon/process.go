package daemon

import (
	"os"
	"runtime/debug"

	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// processOptions are those of this process, whatever daemon it runs.
type processOptions struct {
	adminListen string // "": no admin address
	// Of the garbage collector; 0 leaves what it has.
	gcPercent   int
	memoryLimit config.Size
}

func newProcessOptions(p config.Process) processOptions {
	return processOptions{p.AdminListen, p.GCPercent, p.MemoryLimit}
}

// own sets this process up: the garbage collector, as far as the environment (GOGC, GOMEMLIMIT) does not, and the
// daemon's admin address. Call it before other parts are added: the address is closed after them. sharedAdmin is that
// of a mini cluster, whose parts have no options of their own.
func (d *Daemon) own(options processOptions, sharedAdmin string) error {
	if options.gcPercent > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(options.gcPercent)
	}
	if options.memoryLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(options.memoryLimit))
	}
	d.admin = sharedAdmin
	if options.adminListen == "" {
		return nil
	}
	server, err := admin.Start(admin.Options{Listen: options.adminListen, Ready: d.working, Logger: d.logger})
	if err != nil {
		return err
	}
	d.add("admin address", server.Close)
	d.admin, d.addresses["admin"] = server.Addr(), server.Addr()
	return nil
}

// works sets what working asks.
func (d *Daemon) works(check func() error) { d.check.Store(&check) }

// working returns why the daemon does not do its work now; nil when it does.
func (d *Daemon) working() error {
	select {
	case <-d.closing:
		return fault.New(fault.Closed, d.Name, "is being closed")
	case <-d.done:
		return d.Err()
	default:
	}
	if check := d.check.Load(); check != nil {
		return (*check)()
	}
	return fault.New(fault.NotActive, d.Name, "is starting")
}
