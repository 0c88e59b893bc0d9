// Package actor breaks every rule of its layer.
package actor

import (
	"math/rand"
	"os"
	"time"

	"github.com/whispering-woods/ww/disk"
)

type State struct{ files, open int }

func (s *State) Open() int { return s.open }

func Step() {
	go disk.Write()
	_ = time.Now()
	_ = rand.Int()
	_ = os.Getpid()
}
