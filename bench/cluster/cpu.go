package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond of /proc: fixed in Linux's interface (USER_HZ).
const ticksPerSecond = 100

// CPU is the CPU time, user and system, that the running process has used.
func (p *Process) CPU() (time.Duration, error) { return cpuTime(p.Pid()) }

// CPU is the CPU time of some processes together.
func CPU(processes []*Process) (total time.Duration, err error) {
	for _, process := range processes {
		used, err := process.CPU()
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	// The name may hold spaces and brackets; what follows the last one does not.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const user, system = 11, 12 // fields 14 and 15 of the line, 3 is the first here
	if len(fields) <= system {
		return 0, fmt.Errorf("read CPU time of process %d: %q", pid, text)
	}
	ticks := int64(0)
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
