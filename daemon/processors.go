package daemon

import (
	"os"
	"runtime"
)

// spareProcessors is how many more of Go's processors than CPUs a process with
// event loops gets. See tuning.md#processors.
const spareProcessors = 4

// SpareProcessors makes Go run code on more threads at once than there are CPUs. For a process with a data server,
// and for its main to call, once: an event loop that waits in epoll keeps one of Go's processors until the
// runtime's monitor takes it away, up to 10 ms later; on a small machine the disk workers and the other loops wait
// for that. GOMAXPROCS in the environment has the last word.
func SpareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors)
	}
}
