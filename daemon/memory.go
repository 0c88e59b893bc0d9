package daemon

import (
	"cmp"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// datanodeBase is what a datanode holds besides its data server's buffers: the
// program, stacks, the disks' queues (docs/operations.md#memory).
const datanodeBase = 64 << 20

// memoryMost is the most memory of a daemon that holds base and at most held beside it, in bytes. Garbage gathers
// up to gcPercent of what lives, unless a limit has it collected before.
func (r processOptions) memoryMost(base, held int64) int64 {
	gcPercent := int64(cmp.Or(r.gcPercent, 100))
	most := base + held + held*gcPercent/100
	if r.memoryLimit > 0 {
		most = min(most, max(int64(r.memoryLimit), base+held))
	}
	return most
}

// warnMemory logs a warning when the settings allow more memory than there is.
func warnMemory(logger *slog.Logger, most, machine int64) {
	if machine > 0 && most > machine {
		logger.Warn(
			"the settings allow more memory than there is: lower write_budget or connections, or set memory_limit",
			"bytes_most", most, "bytes_here", machine)
		return
	}
	logger.Debug("memory", "bytes_most", most, "bytes_here", machine)
}

// machineMemory is the memory of this machine, or of the control group that the process is in, in bytes; 0: unknown.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	total := int64(info.Totalram) * int64(info.Unit)
	text, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return total
	}
	if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else it is "max"
		return min(total, limit)
	}
	return total
}
