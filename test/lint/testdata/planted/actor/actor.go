// Package actor breaks every rule of its layer.
package actor

import (
	"math/rand"
	"os"
	"time"

	"github.com/whispering-woods/ww/disk"
)

func Step() {
	go disk.Write()
	_ = time.Now()
	_ = rand.Int()
	_ = os.Getpid()
}
