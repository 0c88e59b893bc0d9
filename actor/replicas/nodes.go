package replicas

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Liveness of a node: a higher number is a better node.
type Liveness uint8

const (
	// NodeDead is silent for DeadAfter, or without any volume in service; its replicas do not count.
	NodeDead Liveness = iota
	// NodeStale has a broken stream, or is silent for StaleAfter; its replicas
	// count, are read last, and nothing new is placed on it.
	NodeStale
	// NodeLive is heard of.
	NodeLive
)

const rackDefault = "/default"

// identity of a node is durable.
type identity struct {
	index   datanode.Index
	id      string
	address string
	name    string // for people; "" if it has none
}

type node struct {
	identity

	session   uint64
	connected bool
	at        string // address that it registered from last
	liveness  Liveness
	heard     time.Duration // last sign of life
	since     time.Duration // of the registration
	died      time.Duration // since when it is dead
	lapses    int           // how often it was silent until it was dead, without lapsesForgotten between two of them
	version   string
	admin     string // admin address
	rack      string
	load      datanode.Load
	free      int64 // bytes on healthy volumes
	capacity  int64
	largest   int64 // free bytes of the healthy volume with most
	replicas  uint64
	placed    int64                  // replicas placed since the last heartbeat
	diskless  bool                   // it says that none of its volumes is in service
	doubtful  bool                   // all its volumes in service are suspect: they have errors, or hang
	volumes   []datanode.VolumeState // as it said last; replaced, never changed
	// awaited: it was away when this namenode became active, and has not registered since.
	awaited bool
	// complete: a full report was received since registration, and since this namenode is active.
	complete bool

	// registered are the times of the last registrations, oldest first.
	registered []time.Duration
	duty       datanode.Duty // that it has now
}

func (n *node) live() bool { return n.liveness == NodeLive }
func (n *node) dead() bool { return n.liveness == NodeDead }

// reachable reports whether orders reach it now.
func (n *node) reachable() bool { return n.connected && n.live() }

// attached reports whether it has a stream, talks whether it said something on it after a time.
func (n *node) attached() bool                 { return n.connected }
func (n *node) talks(after time.Duration) bool { return n.connected && n.heard > after }

// reported reports whether a full report of it was received.
func (n *node) reported() bool { return n.complete }

// trusted reports whether what it has reported is all that it has.
func (n *node) trusted() bool { return n.live() && n.complete }

func (n *node) describe() string {
	if n.address == "" {
		return n.id
	}
	return n.id + " (" + n.address + ")"
}

func (n *node) describeRoom() string { return n.describe() + " " + n.room() }

func (n *node) room() string {
	return fmt.Sprintf("has %d bytes on its emptiest disk", max(n.largest, 0))
}

func (n *node) named() string      { return n.name }
func (n *node) rename(name string) { n.name = name }

// called is its name for people.
func (n *node) called() string { return cmp.Or(n.name, n.address, n.id) }

// condition says why nothing new is placed on it, its room apart; "" if it is live and serves.
func (n *node) condition(now time.Duration) string {
	switch {
	case n.dead() && n.diskless && n.connected:
		return "without a disk that works"
	case n.dead():
		return "dead for " + age(now-n.died)
	case !n.live():
		return "silent for " + age(now-n.heard)
	case n.leaving():
		return "being decommissioned"
	case n.excused():
		return "in maintenance"
	}
	return ""
}

// noteRegistration remembers the last flappingRegistrations of them.
func (n *node) noteRegistration(now time.Duration) {
	if len(n.registered) == flappingRegistrations {
		n.registered = slices.Delete(n.registered, 0, 1)
	}
	n.registered = append(n.registered, now)
}

// registrations counts those within flappingWindow; it stops at flappingRegistrations.
func (n *node) registrations(now time.Duration) (recent int) {
	for _, at := range n.registered {
		recent += int(count(now-at < flappingWindow))
	}
	return recent
}

// state of the node for people.
func (n *node) state(now time.Duration, slow bool) datanode.NodeState {
	switch {
	case n.dead():
		return datanode.NodeDead
	case !n.live():
		return datanode.NodeStale
	case n.registrations(now) >= flappingRegistrations:
		return datanode.NodeFlapping
	case slow:
		return datanode.NodeSlow
	}
	return datanode.NodeLive
}

// busy is the node's load as placement and read order see it.
func (n *node) busy() int64 {
	return int64(n.load.ActiveWrites) + int64(n.load.ActiveReads) + int64(n.load.QueuedDiskOps) + n.placed
}

// serves reports whether no operator wants it out of service. If one does it is leaving: its replicas do not count;
// or it is excused: its replicas count while it is away.
func (n *node) serves() bool  { return n.duty == datanode.DutyServe }
func (n *node) leaving() bool { return n.duty == datanode.DutyDecommission }
func (n *node) excused() bool { return n.duty == datanode.DutyMaintenance }

// forgotten reports whether an operator wants to hear no more of it. An active namenode remembers it when it registers.
func (n *node) forgotten() bool { return n.duty == datanode.DutyForgotten }

// steady reports whether its replicas are there, and stay.
func (n *node) steady() bool { return !n.dead() && n.serves() }

// confirms reports whether its replicas may stand for others that are deleted.
func (n *node) confirms() bool { return n.trusted() && !n.leaving() }

// takes reports whether a replica of a size may be placed on it.
func (n *node) takes(size int64) bool { return n.live() && n.serves() && n.largest >= size }

// suspect reports whether its disks are such that a replica is rather placed elsewhere.
func (n *node) suspect() bool { return n.doubtful }

// candidate is the node as policies see it; near is the machine that asks.
func (n *node) candidate(near string) placement.Candidate {
	return placement.Candidate{Index: n.index, Rack: n.rack, FreeBytes: n.free, CapacityBytes: n.capacity,
		Load: n.busy(), PressurePermille: n.load.System.PressurePermille(), Local: n.stands(near)}
}

// stands reports whether the node is on a machine, as it is named in addresses.
func (n *node) stands(machine string) bool {
	port, ok := strings.CutPrefix(n.address, machine)
	return ok && machine != "" && strings.HasPrefix(port, ":")
}

// bytesMax is what its healthy volumes hold in all.
func (n *node) bytesMax() int64 { return n.capacity }

func (n *node) sharesRack(with *node) bool { return n.rack == with.rack }

// fuller reports whether it has the lower free share; the higher index among equals.
func (n *node) fuller(than *node) bool {
	a, b := float64(n.free)/float64(max(n.capacity, 1)), float64(than.free)/float64(max(than.capacity, 1))
	if a != b {
		return a < b
	}
	return n.index > than.index
}

func (n *node) setVolumes(volumes []datanode.VolumeState) {
	n.free, n.capacity, n.largest, n.replicas = 0, 0, 0, 0
	n.volumes, n.diskless, n.doubtful = slices.Clone(volumes), len(volumes) > 0, len(volumes) > 0
	for i := range volumes {
		volume := &volumes[i]
		n.replicas += volume.Replicas
		if !volume.Healthy {
			continue
		}
		n.diskless = false
		if volume.Health == datanode.VolumeDraining { // nothing new goes there
			continue
		}
		n.doubtful = n.doubtful && volume.Health == datanode.VolumeSuspect
		n.free += max(volume.FreeBytes, 0)
		n.capacity += max(volume.CapacityBytes, 0)
		n.largest = max(n.largest, volume.FreeBytes)
	}
}

// Nodes is the table of all datanodes that ever registered.
type Nodes struct {
	room  *Replicas
	list  []*node // by index; [0] is nil
	known []*node // those that are not forgotten, by index; replaced, never changed but at its end
	index map[string]datanode.Index
}

// Find returns the index of a node; 0 if it is not known.
func (t *Nodes) Find(id string) datanode.Index { return t.index[id] }

// Known lists the nodes of these ids that are known, each once, in their order.
func (t *Nodes) Known(ids []string) (known []datanode.Index) {
	for _, id := range ids {
		if index := t.index[id]; index != 0 && !slices.Contains(known, index) {
			known = append(known, index)
		}
	}
	return known
}

// Next is the index that the next new node gets.
func (t *Nodes) Next() datanode.Index { return datanode.Index(len(t.list)) }

// Knows reports whether an index is that of a node.
func (t *Nodes) Knows(index datanode.Index) bool { return index != 0 && int(index) < len(t.list) }

// Address of a node.
func (t *Nodes) Address(index datanode.Index) string { return t.list[index].address }

// ID of a node.
func (t *Nodes) ID(index datanode.Index) string { return t.list[index].id }

// Put adds the node with the next index, or changes the address of one.
func (t *Nodes) Put(index datanode.Index, id, address string) {
	if t.Knows(index) {
		t.list[index].address = address
		return
	}
	added := &node{identity: identity{index: index, id: id, address: address}, rack: rackDefault}
	t.list, t.known = append(t.list, added), append(t.known, added)
	t.index[id] = index
	t.room.locations.addNode()
	t.room.misplaced.addNode()
	t.room.deletion.addNode()
	t.room.repair.addNode()
	t.room.Duties.addNode()
	t.room.Slowness.addNode()
	t.room.Balancer.addNode()
}

func (t *Nodes) at(index datanode.Index) *node { return t.list[index] }

// all lists the nodes that are not forgotten in the order of their indexes, withForgotten all that ever registered.
func (t *Nodes) all() []*node           { return t.known }
func (t *Nodes) withForgotten() []*node { return t.list[1:] }

// Registration is a datanode's first message on a stream. Its id and address are known already.
type Registration struct {
	Session                              uint64
	Address, Version, Rack, AdminAddress string
	Volumes                              []datanode.VolumeState
}

// Register begins a session, and asks for a full report.
func (t *Nodes) Register(index datanode.Index, registration *Registration) {
	peer, now := t.list[index], t.room.step.Mono
	peer.session, peer.connected, peer.awaited, peer.at = registration.Session, true, false, registration.Address
	peer.heard, peer.since = now, now
	peer.noteRegistration(now)
	peer.version, peer.admin = limits.Clip(registration.Version, limits.TextBytesMax),
		limits.Clip(registration.AdminAddress, limits.TextBytesMax)
	peer.rack = registration.Rack
	if peer.rack == "" {
		peer.rack = rackDefault
	}
	peer.setVolumes(registration.Volumes)
	peer.load, peer.placed = datanode.Load{}, 0
	t.room.Slowness.registered(index)
	t.setComplete(peer, false)
	t.heard(peer)
	t.room.deletion.resendAll(index)
	t.room.turns.want(index)
	t.room.step.Emit(step.Event{Kind: step.EventNodeRegistered, NodeID: peer.id, Text: peer.address})
}

// Occupied reports whether another process, at another address, is alive under a node's id, and where: two run on
// copies of one data directory. A process that moved, and whose old stream broke, or is silent, is not in its own way.
func (t *Nodes) Occupied(index datanode.Index, address string) (by string, yes bool) {
	n := t.list[index]
	return n.at, n.connected && n.at != address && t.room.step.Mono-n.heard < t.room.config.StaleAfter
}

// Session names a datanode's stream.
type Session struct {
	NodeID string
	Number uint64
}

// Heard notes a sign of life, and refuses what comes from an older stream.
func (t *Nodes) Heard(op string, s Session) (datanode.Index, *fault.Error) {
	n, err := t.session(op, s)
	if err != nil {
		return 0, err
	}
	t.heard(n)
	return n.index, nil
}

func (t *Nodes) session(op string, s Session) (*node, *fault.Error) {
	index := t.index[s.NodeID]
	if index == 0 || t.list[index].session != s.Number || s.Number == 0 {
		e := fault.New(fault.Closed, op, "this stream is not the node's latest registration")
		e.Node = limits.Clip(s.NodeID, 64)
		return nil, e
	}
	return t.list[index], nil
}

func (t *Nodes) heard(n *node) {
	n.heard = t.room.step.Mono
	switch {
	case n.diskless: // it has nothing, however often it says that it is there
		t.setLiveness(n, NodeDead)
	case n.connected:
		t.setLiveness(n, NodeLive)
	}
}

// Heartbeat notes a node's disks and load.
func (t *Nodes) Heartbeat(s Session, volumes []datanode.VolumeState, load datanode.Load) *fault.Error {
	n, err := t.session("heartbeat", s)
	if err != nil {
		return err
	}
	if len(volumes) > limits.VolumesPerNodeMax {
		return limits.TooMany("heartbeat", "volumes", len(volumes), limits.VolumesPerNodeMax)
	}
	n.setVolumes(volumes)
	n.load, n.placed = load, 0
	t.room.Slowness.note(n.index, load.Links, volumes)
	t.heard(n)
	return nil
}

// Disconnected notes that a node's stream broke.
func (t *Nodes) Disconnected(s Session) (datanode.Index, *fault.Error) {
	n, err := t.session("stream end", s)
	if err != nil {
		return 0, err
	}
	n.connected = false
	t.room.Reports.forget(n.index)
	if n.live() {
		t.setLiveness(n, NodeStale)
	}
	return n.index, nil
}

// setLiveness changes a node's liveness and has its chunks counted again.
func (t *Nodes) setLiveness(peer *node, to Liveness) {
	if peer.liveness == to {
		return
	}
	if peer.dead() || to == NodeDead {
		t.room.sweep.of(peer.index)
	}
	peer.liveness = to
	switch to {
	case NodeDead:
		peer.died = t.room.step.Mono
		t.room.Reports.forget(peer.index)
		t.room.step.Emit(step.Event{Kind: step.EventNodeDead, NodeID: peer.id, Text: peer.address})
	case NodeStale:
		t.room.step.Emit(step.Event{Kind: step.EventNodeStale, NodeID: peer.id, Text: peer.address})
	case NodeLive: // what it was not sent while it was silent is due
		t.room.deletion.wake(peer.index)
	}
}

// setDuty notes the duty that a node has now, and has its chunks counted again. The session of a forgotten node ends:
// if it is there after all, it registers anew.
func (t *Nodes) setDuty(n *node, duty datanode.Duty) {
	if n.duty == duty {
		return
	}
	n.duty = duty
	t.known = slices.DeleteFunc(slices.Clone(t.withForgotten()), (*node).forgotten)
	if n.forgotten() {
		n.session, n.connected = 0, false
		t.room.forgetNode(n.index)
	}
	t.room.sweep.of(n.index)
}

// OthersServe reports whether a live node other than one is in service.
func (t *Nodes) OthersServe(than datanode.Index) bool {
	return slices.ContainsFunc(t.all(), func(n *node) bool { return n.index != than && n.live() && n.serves() })
}

// setComplete notes whether a full report of the node was received.
func (t *Nodes) setComplete(n *node, complete bool) {
	n.complete = complete
	t.room.Reports.forget(n.index)
}

// checkAlive moves silent nodes towards death.
func (t *Nodes) checkAlive() {
	for _, peer := range t.withForgotten() {
		silent := t.room.step.Mono - peer.heard
		switch {
		case peer.dead():
		case silent >= t.room.config.DeadAfter:
			if t.deadFor(peer) >= lapsesForgotten {
				peer.lapses = 0
			}
			peer.lapses++
			t.setLiveness(peer, NodeDead)
		case peer.live() && silent >= t.room.config.StaleAfter:
			t.setLiveness(peer, NodeStale)
		}
	}
}

// activate makes every node prove anew that it lives and what it has.
func (t *Nodes) activate() {
	for _, n := range t.withForgotten() {
		t.setComplete(n, false)
		if n.connected {
			t.room.turns.want(n.index)
		} else {
			t.setLiveness(n, NodeDead)
			n.died, n.awaited = t.room.step.Mono, !n.forgotten()
		}
	}
}

// starting reports whether nodes still have time to register with a namenode that became active a moment ago.
func (t *Nodes) starting() bool {
	return t.room.step.Mono-t.room.step.ActiveSince < t.room.config.RecoverWait
}

// mayReturn reports whether a node that was away when this namenode became active may register any moment.
func (t *Nodes) mayReturn(n *node) bool { return n.awaited && t.starting() }

// Joining reports whether nodes other than these may still be on their way to a namenode that became active a moment
// ago: those that run register soon.
func (t *Nodes) Joining(except []string) bool {
	return t.room.step.Mono-t.room.step.ActiveSince < joinWait && slices.ContainsFunc(t.all(), func(n *node) bool {
		return n.awaited && !slices.Contains(except, n.id)
	})
}

// Awaited describes the nodes that were away when this namenode became active and may register any moment; "" if there
// are none.
func (t *Nodes) Awaited() string {
	var away []datanode.Index
	for _, n := range t.all() {
		if t.mayReturn(n) {
			away = append(away, n.index)
		}
	}
	return t.Describe(away)
}

// Away is how long a node that is not live was silent; a namenode that became
// active since leaves it time to register. False: it is live, or not known.
func (t *Nodes) Away(id string) (time.Duration, bool) {
	index := t.index[id]
	if index == 0 || t.list[index].live() {
		return 0, false
	}
	return t.room.step.Mono - max(t.list[index].heard, t.room.step.ActiveSince), true
}

// Silent reports whether a node is not live: it cannot be waited for.
func (t *Nodes) Silent(index datanode.Index) bool { return !t.list[index].live() }

// Liveness of a node that is known.
func (t *Nodes) Liveness(id string) Liveness { return t.list[t.index[id]].liveness }

// ReportsMissing reports whether a live node has not yet reported in full to this namenode.
func (t *Nodes) ReportsMissing() bool {
	for _, n := range t.all() {
		if n.live() && !n.complete {
			return true
		}
	}
	return false
}

// counts says how many nodes have a stream, and how many have reported in full.
func (t *Nodes) counts() (connected, complete int) {
	for _, n := range t.all() {
		connected += int(count(n.connected))
		complete += int(count(n.complete))
	}
	return connected, complete
}

// flapping reports whether a node died by silence more than once lately.
func (t *Nodes) flapping(n *node) bool { return n.lapses > 1 && t.deadFor(n) < lapsesForgotten }

// backLately reports whether a node came back a moment ago after it died by silence once.
func (t *Nodes) backLately(n *node) bool {
	return n.lapses == 1 && t.registeredFor(n) < t.room.config.DeleteGrace
}

func (t *Nodes) deadFor(n *node) time.Duration       { return t.room.step.Mono - n.died }
func (t *Nodes) registeredFor(n *node) time.Duration { return t.room.step.Mono - n.since }
func (t *Nodes) place(index datanode.Index)          { t.list[index].placed++ }

// Locations names nodes for a message or result.
func (t *Nodes) Locations(indexes []datanode.Index) []chunk.Location {
	if len(indexes) == 0 {
		return nil
	}
	places := make([]chunk.Location, len(indexes))
	for i, index := range indexes {
		places[i] = chunk.Location{NodeID: t.list[index].id, Address: t.list[index].address}
	}
	return places
}

// order puts nodes in order for a reader or a pipeline: live before stale before dead, slow ones behind the others,
// then as the read order says, chance among equals.
func (t *Nodes) order(indexes []datanode.Index) {
	for i := len(indexes) - 1; i > 0; i-- {
		j := t.room.step.Random.Below(i + 1)
		indexes[i], indexes[j] = indexes[j], indexes[i]
	}
	slices.SortStableFunc(indexes, func(a, b datanode.Index) int {
		first, second := t.list[a], t.list[b]
		if first.liveness != second.liveness {
			return int(second.liveness) - int(first.liveness)
		}
		if slow := t.room.Slowness.of(a); slow != t.room.Slowness.of(b) {
			return int(count(slow)) - int(count(!slow))
		}
		near := t.room.step.Near
		one, other := first.candidate(near), second.candidate(near)
		return t.room.config.ReadOrder(&one, &other)
	})
}

// sortByHeard puts nodes in the order in which they were heard of, the latest first, else by index; slow ones last.
func (t *Nodes) sortByHeard(indexes []datanode.Index) {
	slices.SortFunc(indexes, func(a, b datanode.Index) int {
		return cmp.Or(cmp.Compare(count(t.room.Slowness.of(a)), count(t.room.Slowness.of(b))),
			cmp.Compare(t.list[b].heard, t.list[a].heard), cmp.Compare(a, b))
	})
}

func (t *Nodes) racks(indexes []datanode.Index) []string {
	racks := make([]string, len(indexes))
	for i, index := range indexes {
		racks[i] = t.list[index].rack
	}
	return racks
}

// Describe names nodes, at most ten of them, for people; "" for none.
func (t *Nodes) Describe(indexes []datanode.Index) string {
	texts := make([]string, len(indexes))
	for i, index := range indexes {
		texts[i] = t.list[index].describe()
	}
	return joinSome(texts)
}

// joinSome lists texts, at most ten of them.
func joinSome(texts []string) string {
	if len(texts) > 10 {
		return strings.Join(texts[:10], ", ") + fmt.Sprintf(" and %d more", len(texts)-10)
	}
	return strings.Join(texts, ", ")
}

// All yields the id and address of every node that ever registered, in the order of their indexes.
func (t *Nodes) All(yield func(id, address string) bool) {
	for _, n := range t.withForgotten() {
		if !yield(n.id, n.address) {
			return
		}
	}
}

// NodeStatus is one datanode for people. The bytes are those of healthy volumes.
type NodeStatus struct {
	NodeID, Name, Address, Rack         string // Name is the address if it told none
	Live                                bool
	State                               datanode.NodeState
	SlowReason                          string // why it is slow beside its peers; "" if it is not
	SlowFor                             time.Duration
	Progress                            Progress // of what an operator wants of it
	Registrations                       int      // within the last ten minutes; it stops at flappingRegistrations
	CapacityBytes, FreeBytes, UsedBytes int64
	Replicas                            uint64
	ActiveWrites, ActiveReads           uint32
	System                              datanode.SystemLoad
	LastHeartbeatAge                    time.Duration
	Version, AdminAddress               string
	Volumes                             []datanode.VolumeState // not to be changed
}

// Status describes all nodes that are not forgotten.
func (t *Nodes) Status() []NodeStatus {
	all := make([]NodeStatus, 0, len(t.known))
	for _, n := range t.all() {
		all = append(all, t.StatusOf(n.index))
	}
	return all
}

// StatusOf describes one node.
func (t *Nodes) StatusOf(index datanode.Index) NodeStatus {
	n, now := t.list[index], t.room.step.Mono
	slow, slowFor := t.room.Slowness.reason(index)
	return NodeStatus{NodeID: n.id, Name: cmp.Or(n.name, n.address), Address: n.address, Rack: n.rack, Live: n.live(),
		State: n.state(now, slow != ""), SlowReason: slow, SlowFor: slowFor, Registrations: n.registrations(now),
		Progress:      t.room.Duties.progress(n),
		CapacityBytes: n.capacity, FreeBytes: n.free, UsedBytes: n.capacity - n.free, Replicas: n.replicas,
		ActiveWrites: n.load.ActiveWrites, ActiveReads: n.load.ActiveReads, System: n.load.System,
		LastHeartbeatAge: now - n.heard, Version: n.version, AdminAddress: n.admin, Volumes: n.volumes}
}
