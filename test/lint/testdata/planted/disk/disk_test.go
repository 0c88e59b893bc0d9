package disk

import (
	"testing"
	"time"
)

func FuzzNothing(f *testing.F) {
	time.Sleep(time.Second)
	<-time.After(time.Second)
}
