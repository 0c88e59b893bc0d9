package daemon

import (
	"log/slog"

	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/internal/fault"
)

// openAdmin opens the daemon's admin address and returns it; "" if the daemon is to have none. shared is that of a
// mini cluster, whose parts open none of their own. Open it before other parts: it is closed after them.
func (d *Daemon) openAdmin(o admin.Options, shared string, logger *slog.Logger) (string, error) {
	if shared != "" || o.Listen == "" {
		return shared, nil
	}
	o.Ready, o.Logger = d.working, logger
	server, err := admin.Start(o)
	if err != nil {
		return "", err
	}
	d.add("admin address", server.Close)
	d.addresses["admin"] = server.Addr()
	return server.Addr(), nil
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
