package actor

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/limits"
)

// Config holds the state machine's settings. A zero field means its default.
type Config struct {
	DefaultReplication uint32 // used by a Create that asks for none. Default 3.
	DefaultChunkSize   int64  // in bytes. Default chunk.SizeDefault.
	// WriteCopiesMin is the number of replicas below which nothing is acknowledged to a writer; a file's replication
	// if that is less. Default 2.
	WriteCopiesMin int
	LeaseSoftLimit time.Duration // a lease not renewed for so long may be taken over; default 60 s
	LeaseHardLimit time.Duration // a lease not renewed for so long is ended. Default 5 min.
	StaleAfter     time.Duration // a silent node is not placed on and read last. Default 3 s.
	DeadAfter      time.Duration // a silent node's replicas no longer count. Default 8 s.
	RepairGrace    time.Duration // passes between a node's death and the first copy. Default 30 s.
	// DeleteGrace passes between the first sight of an unknown or stale replica
	// (or its node's registration) and the order to delete it. Default 5 min.
	DeleteGrace time.Duration
	TrashExpiry time.Duration // how long what is removed stays in the trash. 0, the default: there is no trash.
	// CopyTimeout is how long a repair copy may take before another is ordered. Default 5 min.
	CopyTimeout time.Duration
	// RecoverTimeout is how long a chunk recovery may take before another primary is asked. Default 15 s.
	RecoverTimeout time.Duration
	// RecoverWait is how long, after this State became active, a recovery waits for reports of pipeline members, and
	// writers for datanodes that the log names and that have not registered yet. Default 20 s.
	RecoverWait time.Duration
	// ResendAfter is how long a delete order waits for its confirmation before it is sent again. Default 30 s.
	ResendAfter time.Duration
	// Repair bounds the repair copies; it can be changed later. Defaults: 64 streams, 4 to one node, any bandwidth.
	Repair RepairLimits
	// SafeModeShare of the sealed chunks, in thousandths, must have a reported
	// replica before safe mode ends. Default 999.
	SafeModeShare int
	// Placement names the placement policy (placement.Names). Empty: weighted while
	// all racks are equal, rack-spread as soon as racks differ.
	Placement    string
	ReadOrder    string        // names whom a reader asks first (placement.ReadOrders). Default least-loaded.
	TickInterval time.Duration // how often the shell sends a Tick. Default 500 ms.
	Version      string        // the program's version, for ClusterStatus
}

// RepairLimits bound the repair copies.
type RepairLimits = replicas.RepairLimits

// WithDefaults returns c with every zero field set to its default.
func (c Config) WithDefaults() Config {
	c.DefaultReplication = cmp.Or(c.DefaultReplication, 3)
	c.DefaultChunkSize = cmp.Or(c.DefaultChunkSize, chunk.SizeDefault)
	c.WriteCopiesMin = cmp.Or(c.WriteCopiesMin, 2)
	c.LeaseSoftLimit = cmp.Or(c.LeaseSoftLimit, time.Minute)
	c.LeaseHardLimit = cmp.Or(c.LeaseHardLimit, 5*time.Minute)
	c.StaleAfter = cmp.Or(c.StaleAfter, limits.StaleAfterDefault)
	c.DeadAfter = cmp.Or(c.DeadAfter, 8*time.Second)
	c.RepairGrace = cmp.Or(c.RepairGrace, 30*time.Second)
	c.DeleteGrace = cmp.Or(c.DeleteGrace, 5*time.Minute)
	c.CopyTimeout = cmp.Or(c.CopyTimeout, 5*time.Minute)
	c.RecoverTimeout = cmp.Or(c.RecoverTimeout, 15*time.Second)
	c.RecoverWait = cmp.Or(c.RecoverWait, 20*time.Second)
	c.ResendAfter = cmp.Or(c.ResendAfter, 30*time.Second)
	c.TickInterval = cmp.Or(c.TickInterval, 500*time.Millisecond)
	c.Repair.NodeStreams = cmp.Or(c.Repair.NodeStreams, 4)
	c.Repair.Streams = cmp.Or(c.Repair.Streams, 64)
	c.SafeModeShare = cmp.Or(c.SafeModeShare, 999)
	return c
}

// Validate reports the first setting that makes no sense; defaults must be set.
func (c Config) Validate() error {
	switch {
	case limits.CheckReplication(c.DefaultReplication) != "":
		return fmt.Errorf("default %s", limits.CheckReplication(c.DefaultReplication))
	case limits.CheckChunkSize(c.DefaultChunkSize) != "":
		return fmt.Errorf("default %s", limits.CheckChunkSize(c.DefaultChunkSize))
	case c.WriteCopiesMin < 1 || c.WriteCopiesMin > limits.ReplicationMax:
		return fmt.Errorf("at least %d copies of what is written: want 1 to %d", c.WriteCopiesMin,
			limits.ReplicationMax)
	case c.LeaseSoftLimit <= 0 || c.LeaseHardLimit < c.LeaseSoftLimit:
		return fmt.Errorf("lease limits: soft %v must be above 0 and at most hard %v", c.LeaseSoftLimit,
			c.LeaseHardLimit)
	case c.StaleAfter <= 0 || c.DeadAfter < c.StaleAfter:
		return fmt.Errorf("node limits: stale %v must be above 0 and at most dead %v", c.StaleAfter, c.DeadAfter)
	case c.RepairGrace < 0 || c.DeleteGrace < 0 || c.TrashExpiry < 0:
		return fmt.Errorf("grace periods must not be negative")
	case c.CopyTimeout <= 0 || c.RecoverTimeout <= 0 || c.ResendAfter <= 0 || c.TickInterval <= 0 || c.RecoverWait < 0:
		return fmt.Errorf("timeouts must be above 0")
	case c.Repair.Check() != "":
		return errors.New(c.Repair.Check())
	case c.SafeModeShare < 1 || c.SafeModeShare > 1000:
		return fmt.Errorf("safe mode share %d is not in 1..1000 thousandths", c.SafeModeShare)
	case placement.New(c.Placement) == nil:
		return fmt.Errorf("placement policy %q is not known; there are %s", c.Placement,
			strings.Join(placement.Names(), ", "))
	case placement.NewReadOrder(c.ReadOrder) == nil:
		return fmt.Errorf("read order %q is not known; there are %s", c.ReadOrder,
			strings.Join(placement.ReadOrders(), ", "))
	}
	return nil
}

// replicas are the settings of that room.
func (c Config) replicas() replicas.Config {
	return replicas.Config{StaleAfter: c.StaleAfter, DeadAfter: c.DeadAfter, RepairGrace: c.RepairGrace,
		DeleteGrace: c.DeleteGrace, RecoverWait: c.RecoverWait, CopyTimeout: c.CopyTimeout, ResendAfter: c.ResendAfter,
		WriteCopiesMin: c.WriteCopiesMin, Repair: c.Repair, SafeModeShare: c.SafeModeShare,
		Placement: placement.New(c.Placement), ReadOrder: placement.NewReadOrder(c.ReadOrder)}
}
