package disk

import (
	"fmt"
	"time"

	"github.com/whispering-woods/ww/internal/lateness"
)

// siblings finds the volumes of a store that are far slower than the others: new replicas go to those. The namenode
// compares volumes of different datanodes.
type siblings struct {
	records map[*volume]*sibling
	began   time.Time // of the first round
	due     time.Time // the end of this one
}

type sibling struct {
	lateness.Record
	before lateness.IO // when the round began
}

// compare ends a round if it is time to. It has one caller at a time.
func (s *siblings) compare(volumes []*volume, now time.Time) {
	if s.began.IsZero() {
		s.began = now
	}
	if now.Before(s.due) {
		return
	}
	s.due = now.Add(lateness.RoundInterval)
	passed := now.Sub(s.began)
	serving := inService(volumes)
	records := make([]*lateness.Record, 0, len(serving))
	for _, v := range serving {
		known := s.records[v]
		if known == nil {
			known = &sibling{}
			s.records[v] = known
		}
		total := v.health.Lateness()
		if late, measured := total.Since(known.before).Mean(); measured {
			known.Score(passed, late)
		}
		known.before = total
		records = append(records, &known.Record)
	}
	lateness.Judge{Floor: lateness.DiskFloor, Peers: 1}.Decide(passed, len(serving)/2, records)
	for _, v := range serving {
		reason := ""
		if verdict, slow := s.records[v].Slow(passed); slow {
			reason = fmt.Sprintf("slow: an operation waits %v for it, and %v for its siblings",
				verdict.Late.Round(time.Millisecond), verdict.Peers.Round(time.Millisecond))
		}
		v.health.SetSlow(reason)
	}
}

// withoutSlow takes out the slow candidates, unless no other has room for the replica: but for those that have so much
// more room than the others that a store of disks and flash would fill its flash first. pages are those of the rest.
func withoutSlow(candidates []candidate) (rest []candidate, pages int64) {
	var room, capacity, all int64 // room and capacity: of those that are not slow
	for _, c := range candidates {
		all += c.pages
		if !c.slow {
			room, capacity = room+c.room, capacity+c.capacity.Load()
		}
	}
	most := share(room, capacity) + lateness.FreeMost
	rest = make([]candidate, 0, len(candidates))
	for _, c := range candidates {
		if !c.slow || share(c.room, c.capacity.Load()) > most {
			rest, pages = append(rest, c), pages+c.pages
		}
	}
	if pages == 0 || capacity == 0 { // the others have no room, or there are none
		return candidates, all
	}
	return rest, pages
}

// share is the part of a capacity that is free.
func share(room, capacity int64) float64 { return float64(room) / float64(max(capacity, 1)) }
