package leases

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/whispering-woods/ww/internal/datanode"
)

// ClientID is a UUID that one client process chose at start. The zero value means "no client".
type ClientID [16]byte

// Lease is what is durable about a file that is being written or recovered. A
// value is never changed once it is granted (snapshots share it).
type Lease struct {
	Client    ClientID // holds the lease; zero: the namenode recovers the file
	Holder    string   // for people
	Since     int64    // Unix ms
	Path      string   // where a hidden file will appear; otherwise ""
	Overwrite bool
	Leaf      string // the file's name
}

// Recovering reports whether the namenode itself has the lease.
func (l *Lease) Recovering() bool { return l.Client == ClientID{} }

// HolderName says for people who has the lease.
func (l *Lease) HolderName() string {
	switch {
	case l.Recovering():
		return "the namenode (" + l.Holder + ")"
	case l.Holder != "":
		return l.Holder
	}
	return fmt.Sprintf("client %x", l.Client[:])
}

// KnownPath is what is known of the file's path, for messages.
func (l *Lease) KnownPath() string {
	if l.Path != "" {
		return l.Path
	}
	return l.Leaf
}

// Leases are those of all files, by inode id. Times are since the shell started.
type Leases struct {
	leases       map[uint64]*Lease
	holders      map[ClientID]*holder
	recoveries   btree.Map[uint64, *Recovery]
	nextRecovery uint64 // the first file that DueRecoveries looks at
	// spare is a holder without files: a client that stores file after file needs one anew for each.
	spare *holder
}

// holder is a client with leases.
type holder struct {
	renewed time.Duration
	files   map[uint64]struct{}
}

// New makes an empty table.
func New() *Leases {
	return &Leases{leases: make(map[uint64]*Lease), holders: make(map[ClientID]*holder)}
}

// Of returns a file's lease; nil if it is closed.
func (l *Leases) Of(file uint64) *Lease { return l.leases[file] }

// Count is the number of files with a lease.
func (l *Leases) Count() int { return len(l.leases) }

// Snapshot copies the table.
func (l *Leases) Snapshot() map[uint64]*Lease { return maps.Clone(l.leases) }

// Grant gives a file's lease to the client that it names.
func (l *Leases) Grant(file uint64, lease *Lease, now time.Duration) {
	if old := l.leases[file]; old != nil && old.Client != lease.Client {
		l.End(file)
	}
	l.leases[file] = lease
	if lease.Recovering() {
		l.recoveries.Set(file, &Recovery{})
		return
	}
	h := l.holders[lease.Client]
	if h == nil {
		if h, l.spare = l.spare, nil; h == nil {
			h = &holder{files: make(map[uint64]struct{}, 1)}
		}
		h.renewed = now
		l.holders[lease.Client] = h
	}
	h.files[file] = struct{}{}
}

// Rename notes a file's new name.
func (l *Leases) Rename(file uint64, leaf string) {
	if old := l.leases[file]; old != nil {
		renamed := *old
		renamed.Leaf = leaf
		l.leases[file] = &renamed
	}
}

// End makes a file closed.
func (l *Leases) End(file uint64) {
	lease := l.leases[file]
	if lease == nil {
		return
	}
	delete(l.leases, file)
	if lease.Recovering() {
		l.recoveries.Delete(file)
		return
	}
	h := l.holders[lease.Client]
	delete(h.files, file)
	if len(h.files) == 0 {
		delete(l.holders, lease.Client)
		l.spare = h
	}
}

// Renew renews all leases of a client, if it has any.
func (l *Leases) Renew(client ClientID, now time.Duration) {
	if h := l.holders[client]; h != nil {
		h.renewed = now
	}
}

// RenewAll renews all leases.
func (l *Leases) RenewAll(now time.Duration) {
	for _, h := range l.holders {
		h.renewed = now
	}
}

// Idle is how long a client has not renewed its leases.
func (l *Leases) Idle(client ClientID, now time.Duration) time.Duration {
	if h := l.holders[client]; h != nil {
		return now - h.renewed
	}
	return now
}

// HeldBy lists the files that a client holds, by id; nil if it holds none.
func (l *Leases) HeldBy(client ClientID) []uint64 {
	h := l.holders[client]
	if h == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(h.files))
}

// Expired lists files whose holders have been idle for a time, at most so many, in the order of the holders' ids.
func (l *Leases) Expired(idle, now time.Duration, most int) (files []uint64) {
	var late []ClientID
	for client, h := range l.holders {
		if now-h.renewed >= idle {
			late = append(late, client)
		}
	}
	slices.SortFunc(late, func(a, b ClientID) int { return bytes.Compare(a[:], b[:]) })
	for _, client := range late {
		if files = append(files, l.HeldBy(client)...); len(files) >= most {
			return files[:most]
		}
	}
	return files
}

// Recovery returns that of a file; nil if the namenode does not have its lease.
func (l *Leases) Recovery(file uint64) *Recovery {
	r, _ := l.recoveries.Get(file)
	return r
}

// DueRecoveries lists files of which another attempt may start, by id, at most so many; those that were left out come
// first next time.
func (l *Leases) DueRecoveries(now time.Duration, most int) (files []uint64) {
	next := uint64(0)
	l.recoveries.Ascend(l.nextRecovery, func(file uint64, r *Recovery) bool {
		if len(files) == most {
			next = file
			return false
		}
		if r.Due(now) {
			files = append(files, file)
		}
		return true
	})
	l.nextRecovery = next
	return files
}

// PrimariesLost allows other attempts in place of those that lost nodes lead.
func (l *Leases) PrimariesLost(lost func(datanode.Index) bool, now time.Duration) {
	l.recoveries.Scan(func(_ uint64, r *Recovery) bool {
		if r.UnderWay() && lost(r.Attempt().Primary) {
			r.Expire(now)
		}
		return true
	})
}

// State of a file.
func (l *Leases) State(file uint64) State {
	lease, r := l.leases[file], l.Recovery(file)
	switch {
	case lease == nil:
		return leaseClosed
	case !lease.Recovering():
		return leaseHeld
	case r != nil && r.UnderWay():
		return leaseAgreeing
	}
	return leaseWaiting
}

// Check compares what is derived with what it is derived from; tests call it after every step.
func (l *Leases) Check() error {
	held := 0
	for client, h := range l.holders {
		if client == (ClientID{}) || len(h.files) == 0 {
			return fmt.Errorf("holder %x has %d files", client, len(h.files))
		}
		for file := range h.files {
			if lease := l.leases[file]; lease == nil || lease.Client != client {
				return fmt.Errorf("file %d is not held by %x", file, client)
			}
			held++
		}
	}
	for file := range l.leases {
		if listed := l.Recovery(file) != nil; listed == (l.State(file) == leaseHeld) {
			return fmt.Errorf("lease of file %d is %s, listed for recovery: %v", file, l.State(file), listed)
		}
	}
	if held+l.recoveries.Len() != len(l.leases) {
		return fmt.Errorf("%d leases, %d held, %d in recovery", len(l.leases), held, l.recoveries.Len())
	}
	return nil
}
