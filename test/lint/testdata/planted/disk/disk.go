package disk

import (
	"sync"

	"github.com/whispering-woods/ww/cmd/ww"
	"github.com/whispering-woods/ww/control/rpc"
)

var counter sync.Mutex
var cache = make(map[string]int)
var later string
var number = 5
var table = []int{1, 2, 3}

func init() {
	table[0] = number
	_ = rpc.Dial
	_ = ww.Main
}

func Write() {}
