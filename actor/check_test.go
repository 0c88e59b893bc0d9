package actor

import (
	"fmt"
)

// check compares all that is derived with what it is derived from, and the numbers with their bounds. It costs time
// in proportion to the state; tests call it after every step.
func (s *State) check() error {
	if s.step.Txid == 0 {
		return nil
	}
	if err := s.files.Check(func(file uint64) bool { return s.leases.Of(file) != nil }); err != nil {
		return err
	}
	if err := s.checkLeases(); err != nil {
		return err
	}
	if err := s.replicas.Check(); err != nil {
		return err
	}
	return s.answers.Check()
}

// checkLeases compares the leases with the files.
func (s *State) checkLeases() error {
	hidden := 0
	for id, lease := range s.leases.Snapshot() {
		slot := s.tree.Find(id)
		if slot == 0 || s.tree.Inode(slot).Directory() {
			return fmt.Errorf("lease of inode %d", id)
		}
		if s.tree.Inode(slot).Hidden() {
			hidden++
			if lease.Path == "" {
				return fmt.Errorf("hidden file %d has no path", id)
			}
		} else if at, ok := s.tree.Entry(s.tree.Inode(slot).Parent(), lease.Leaf); !ok || at != slot {
			return fmt.Errorf("file %d is not at its leaf %q", id, lease.Leaf)
		}
	}
	if hidden != s.tree.Hidden() {
		return fmt.Errorf("%d hidden files, %d with a lease", s.tree.Hidden(), hidden)
	}
	return s.leases.Check()
}
